"""Histograms as inline SVG, of one value or of two, with axes that read well; no plotting library."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from caxflow.legible import html

if TYPE_CHECKING:
    import numpy as np

WIDTH, HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 42
_TALL = HEIGHT - _TOP - _BOTTOM
_SHADES = 8
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def draw(
    values: "np.ndarray", *, title: str, label: str, log: bool = False, of: str = "", unit: str = "events"
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
    of : str
        Unit of the values, for the caption.
    unit : str
        What is counted.

    Returns
    -------
    str
        A ``<figure>``.
    """
    import numpy as np

    values = np.asarray(values, np.float64)
    usable = values[_usable(values, log)]
    if not len(usable):
        return f"<figure><h3>{html(title)}</h3><p>no {html(unit)} with a value</p></figure>"
    low, high = _range(usable, log)
    shown = np.log10(usable) if log else usable
    counts, edges = np.histogram(shown, bins=_bins(len(usable)), range=(low, high))
    top = _nice_top(int(counts.max()))

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(count: float) -> float:
        return HEIGHT - _BOTTOM - count / top * _TALL

    path = [f"M{x(edges[0]):.1f} {y(0):.1f}"]
    path += [f"V{y(n):.1f}H{x(edge):.1f}" for n, edge in zip(counts, edges[1:], strict=True)]
    path.append(f"V{y(0):.1f}")
    caption = f"{len(usable):,} {unit}, median {_number(float(np.median(usable)))} {of}".rstrip()
    if len(usable) < len(values):
        caption += f"; {len(values) - len(usable):,} without"
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html(title)}: {html(caption)}">',
        *_grid(y, top),
        *_ticks(x, low, high, log),
        f'<path class="area" d="{"".join(path)}"/>',
        f'<text class="label" x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}">{html(label)}</text>',
        f'<text class="side" x="{_LEFT}" y="9">{html(unit)} a bin</text>',
        "</svg>",
    ]
    return _figure(title, parts, caption)


def draw_plane(
    across: "np.ndarray",
    up: "np.ndarray",
    *,
    title: str,
    labels: tuple[str, str],
    log: tuple[bool, bool] = (True, True),
) -> str:
    """Draw how often each pair of values occurs: the darker a cell, the more events.

    Parameters
    ----------
    across, up : numpy.ndarray of float64, shape (n,)
        Pairs of which one is not finite, or on a logarithmic axis not positive, are left out.
    labels : tuple of str
        Of the two axes.
    log : tuple of bool
        Whether they are logarithmic.

    Returns
    -------
    str
        A ``<figure>``.
    """
    import numpy as np

    good = _usable(across, log[0]) & _usable(up, log[1])
    if not good.any():
        return f"<figure><h3>{html(title)}</h3><p>no events with both values</p></figure>"
    shown, limits = [], []
    for values, is_log in zip((across[good], up[good]), log, strict=True):
        limits.append(_range(values, is_log))
        shown.append(np.log10(values) if is_log else values)
    number = _bins(int(good.sum()))
    counts, columns, rows = np.histogram2d(*shown, bins=(number, max(10, number // 2)), range=limits)

    def x(value: float) -> float:
        return _LEFT + (value - limits[0][0]) / (limits[0][1] - limits[0][0]) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - limits[1][0]) / (limits[1][1] - limits[1][0]) * _TALL

    most = int(counts.max())
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html(title)}">',
        *_rungs(y, *limits[1], log[1]),
        *_ticks(x, *limits[0], log[0]),
        *_cells(counts, [x(edge) for edge in columns], [y(edge) for edge in rows]),
        f'<text class="label" x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}">{html(labels[0])}</text>',
        f'<text class="side" x="{_LEFT}" y="9">{html(labels[1])}</text>',
        "</svg>",
    ]
    return _figure(title, parts, f"{int(good.sum()):,} events, at most {most:,} a cell")


def _figure(title: str, parts: Sequence[str], caption: str) -> str:
    return f"<figure><h3>{html(title)}</h3>{''.join(parts)}<figcaption>{html(caption)}</figcaption></figure>"


def _usable(values: "np.ndarray", log: bool) -> "np.ndarray":
    import numpy as np

    return np.isfinite(values) & ((values > 0) | (not log))


def _bins(values: int) -> int:
    """Fewer for few values, or the noise of single events is all that is seen."""
    return min(80, max(20, round(2 * math.sqrt(values))))


def _cells(counts: "np.ndarray", columns: Sequence[float], rows: Sequence[float]) -> list[str]:
    """One path for each of a few shades, in which small counts still show."""
    paths: dict[int, list[str]] = {}
    most = math.sqrt(counts.max())
    for column, row in zip(*counts.nonzero(), strict=True):
        shade = math.ceil(_SHADES * math.sqrt(counts[column, row]) / most)
        left, top = columns[column], rows[row + 1]
        cell = f"M{left:.1f} {top:.1f}H{columns[column + 1]:.1f}V{rows[row]:.1f}H{left:.1f}z"
        paths.setdefault(shade, []).append(cell)
    return [
        f'<path class="cell" fill-opacity="{shade / _SHADES:.2f}" d="{"".join(cells)}"/>'
        for shade, cells in sorted(paths.items())
    ]


def _rungs(y: Callable[[float], float], low: float, high: float, log: bool) -> list[str]:
    """Lines and texts of the axis at the side."""
    at = _decades(low, high) if log else _round_numbers(low, high)
    return [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        f'<text class="count" x="{_LEFT - 6}" y="{y(value) + 4:.1f}">{text}</text>'
        for value, text in at
    ]


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
