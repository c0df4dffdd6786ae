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
    found = figure(np.array([1.0] * 30 + [9.0] * 10), bins=10)
    marks = {
        text.text: float(text.get("y")) - 4 for text in found.iter("text") if text.get("class") == "count"
    }
    highest = sorted(heights(found))[:2]
    assert highest[0] == pytest.approx(marks["30"], abs=0.1)
    assert highest[1] == pytest.approx(marks["10"], abs=0.1)
    assert found.find("figcaption").text == "40 events, median 1"


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
