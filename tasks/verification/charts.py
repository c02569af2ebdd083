"""Pictures as SVG, written by hand: a plotting library would cost every start a second, and these are a few lines each.

Each is a document of its own on a white ground, so that it also stands in an `<img>` and on a dark page.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 440, 240, 52, 12, 34, 30
_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706")
_INK, _FAINT = "#374151", "#e5e7eb"
_MOST_POINTS = 300
_LEVELS = 4


def groups(curves: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Sequence[float]]]:
    """What belongs into one picture: each curve with its `val_` twin, in the order of the history."""
    names = dict.fromkeys(name.removeprefix("val_") for name in curves)
    return {name: {n: curves[n] for n in (name, f"val_{name}") if n in curves} for name in names}


def curves_svg(title: str, curves: Mapping[str, Sequence[float]]) -> str:
    """Curves over the epochs, with both axes named; what is no finite number is left out."""
    points = {name: _thinned(curve) for name, curve in curves.items()}
    finite = [value for curve in points.values() for _, value in curve]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room
    last = max([1, *(len(curve) for curve in curves.values())])

    def x(epoch: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((epoch - 1) / (last - 1) if last > 1 else 0.5)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    parts = [_text(_LEFT, 18, title, weight="bold")]
    for value in _levels(low, high):
        parts.append(f'<path d="M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}" stroke="{_FAINT}"/>')
        parts.append(_text(_LEFT - 6, y(value) + 4, f"{value:.4g}", anchor="end"))
    parts += [_text(x(epoch), _HEIGHT - 10, str(epoch), anchor="middle") for epoch in _ticks(last)]
    legend = _WIDTH - _RIGHT
    for (name, curve), colour in zip(points.items(), _COLOURS, strict=False):
        places = [(x(epoch), y(value)) for epoch, value in curve]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{line}"/>')
        if len(places) <= 20:  # noqa: PLR2004  # so that one epoch alone is seen too
            parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" fill="{colour}"/>' for px, py in places]
        parts.append(_text(legend, 18, name, anchor="end", colour=colour))
        legend -= 8 * len(name) + 16
    return _document(_WIDTH, _HEIGHT, f"{title} by epoch", parts)


def confusion_svg(counts: Sequence[Sequence[int]]) -> str:
    """A square of classes: rows are true, columns predicted, the darker the more of its row."""
    classes = len(counts)
    cell = max(22, min(46, 460 // max(1, classes)))
    left, top = 58, 54
    parts = [
        _text(left, 18, "Predicted class (columns) for each true class (rows)", weight="bold"),
        *(_text(left + cell * (i + 0.5), top - 8, str(i), anchor="middle") for i in range(classes)),
    ]
    for i, row in enumerate(counts):
        total = sum(row) or 1
        parts.append(_text(left - 8, top + cell * (i + 0.5) + 4, str(i), anchor="end"))
        for j, count in enumerate(row):
            share = count / total
            colour = "#2563eb" if i == j else "#dc2626"
            place = f'x="{left + cell * j}" y="{top + cell * i}" width="{cell - 1}" height="{cell - 1}"'
            # A few mistakes among thousands must still be seen.
            opacity = 0.0 if count == 0 else 0.15 + 0.85 * share
            parts.append(f'<rect {place} fill="{_FAINT}"/><rect {place} fill="{colour}" fill-opacity="{opacity:.2f}"/>')
            if count:
                ink = "#ffffff" if opacity > 0.6 else _INK  # noqa: PLR2004
                middle = (left + cell * (j + 0.5), top + cell * (i + 0.5) + 4)
                parts.append(_text(*middle, _short(count), anchor="middle", colour=ink))
    return _document(max(left + cell * classes + 12, 380), top + cell * classes + 12, "Confusion matrix", parts)


def image(svg: str, label: str) -> str:
    """A picture inside Markdown; Prefect's UI shows images from `data:` addresses, and no `<svg>` element."""
    return f"![{label}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _document(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(label)}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" rx="4" fill="#ffffff"/>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = _INK, weight: str = "normal") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
    return f"<text {place}>{html.escape(text)}</text>"


def _thinned(curve: Sequence[float]) -> list[tuple[int, float]]:
    """Epoch and value of what is to be drawn: at most some hundreds, the last one among them."""
    every = math.ceil(len(curve) / _MOST_POINTS) or 1
    chosen = [*range(len(curve) - 1, -1, -every)][::-1]
    return [(i + 1, curve[i]) for i in chosen if math.isfinite(curve[i])]


def _levels(low: float, high: float) -> list[float]:
    """Round values for the axis between two others: steps of 1, 2 or 5."""
    rough = (high - low) / _LEVELS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(round_ for round_ in (1, 2, 5, 10) if round_ * unit >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _ticks(last: int) -> list[int]:
    """A few epochs for the axis, the first and the last among them."""
    every = math.ceil(last / 6)
    inner = [epoch for epoch in range(1, last, every) if last - epoch >= every / 2]
    return [*inner, last]


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"  # noqa: PLR2004
