"""What failed here is not tried again at once, though no document speaks of it."""

import datetime

import pytest

from caxflow.planning import decisions
from caxflow.planning.pauses import Pauses, next_attempt
from caxflow.targets import Target
from caxflow.workdir import journal
from operators import NOW, RUN, configured, document

# After the failure, which the journal dates itself.
SOON, LATE = datetime.timedelta(minutes=1), datetime.timedelta(days=2)
EVERYTHING = ["midway/checksum", "midway/processed.root", "midway/processed.checksum", "tegner/checksum"]


@pytest.fixture
def settings(tmp_path):
    return configured(tmp_path, kinds=["raw", "processed"], attempts=3)


@pytest.fixture
def decide(tmp_path, settings):
    """Decide on a run that is at lngs only, with what failed in the work directory; some time from now."""

    def decide(later):
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + later
        decision = decisions.decide(document(tmp_path), settings, lambda _: None, NOW)
        Pauses(tmp_path / "work", settings, now)(decision)
        return decision

    return decide


def fail(tmp_path, site, stage, times=1, **facts):
    for _ in range(times):
        journal.fail(tmp_path / "work", Target(site, RUN, stage), "it is away -> wait", **facts)


def left(decision):
    return {text.replace(f"{RUN}.", "") for text in decision.targets}


@pytest.mark.parametrize(
    ("failed", "kept"),
    [
        ("lngs/raw.done", set()),
        ("midway/raw.done", set()),
        ("midway/checksum", {"tegner/checksum"}),
        ("midway/settings.json", {"midway/checksum", "tegner/checksum"}),
        ("midway/processed.checksum", set(EVERYTHING) - {"midway/processed.checksum"}),
        ("tegner/raw.done", set(EVERYTHING) - {"tegner/checksum"}),
    ],
)
def test_whatever_builds_upon_it_waits_and_the_rest_does_not(tmp_path, decide, failed, kept):
    assert set(EVERYTHING) <= left(decide(SOON))
    site, _, stage = failed.partition("/")
    fail(tmp_path, site, stage)
    decision = decide(SOON)
    assert left(decision) & set(EVERYTHING) == kept
    assert decision.passing
    assert decision.waits[0].startswith(f"{site}/{RUN}.{stage} failed 1 time, and is tried again at ")
    # When its time has come, nothing is held back.
    assert set(EVERYTHING) <= left(decide(LATE))


def test_after_the_last_attempt_it_waits_for_a_human(tmp_path, decide):
    fail(tmp_path, "midway", "raw.done", times=3)
    decision = decide(LATE)
    assert decision.targets == []
    assert decision.waits == [f"midway/{RUN}.raw.done failed 3 times, the last time: it is away -> wait"]
    journal.succeed(tmp_path / "work", Target("midway", RUN, "raw.done"))
    assert set(EVERYTHING) <= left(decide(LATE))


def test_what_the_document_knows_is_its_matter(tmp_path, decide):
    entry = {"kind": "raw", "host": "midway-login1", "version": None, "location": "/raw"}
    fail(tmp_path, "midway", "raw.done", entry=entry)
    assert set(EVERYTHING) <= left(decide(SOON))


def test_a_damaged_record_holds_nothing_up(tmp_path, decide):
    fail(tmp_path, "midway", "raw.done")
    (record,) = (tmp_path / "work/.caxflow/failures").iterdir()
    record.write_text("{")
    assert set(EVERYTHING) <= left(decide(SOON))


@pytest.mark.parametrize(("attempts", "minutes"), [(1, 10), (2, 20), (4, 80), (20, 24 * 60)])
def test_pauses_double_up_to_a_day(tmp_path, attempts, minutes):
    settings = configured(tmp_path, attempts=99, pause=10)
    failure = {"at": "2016-03-16T12:00:00+00:00", "attempts": attempts}
    assert next_attempt(failure, settings, NOW) == NOW + datetime.timedelta(minutes=minutes)


@pytest.mark.parametrize("failure", [{}, {"at": "yesterday", "attempts": 1}, {"at": "2016-03-16T12:00:00"}])
def test_a_failure_without_a_time_waits_for_a_human(tmp_path, failure):
    assert next_attempt(failure, configured(tmp_path), NOW) is None
