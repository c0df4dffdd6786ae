"""Receipts are absent or whole, and a damaged one proves nothing."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caxflow import __version__, receipts
from caxflow.errors import CaxflowError
from caxflow.targets import Run, Target

TARGET = Target("midway", Run("160315_1432", "muon_veto"), "raw.done")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_statement_says_what_who_when_and_by_which_version():
    stated = receipts.statement(TARGET, bytes=12)
    assert (stated["site"], stated["run"], stated["stage"]) == ("midway", "160315_1432_MV", "raw.done")
    assert stated["by"]["pid"] == os.getpid()
    assert set(stated["by"]) == {"host", "user", "pid", "started", "machine"}
    assert stated["caxflow"] == __version__
    assert stated["bytes"] == 12
    assert stated["at"].endswith("+00:00")


@given(facts=st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_written_is_read(tmp_path_factory, facts):
    path = tmp_path_factory.getbasetemp() / "receipts" / "one.json"
    receipts.write(path, facts)
    assert receipts.read(path) == facts
    assert path.read_bytes().isascii()


def test_it_can_be_read_by_all_and_leaves_nothing_beside_it(tmp_path):
    receipts.write(tmp_path / "new/folder/a.done", "text as it is\n")
    assert (tmp_path / "new/folder/a.done").read_text() == "text as it is\n"
    assert stat.S_IMODE((tmp_path / "new/folder/a.done").stat().st_mode) == 0o644
    assert names(tmp_path / "new/folder") == ["a.done"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_receipt_and_no_rest(tmp_path, monkeypatch, step):
    path = tmp_path / "a.done"
    receipts.write(path, {"old": True})

    def full(*_args):
        raise OSError(28, "No space left on device")

    # pathlib's replace is os.replace.
    monkeypatch.setattr(os, step, full)
    with pytest.raises(CaxflowError, match="No space left on device") as caught:
        receipts.write(path, {"new": True})
    monkeypatch.undo()
    assert str(path) in str(caught.value)
    assert receipts.read(path) == {"old": True}
    assert names(tmp_path) == ["a.done"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CaxflowError) as caught:
        receipts.write(tmp_path / "file" / "a.done", {})
    assert "a.done" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", '{"run": ', '["a", "list"]', "null", "\udcff"])
def test_a_damaged_receipt_is_refused_by_name(tmp_path, text):
    path = tmp_path / "a.done"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CaxflowError, match=r"a\.done is damaged.*remove it"):
        receipts.read(path)


def test_a_missing_receipt_is_named(tmp_path):
    with pytest.raises(CaxflowError, match=r"a\.done cannot be read: No such file"):
        receipts.read(tmp_path / "a.done")


def test_an_interrupted_write_shows_nothing(tmp_path, monkeypatch):
    def interrupted(_handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        receipts.write(tmp_path / "a.done", {})
    assert names(tmp_path) == []
