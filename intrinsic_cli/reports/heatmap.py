"""A matrix of cosines as a picture: one SVG file that needs no style sheet and no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from intrinsic_cli.files import writing

CELL, EDGE, CHARACTER = 56, 12, 7
POSITIVE, NEGATIVE = (59, 111, 212), (209, 72, 15)  # of the figures' data and accent


def draw(title: str, names: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """The <svg> of a square matrix of numbers from −1 (orange) over 0 (white) to 1 (blue); NaN is grey."""
    left = EDGE + CHARACTER * max(map(len, names)) + 8
    top = EDGE + 26
    size = CELL * len(names)
    width, height = max(left + size, EDGE + CHARACTER * len(title)) + EDGE, top + size + 22 + EDGE
    parts = [f'<text x="{EDGE}" y="{EDGE + 10}" font-weight="600">{escape(title)}</text>']
    for i, (name, row) in enumerate(zip(names, values, strict=True)):
        middle = top + CELL * i + CELL / 2
        parts.append(
            f'<text x="{left - 8}" y="{middle:g}" dy=".35em" text-anchor="end">{escape(name)}</text>'
        )
        short = name if CHARACTER * len(name) <= CELL else name[: CELL // CHARACTER - 1] + "…"
        x = left + CELL * i + CELL / 2
        parts.append(f'<text x="{x:g}" y="{top + size + 16}" text-anchor="middle">{escape(short)}</text>')
        for j, value in enumerate(row):
            x = left + CELL * j
            ink = "#fff" if abs(value) > 0.6 else "#222"
            told = "—" if math.isnan(value) else f"{value:.2f}"
            parts.append(
                f'<rect x="{x}" y="{top + CELL * i}" width="{CELL - 2}" height="{CELL - 2}" rx="3" '
                f'fill="{colour(value)}"><title>{escape(f"{name}, {names[j]}: {told}")}</title></rect>'
                f'<text x="{x + CELL / 2 - 1:g}" y="{middle - 1:g}" dy=".35em" fill="{ink}" '
                f'text-anchor="middle">{told}</text>'
            )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="#222"><rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def colour(value: float) -> str:
    """The fill of a cell."""
    if math.isnan(value):
        return "#e8e6e1"
    share = min(abs(value), 1.0)
    return "#" + "".join(
        f"{round(255 + (full - 255) * share):02x}" for full in (POSITIVE if value > 0 else NEGATIVE)
    )


def write(path: Path, picture: str) -> None:
    """Write the picture. Raises StoreError where the file can't be written."""
    with writing("--figures", path.parent, "folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(picture, encoding="utf-8")
