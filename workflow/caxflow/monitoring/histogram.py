"""Histograms as inline SVG: a step line over its area, with axes that read well; no plotting library."""

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

WIDTH, HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 42
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def draw(
    values: "np.ndarray", *, title: str, label: str, log: bool = False, bins: int = 60, unit: str = "events"
) -> str:
    """Draw how often each value occurs.

    Parameters
    ----------
    values : numpy.ndarray of float64, shape (n,)
        What is not finite, or on a logarithmic axis not positive, is left out and counted in the caption.
    title, label : str
        Of the figure and of its axis, with the unit.
    log : bool
        Whether the axis is logarithmic.
    unit : str
        What is counted.

    Returns
    -------
    str
        A ``<figure>``.
    """
    import numpy as np

    values = np.asarray(values, np.float64)
    usable = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not len(usable):
        return f"<figure><h3>{escape(title)}</h3><p>no {escape(unit)} with a value</p></figure>"
    low, high = _range(usable, log)
    shown = np.log10(usable) if log else usable
    counts, edges = np.histogram(shown, bins=bins, range=(low, high))
    top = _nice_top(int(counts.max()))

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(count: float) -> float:
        return HEIGHT - _BOTTOM - count / top * (HEIGHT - _TOP - _BOTTOM)

    path = [f"M{x(edges[0]):.1f} {y(0):.1f}"]
    path += [f"V{y(n):.1f}H{x(edge):.1f}" for n, edge in zip(counts, edges[1:], strict=True)]
    path.append(f"V{y(0):.1f}")
    caption = f"{len(usable):,} {unit}, median {_number(float(np.median(usable)))}"
    if len(usable) < len(values):
        caption += f"; {len(values) - len(usable):,} without"
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: {escape(caption)}">',
        *_grid(y, top),
        *_ticks(x, low, high, log),
        f'<path class="area" d="{"".join(path)}"/>',
        f'<text class="label" x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}">{escape(label)}</text>',
        "</svg>",
    ]
    return (
        f"<figure><h3>{escape(title)}</h3>{''.join(parts)}<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _range(values: "np.ndarray", log: bool) -> tuple[float, float]:
    """Limits of the axis, whole decades or round numbers around the values."""
    low, high = float(values.min()), float(values.max())
    if log:
        low, high = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return (low, high) if high > low else (low, low + 1)
    step = _step(max(high - min(low, 0), 1e-12) / 5)
    low = 0.0 if low >= 0 else math.floor(low / step) * step
    return low, max(math.ceil(high / step) * step, low + step)


def _step(rough: float) -> float:
    """The next larger of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _nice_top(most: int) -> int:
    step = max(1, round(_step(most / 4)))
    return math.ceil(most / step) * step


def _grid(y, top: int) -> list[str]:
    step = max(1, round(_step(top / 4)))
    lines = []
    for count in range(0, top + 1, step):
        lines.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(count):.1f}" y2="{y(count):.1f}"/>'
        )
        lines.append(f'<text class="count" x="{_LEFT - 6}" y="{y(count) + 4:.1f}">{count:,}</text>')
    return lines


def _ticks(x, low: float, high: float, log: bool) -> list[str]:
    at = _decades(low, high) if log else _round_numbers(low, high)
    floor = HEIGHT - _BOTTOM
    return [
        f'<line class="tick" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{floor}" y2="{floor + 5}"/>'
        f'<text class="tick" x="{x(value):.1f}" y="{floor + 18}">{text}</text>'
        for value, text in at
    ]


def _decades(low: float, high: float) -> Sequence[tuple[float, str]]:
    return [(n, f"10{str(n).translate(_SUPERSCRIPTS)}") for n in range(int(low), int(high) + 1)]


def _round_numbers(low: float, high: float) -> Sequence[tuple[float, str]]:
    step = _step((high - low) / 6)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(n * step, _number(n * step)) for n in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
