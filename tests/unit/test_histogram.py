"""Figures: every value is counted once, axes hold all of them, whatever they are."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from caxflow.monitoring import histogram


def figure(values, **keys):
    return ET.fromstring(histogram.draw(values, title="S1 <area>", label="[pe]", **keys))


def heights(found):
    """Height of each step in pixels, and that of the axis."""
    (path,) = (each for each in found.iter("path"))
    return [float(y) for y in re.findall(r"V([\d.]+)H", path.get("d"))]


def test_counts_are_as_high_as_the_axis_says():
    found = figure(np.array([1.0] * 30 + [9.0] * 10), of="pe")
    marks = {
        text.text: float(text.get("y")) - 4 for text in found.iter("text") if text.get("class") == "count"
    }
    highest = sorted(heights(found))[:2]
    assert highest[0] == pytest.approx(marks["30"], abs=0.1)
    assert highest[1] == pytest.approx(marks["10"], abs=0.1)
    assert found.find("figcaption").text == "40 events, median 1 pe"


def test_what_cannot_be_shown_is_told():
    found = figure(np.array([10.0, 100.0, 0.0, -1.0, np.nan]), log=True)
    assert found.find("figcaption").text == "2 events, median 55; 3 without"
    assert "no events" in figure(np.array([np.nan])).find("p").text


@given(
    arrays.arrays(np.float64, st.integers(1, 50), elements=st.floats(1e-6, 1e9)),
    st.booleans(),
)
def test_any_values_are_drawn_inside_the_figure(values, log):
    found = figure(values, log=log)
    (path,) = found.iter("path")
    assert "nan" not in path.get("d")
    steps = heights(found)
    assert min(steps) >= 13.9
    assert max(steps) <= histogram.HEIGHT
    ticks = [float(text.get("x")) for text in found.iter("text") if text.get("class") == "tick"]
    assert len(ticks) >= 2
    assert min(ticks) >= 51
    assert max(ticks) <= histogram.WIDTH


def plane(across, up, **keys):
    labels = ("S1 [pe]", "S2 [pe]")
    return ET.fromstring(histogram.draw_plane(across, up, title="S2 <S1>", labels=labels, **keys))


def cells(found):
    """Left and upper edge of each cell in pixels, with its shade."""
    return {
        (float(x), float(y)): float(path.get("fill-opacity"))
        for path in found.iter("path")
        for x, y in re.findall(r"M([\d.]+) ([\d.]+)H", path.get("d"))
    }


def test_a_plane_shows_each_pair_where_it_belongs_and_more_events_darker():
    across, up = np.array([10.0] * 9 + [900.0, np.nan]), np.array([2000.0] * 9 + [90_000.0, 5.0])
    found = plane(across, up)
    assert found.find("figcaption").text == "10 events, at most 9 a cell"
    (low, many), (high, one) = sorted(cells(found).items())
    assert low[0] < high[0]
    assert low[1] > high[1]
    assert many == 1
    assert 0 < one < 0.5


def test_a_plane_without_pairs_says_so():
    assert "no events" in plane(np.array([np.nan, 1.0]), np.array([1.0, 0.0])).find("p").text


_PAIRS = arrays.arrays(np.float64, st.tuples(st.integers(1, 50), st.just(2)), elements=st.floats(1e-6, 1e9))


@given(_PAIRS, st.tuples(st.booleans(), st.booleans()))
def test_any_pairs_are_drawn_inside_the_figure(pairs, log):
    found = cells(plane(pairs[:, 0], pairs[:, 1], log=log))
    assert 1 <= len(found) <= len(pairs)
    for x, y in found:
        assert 51 <= x <= histogram.WIDTH
        assert 13 <= y <= histogram.HEIGHT
