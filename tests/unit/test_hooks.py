"""What operators get after each call: all that is configured, and nothing of it spoils the call."""

import os
import time
from types import SimpleNamespace

import pytest

from caxflow import hooks, page
from caxflow.config import Notify, Page, RunDBAddress
from caxflow.monitoring import delivery
from caxflow.planning.sync import Synced


@pytest.fixture
def settings(tmp_path, database, database_uri):
    site = SimpleNamespace(
        name="midway", host="midway-login1", roots={}, origin=True, push_to=(), pull_from=()
    )
    return SimpleNamespace(
        here=site,
        sites={"midway": site},
        rundb=RunDBAddress(database_uri, database.name),
        attempts=5,
        metrics=str(tmp_path / "caxflow.prom"),
        notify=Notify(webhook=True),
        page=Page(str(tmp_path / "page"), every=10),
        corrections=SimpleNamespace(apply=(), slow_control={}),
    )


@pytest.fixture
def written(monkeypatch):
    """Folders for which a page was to be written."""
    folders = []

    def write(found, settings, folder, *_, **__):
        list(found)
        folders.append(folder)
        folder.mkdir(exist_ok=True)
        (folder / "index.html").touch()

    monkeypatch.setattr(page, "write", write)
    return folders


def test_all_that_is_configured(tmp_path, settings, written):
    said = []
    hooks.inform(settings, tmp_path, Synced(), said.append)
    assert 'caxflow_rundb_up{site="midway"} 1' in (tmp_path / "caxflow.prom").read_text()
    assert len(written) == 1
    assert said == []


def test_nothing_that_is_not(tmp_path, settings, written):
    settings.metrics = settings.notify = settings.page = None
    hooks.inform(settings, tmp_path, Synced(), pytest.fail)
    assert list(tmp_path.iterdir()) == []
    assert written == []


def test_the_page_is_refreshed_only_now_and_then(tmp_path, settings, written):
    for _ in range(3):
        hooks.inform(settings, tmp_path, Synced(), pytest.fail)
    assert len(written) == 1
    old = time.time() - 11 * 60
    os.utime(tmp_path / "page" / "index.html", (old, old))
    hooks.inform(settings, tmp_path, Synced(), pytest.fail)
    assert len(written) == 2


def test_one_that_fails_is_said_and_the_others_are_done(tmp_path, settings, written, monkeypatch):
    monkeypatch.delenv(delivery.WEBHOOK, raising=False)
    (tmp_path / "file").touch()
    settings.metrics = str(tmp_path / "file" / "x.prom")
    said = []
    hooks.inform(settings, tmp_path, Synced(problems=["receipt x is damaged"]), said.append)
    assert ["metrics" in said[0], "webhook" in said[1]] == [True, True]
    assert len(said) == 2
    assert len(written) == 1


def test_without_the_database_there_is_no_page_and_the_metrics_say_so(tmp_path, settings, written):
    hooks.inform(settings, tmp_path, Synced(away="it does not answer", waiting=3), pytest.fail)
    text = (tmp_path / "caxflow.prom").read_text()
    assert 'caxflow_rundb_up{site="midway"} 0' in text
    assert 'caxflow_facts_pending{site="midway"} 3' in text
    assert written == []
