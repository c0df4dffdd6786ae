"""Notifications: what needs a human is told, once and grouped."""

import datetime
from types import SimpleNamespace

import pytest

from caxflow import receipts
from caxflow.config import Notify
from caxflow.errors import CaxflowError
from caxflow.monitoring import notify
from caxflow.targets import Run, Target
from caxflow.workdir import journal

NOW = datetime.datetime(2017, 3, 1, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def settings(**options):
    return SimpleNamespace(
        here=SimpleNamespace(name="midway"),
        attempts=2,
        notify=Notify(**{"every": 60, "remind": 24} | options),
    )


@pytest.fixture
def sent():
    return []


@pytest.fixture
def tell(tmp_path, sent):
    def tell(now=NOW, problems=(), away="", **options):
        def send(_, subject, text):
            sent.append((subject, text))
            return []

        notify.tell(settings(**options), tmp_path, problems=list(problems), away=away, now=now, send=send)

    return tell


def fail(work_dir, run, reason, times=2):
    for _ in range(times):
        journal.fail(work_dir, Target("midway", Run.parse(run), "raw.done"), reason.format(run=run))


def test_only_what_failed_too_often(tmp_path, tell, sent):
    fail(tmp_path, "160315_1432", "the disk is full", times=1)
    tell()
    assert sent == []
    fail(tmp_path, "160315_1432", "the disk is full", times=1)
    tell()
    subject, text = sent[0]
    assert subject == "caxflow at midway: 1 thing for a human"
    assert text == "• raw.done at midway failed 2 times: the disk is full (160315_1432)"


def test_what_is_still_being_built_is_no_alarm(tmp_path, tell, sent):
    target = Target("midway", Run.parse("160315_1432"), "raw.done")
    for _ in range(3):
        journal.fail(tmp_path, target, "it is still being built", refused="0" * 64, passing=True)
    tell()
    assert sent == []


def test_equal_reasons_make_one_line(tmp_path, tell, sent):
    for minute in range(12):
        fail(tmp_path, f"160315_14{minute:02d}", "{run}: the disk is full at /data/raw/{run}")
    tell()
    lines = sent[0][1].splitlines()
    assert len(lines) == 1
    assert "the disk is full at /data/raw/RUN" in lines[0]
    assert lines[0].endswith("160315_1407 and 4 more)")


def test_told_once_and_again_after_a_day(tmp_path, tell, sent):
    fail(tmp_path, "160315_1432", "the disk is full")
    for hours in (0, 2, 23):
        tell(NOW + hours * HOUR)
    assert len(sent) == 1
    tell(NOW + 25 * HOUR)
    assert len(sent) == 2


def test_at_most_one_message_an_hour_and_nothing_is_lost(tmp_path, tell, sent):
    fail(tmp_path, "160315_1432", "the disk is full")
    tell()
    fail(tmp_path, "160315_1433", "the link is down")
    tell(NOW + HOUR / 2)
    assert len(sent) == 1
    tell(NOW + HOUR)
    assert len(sent) == 2
    assert "the link is down" in sent[1][1]
    assert "disk" not in sent[1][1]


def test_what_came_back_is_told_anew(tmp_path, tell, sent):
    fail(tmp_path, "160315_1432", "the disk is full")
    tell()
    journal.succeed(tmp_path, Target("midway", Run("160315_1432"), "raw.done"))
    tell(NOW + 2 * HOUR)
    fail(tmp_path, "160315_1432", "the disk is full")
    tell(NOW + 4 * HOUR)
    assert len(sent) == 2


def test_a_short_absence_of_the_database_is_no_alarm(tell, sent):
    tell(away="it does not answer")
    tell(NOW + HOUR / 2, away="it does not answer")
    assert sent == []
    tell(NOW + HOUR, away="it does not answer")
    assert "the runs database is away since 2017-03-01 12:00 UTC" in sent[0][1]
    tell(NOW + 3 * HOUR)
    tell(NOW + 4 * HOUR, away="it does not answer")
    assert len(sent) == 1


def test_problems_of_the_plan_and_of_the_sync(tmp_path, tell, sent):
    receipts.write(tmp_path / ".caxflow" / "plan.json", {"problems": ["160315_1432: two entries"]})
    tell(problems=["receipt x is damaged"])
    assert "160315_1432: two entries" in sent[0][1]
    assert "receipt x is damaged" in sent[0][1]


def test_what_could_not_be_sent_is_tried_again(tmp_path):
    fail(tmp_path, "160315_1432", "the disk is full")
    tried = []

    def refuse(*message):
        tried.append(message)
        raise CaxflowError("the webhook answers 500")

    for _ in range(2):
        with pytest.raises(CaxflowError):
            notify.tell(settings(), tmp_path, problems=[], away="", now=NOW, send=refuse)
    assert len(tried) == 2
