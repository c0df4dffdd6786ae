"""Numbers as people say them."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caxflow import words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "size unknown"),
        (0, "0 B"),
        (999, "999 B"),
        (999.7, "1.0 kB"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (41_234_567_890, "41.2 GB"),
        (5.2e15, "5200.0 TB"),
    ],
)
def test_sizes(number, text):
    assert words.size(number) == text


@given(st.integers(0, 10**15))
def test_a_size_is_right_and_short(number):
    figure, unit = words.size(number).split()
    factor = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(figure) < 1000 or unit == "TB"
    assert abs(float(figure) * factor - number) <= 0.051 * factor


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "run", "0 runs"),
        (1, "run", "1 run"),
        (1200, "run", "1,200 runs"),
        (1, "raw copy", "1 raw copy"),
        (2, "raw copy", "2 raw copies"),
    ],
)
def test_counts(number, noun, text):
    assert words.count(number, noun) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (3599.6, "1 h"),
        (7500, "2 h 5 min"),
        (86_399, "23 h 59 min"),
        (300_000, "3 d 11 h"),
    ],
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text


def test_how_long_ago():
    now = datetime.datetime(2016, 3, 15)
    assert words.ago(now - datetime.timedelta(minutes=4, seconds=10), now) == "4 min ago"
    assert words.ago(now + datetime.timedelta(hours=2), now) == "in 2 h"


def test_names_in_a_sentence():
    assert [words.listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]
