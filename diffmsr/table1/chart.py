"""Figure 1 as a drawing: PSNR and seconds against the number of steps of each diffusion."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 380, 260
"""Of a panel, in pixels."""
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 30, 44
"""Margins of a panel."""
COLOURS = ("#1b6ca8", "#c8553d", "#5b8c5a", "#7d5ba6")
"""Of the curves, readable on white and on black."""
INK = "#777777"

Curves = Mapping[str, Sequence[Mapping[str, Any]]]


def chart(curves: Curves) -> str:
    """An SVG of two panels: PSNR in dB, and seconds per slice on a logarithmic axis, over the steps."""
    panels = [
        _panel(curves, "psnr", "PSNR, dB", lambda value: value),
        f'<g transform="translate({WIDTH} 0)">{_panel(curves, "seconds", "seconds per slice", math.log10)}</g>',
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {2 * WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">' + "".join(panels) + "</svg>\n"
    )


def _panel(curves: Curves, quantity: str, title: str, scaled: Callable[[float], float]) -> str:
    points = [point for curve in curves.values() for point in curve]
    steps = sorted({point["steps"] for point in points})
    values = [scaled(point[quantity]) for point in points]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0

    def x(n: int) -> float:
        share = (math.log2(n) - math.log2(steps[0])) / ((math.log2(steps[-1]) - math.log2(steps[0])) or 1.0)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - scaled(value)) / spread * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, TOP - 12, title, INK)]
    parts += [_text(x(n), HEIGHT - BOTTOM + 18, str(n), INK, "middle") for n in steps]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "steps", INK, "middle"))
    for end in {min(points, key=lambda p: p[quantity])[quantity], max(points, key=lambda p: p[quantity])[quantity]}:
        parts.append(_text(LEFT - 8, y(end) + 4, f"{end:.3g}" if quantity == "seconds" else f"{end:.1f}", INK, "end"))
    frame = f"M {LEFT} {TOP} V {HEIGHT - BOTTOM} H {WIDTH - RIGHT}"
    parts.append(f'<path d="{frame}" fill="none" stroke="{INK}"/>')
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        line = " ".join(f"{x(point['steps']):.1f},{y(point[quantity]):.1f}" for point in curve)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        middle = curve[(len(curve) - 1) // 2]
        parts.append(_text(x(middle["steps"]), y(middle[quantity]) - 8, name, colour, "middle"))
    return "".join(parts)


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{text}</text>'
