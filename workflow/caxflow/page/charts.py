"""Pictures of the overview, as inline SVG: colours come from the page's style, numbers stand in titles."""

import datetime
import math
from collections.abc import Callable, Sequence

from caxflow.legible import html

Points = Sequence[tuple[datetime.date, float]]

WIDTH, HEIGHT = 460, 190
LEFT, RIGHT, TOP, BOTTOM = 54, 8, 10, 24


def lines(
    series: dict[str, Points],
    say: Callable[[float], str],
    what: str,
    filled: bool = False,
    least: float = 0,
) -> str:
    """Draw a line for each name.

    Parameters
    ----------
    series : dict
        By name, days and values; days ascend.
    say : callable
        Puts a value in words.
    what : str
        Names the picture to a screen reader.
    filled : bool
        Whether the area below is tinted.
    least : float
        The smallest step of the axis; 1 where the values are counts.
    """
    points = [point for line in series.values() for point in line]
    if len(points) < 2:
        return nothing("no copy with a date yet")
    scale = _Scale(points, least)
    parts = [_open(what), scale.grid(say)]
    for number, (name, line) in enumerate(series.items()):
        places = [scale.place(*point) for point in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        if filled:
            floor = HEIGHT - BOTTOM
            area = f"{places[0][0]:.1f},{floor} {path} {places[-1][0]:.1f},{floor}"
            parts.append(f'<polygon class="area c{number}" points="{area}"/>')
        parts.append(f'<polyline class="line c{number}" points="{path}"/>')
        for (x, y), (day, value) in zip(places, line, strict=True):
            title = f"{html(name)}, {day}: {html(say(value))}"
            parts.append(
                f'<circle class="hit" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{title}</title></circle>'
            )
    return "".join([*parts, "</svg>", legend(series)])


def bars(series: dict[str, Points], say: Callable[[float], str], what: str) -> str:
    """Draw a stack of counts for each day; all series have the same days."""
    days = [day for day, _ in next(iter(series.values()), ())]
    stacks = [[line[index][1] for line in series.values()] for index in range(len(days))]
    if not any(map(sum, stacks)):
        return nothing("no copy in this time")
    scale = _Scale([(day, sum(stack)) for day, stack in zip(days, stacks, strict=True)], least=1)
    step = (WIDTH - LEFT - RIGHT) / len(days)
    parts = [_open(what), scale.grid(say)]
    for index, (day, stack) in enumerate(zip(days, stacks, strict=True)):
        floor = 0.0
        for number, (name, value) in enumerate(zip(series, stack, strict=True)):
            if not value:
                continue
            _, top = scale.place(day, floor + value)
            _, low = scale.place(day, floor)
            floor += value
            title = f"{html(name)}, {day}: {html(say(value))}"
            x, width, height = LEFT + index * step + 0.5, step - 1, max(low - top, 0.5)
            box = f'x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
            parts.append(f'<rect class="bar c{number}" {box}><title>{title}</title></rect>')
    return "".join([*parts, "</svg>", legend(series)])


def ranking(
    values: dict[str, float],
    say: Callable[[float], str],
    none: str,
    link: Callable[[str], str] | None = None,
) -> str:
    """List names with a bar each, the largest first; a table, so that it reads without the bars.

    Parameters
    ----------
    link : callable, optional
        Gives the address that a name leads to.
    """
    if not values:
        return nothing(none)
    most = max(values.values()) or 1
    lines = []
    for name, value in values.items():
        bar = '<svg class="rank" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        bar += f'<rect class="bar c0" width="{max(100 * value / most, 1):.1f}" height="8" rx="1"/></svg>'
        shown = f'<a href="{html(link(name))}">{html(name)}</a>' if link else html(name)
        lines.append(f"<tr><td>{shown}{bar}</td><td>{html(say(value))}</td></tr>")
    return f'<table class="ranking"><tbody>{"".join(lines)}</tbody></table>'


def legend(names: Sequence[str] | dict) -> str:
    """Name the colours, if there is more than one."""
    if len(names) < 2:
        return ""
    items = (f'<li><i class="key c{n}"></i>{html(name)}</li>' for n, name in enumerate(names))
    return f'<ul class="legend">{"".join(items)}</ul>'


def nothing(why: str) -> str:
    """Say why there is no picture."""
    return f'<p class="nothing">{html(why)}</p>'


def _open(what: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html(what)}">'


class _Scale:
    """Where a day and a value lie in the picture; the axis of values begins at zero."""

    def __init__(self, points: Points, least: float = 0):
        days, values = zip(*points, strict=True)
        self.first, self.last = min(days), max(days)
        most = max(1e-9, *values)
        self.step = max(_nice(most / 4), least)
        self.top = self.step * max(math.ceil(most / self.step), 1)

    def place(self, day: datetime.date, value: float) -> tuple[float, float]:
        span = max((self.last - self.first).days, 1)
        x = LEFT + (WIDTH - LEFT - RIGHT) * (day - self.first).days / span
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.top

    def grid(self, say: Callable[[float], str]) -> str:
        parts, value = [], 0.0
        while value <= self.top * 1.001:
            _, y = self.place(self.first, value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" class="end">{html(say(value))}</text>')
            value += self.step
        form = "%b %Y" if (self.last - self.first).days > 200 else "%-d %b"
        ends = ((self.first, "start"), (self.last, "end"))
        for day, anchor in ends:
            x, _ = self.place(day, 0)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 7}" class="{anchor}">{day.strftime(form)}</text>')
        return "".join(parts)


def _nice(step: float) -> float:
    """1, 2 or 5 times a power of ten, not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * 0.999)
