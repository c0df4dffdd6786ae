"""Formats: what a newer caxflow made is refused, what an older one made is upgraded, step by step."""

import json

import pytest

from caxflow import versions
from caxflow.config import RunDBAddress
from caxflow.errors import CaxflowError
from caxflow.rundb import RunsDB


@pytest.fixture
def rundb(database, database_uri):
    with RunsDB(RunDBAddress(database_uri, database.name)) as connection:
        yield connection


def test_new_work_dir_gets_the_present_format(tmp_path):
    assert versions.check_work_dir(tmp_path) == 0
    assert versions.upgrade_work_dir(tmp_path)
    assert json.loads((tmp_path / versions.FILE).read_text())["format"] == len(versions.WORK_DIR)
    assert not versions.upgrade_work_dir(tmp_path)


def test_newer_work_dir_is_refused_and_left_alone(tmp_path):
    path = tmp_path / versions.FILE
    path.parent.mkdir()
    path.write_text('{"format": 99, "caxflow": "9.1.0"}')
    with pytest.raises(CaxflowError, match=r"format 99, made by caxflow 9\.1\.0; .* -> install that version"):
        versions.upgrade_work_dir(tmp_path)
    assert "9.1.0" in path.read_text()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": null}'])
def test_damaged_record_is_one_line(tmp_path, text):
    path = tmp_path / versions.FILE
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(CaxflowError, match="cannot be read"):
        versions.check_work_dir(tmp_path)


def test_upgrade_that_was_cut_goes_on_where_it_was(tmp_path, monkeypatch):
    done = []

    def cut(work_dir):
        done.append(2)
        if len(done) < 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(versions, "WORK_DIR", {0: lambda work_dir: done.append(1), 1: cut})
    with pytest.raises(KeyboardInterrupt):
        versions.upgrade_work_dir(tmp_path)
    assert versions.upgrade_work_dir(tmp_path)
    assert done == [1, 2, 2]
    assert versions.check_work_dir(tmp_path) == 2


def test_caxs_database_gets_its_indexes(rundb):
    rundb.runs.insert_one({"name": "160315_1432", "detector": "tpc"})
    assert versions.check_database(rundb) == 0
    assert versions.upgrade_database(rundb)
    assert "caxflow_run" in rundb.runs.index_information()
    assert versions.check_database(rundb) == len(versions.DATABASE)
    assert not versions.upgrade_database(rundb)


def test_newer_database_is_refused(rundb):
    rundb.record_format(99, "9.1.0")
    with pytest.raises(CaxflowError, match=r"the runs database has format 99, made by caxflow 9\.1\.0"):
        versions.upgrade_database(rundb)
    # An older one that comes later does not take it back.
    rundb.record_format(1, "0.1.0")
    assert rundb.format() == (99, "9.1.0")


def test_dry_changes_nothing(database, database_uri):
    with RunsDB(RunDBAddress(database_uri, database.name), dry=True) as dry:
        assert not versions.upgrade_database(dry)
    assert database.list_collection_names() == []
