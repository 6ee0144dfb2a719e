"""The report's plots, drawn by hand: two shapes do not warrant a plotting library and its scripts."""

from collections.abc import Mapping
from html import escape

_WIDTH, _HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 8, 8, 40
_PLOT_WIDTH = _WIDTH - _LEFT - _RIGHT
_PLOT_HEIGHT = _HEIGHT - _TOP - _BOTTOM


def bars(
    values: Mapping[int, float],
    domain: range,
    *,
    label: str,
    x_label: str,
    y_label: str,
    unit: str,
    tick: int,
) -> str:
    """One bar for each value of `domain`; `tick` is the distance of the labels below."""
    top = _round_up(max(values.values(), default=1.0))
    step = _PLOT_WIDTH / len(domain)
    parts = [_y_axis(y_label, [(top * i / 4, _TOP + _PLOT_HEIGHT * (1 - i / 4)) for i in range(5)])]
    for i, key in enumerate(domain):
        x, value = _LEFT + i * step, values.get(key, 0)
        height = _PLOT_HEIGHT * value / top
        hint = f"{key}: {_number(value)} {unit}"
        parts.append(_rectangle(x + 0.5, _TOP + _PLOT_HEIGHT - height, step - 1, height, hint))
        if key % tick == 0:
            parts.append(_text(x + step / 2, _HEIGHT - 24, str(key)))
    return _svg(label, x_label, parts)


def heatmap(
    cells: Mapping[tuple[int, int], int], count: int, cell: int, *, label: str, x_label: str, y_label: str
) -> str:
    """`count` by `count` cells of `cell` units, the stronger the more; on the diagonal both axes agree."""
    width, height = _PLOT_WIDTH / count, _PLOT_HEIGHT / count
    most = max(cells.values(), default=1)
    ticks = range(0, count * cell + 1, 10)
    bottom = _TOP + _PLOT_HEIGHT
    parts = [_y_axis(y_label, [(tick, bottom - tick / cell * height) for tick in ticks])]
    for (i, j), number in sorted(cells.items()):
        x, y = i * cell, j * cell
        hint = f"{x_label} {x} to {x + cell}, {y_label} {y} to {y + cell}: {number:,} trips"
        shade = max(0.06, (number / most) ** 0.5)
        parts.append(_rectangle(_LEFT + i * width, bottom - (j + 1) * height, width, height, hint, shade))
    parts.append(f'<line class="ideal" x1="{_LEFT}" y1="{bottom}" x2="{_LEFT + _PLOT_WIDTH}" y2="{_TOP}"/>')
    parts += [_text(_LEFT + tick / cell * width, _HEIGHT - 24, str(tick)) for tick in ticks]
    return _svg(label, x_label, parts)


def _svg(label: str, x_label: str, parts: list[str]) -> str:
    axis = _text(_LEFT + _PLOT_WIDTH / 2, _HEIGHT - 6, x_label)
    body = "".join(parts) + axis
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{body}</svg>'


def _rectangle(x: float, y: float, width: float, height: float, hint: str, opacity: float = 1.0) -> str:
    return (
        f'<rect class="mark" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill-opacity="{opacity:.2f}"><title>{escape(hint)}</title></rect>'
    )


def _y_axis(label: str, ticks: list[tuple[float, float]]) -> str:
    lines = [
        f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>'
        + _text(_LEFT - 6, y + 4, _number(value), anchor="end")
        for value, y in ticks
    ]
    middle = _TOP + _PLOT_HEIGHT / 2
    return "".join(lines) + f'<g transform="rotate(-90 12 {middle})">{_text(12, middle, label)}</g>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")  # noqa: PLR2004


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5 or 8 times a power of ten, so that quarters of it read well."""
    scale = 10.0 ** (len(str(int(value))) - 1)
    return next(scale * factor for factor in (1, 2, 4, 5, 8, 10) if scale * factor >= value)
