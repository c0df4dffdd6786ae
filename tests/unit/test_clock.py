"""The time is the server's, and what is kept of the future counts as never."""

import datetime
import os
import time

import pytest

from caxflow import clock

NOW = datetime.datetime(2026, 3, 15, 12)
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def unheard():
    """What other tests have heard of a server is forgotten, and this is by others."""
    kept = clock._heard[:]
    clock._heard.clear()
    yield
    clock._heard[:] = kept


def test_without_a_server_it_is_the_hosts():
    assert abs(clock.now() - datetime.datetime.now(datetime.UTC).replace(tzinfo=None)) < HOUR
    assert clock.lead() == pytest.approx(0, abs=1)


def test_once_the_server_has_told_it_is_the_servers():
    clock.hear(NOW)
    assert NOW <= clock.now() < NOW + HOUR
    lead = clock.lead()
    clock._heard.clear()
    clock.follow(lead)
    assert NOW - HOUR < clock.now() < NOW + HOUR


@pytest.mark.parametrize(
    ("at", "known"),
    [(None, False), (NOW - DAY, True), (NOW, True), (NOW + HOUR / 2, True), (NOW + DAY, False)],
)
def test_what_lies_in_the_future_was_never(at, known):
    assert clock.past(at, NOW) == (at if known else None)


@pytest.mark.parametrize(
    ("until", "lasts"),
    [(None, False), (NOW - HOUR, False), (NOW + HOUR, True), (NOW + DAY, True), (NOW + 3 * DAY, False)],
)
def test_a_pause_that_is_longer_than_the_longest_is_none(until, lasts):
    assert clock.is_ahead(until, NOW, DAY) is lasts


@pytest.mark.parametrize(("ahead", "known"), [(-100, True), (100, False), (1e9, False)])
def test_the_age_of_a_file_is_by_the_clock_of_its_file_system(tmp_path, ahead, known):
    file = tmp_path / "file"
    file.touch()
    at = time.time() + ahead
    os.utime(file, (at, at))
    clock.hear(NOW)
    assert (clock.age(file) is not None) is known
    assert clock.age(tmp_path / "none") is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2016-11-02T15:20:00", datetime.datetime(2016, 11, 2, 15, 20)),
        ("2016-11-02T15:20:00+02:00", datetime.datetime(2016, 11, 2, 13, 20)),
        ("2036-01-01T00:00:00Z", datetime.datetime(2036, 1, 1)),
        ("9999-12-31T23:59:59+00:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("lately", None),
        ("", None),
        (None, None),
        (5, None),
        ([], None),
    ],
)
def test_a_time_that_no_clock_has_is_none(text, at):
    assert clock.read(text) == at
