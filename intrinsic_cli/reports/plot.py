"""What a plot is: plain data in data coordinates, with the range of its axes and their round numbers.

`svg.py` draws it on the page and `figures.py` for a paper.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from unicodedata import normalize

ARROWS = ("left", "right", "down", "up")
MOST_TICKS = 7  # with a name on an x axis


@dataclass(frozen=True)
class Series:
    """x and y of equal length. `look`: points, line, dash, mark, cross, area (the outline of one), or one of ARROWS
    for what goes on that way.
    `tone`: a name (`data`, `fit`, `accent`, `full`, `chance`, or `c0` to `c7` for unordered ones) or, for one of
    an ordered family, a number from 0 to 1. Series of one label share a legend entry.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    look: str
    tone: str | float
    label: str = ""
    notes: tuple[str, ...] = ()  # what each point says when pointed at


@dataclass(frozen=True)
class Line:
    """A horizontal line across the plot."""

    y: float
    tone: str
    label: str


@dataclass(frozen=True)
class Plot:
    """One pair of axes. `band` spans x from one end to the other, None being the plot's edge. `rows` names
    the y positions 0, -1, -2, ... where y is no number. `zero` is where x = 0 stands on a logarithmic axis.
    `told` says the values to those who can't see them; `note` stands under the plot, for all.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    zero: float | None = None
    levels: tuple[Line, ...] = ()
    band: tuple[float | None, float | None] | None = None
    band_label: str = ""
    rows: tuple[str, ...] = ()
    told: str = ""
    note: str = ""

    def x_limits(self) -> tuple[float, float]:
        return _limits([x for s in self.series for x in s.x], self.log_x, 0.04)

    def y_limits(self) -> tuple[float, float]:
        if self.rows:
            return -len(self.rows) + 0.5, 0.75
        return _limits(
            [y for s in self.series for y in s.y] + [level.y for level in self.levels], self.log_y, 0.07
        )

    def x_ticks(self, width: Callable[[str], float]) -> list[tuple[float, str]]:
        """Places and names of round numbers on the x axis: as many, up to MOST_TICKS, as stand apart.

        `width` is what a name and the gap beside it take of the axis, as a share of it.
        """
        low, high = self.x_limits()
        named: list[tuple[float, str]] = []
        for most in range(MOST_TICKS, 0, -1):
            named = self._round_numbers(low, high, most)
            spans = [(share(x, low, high, self.log_x), width(name) / 2) for x, name in named]
            if all(a + half <= b - other for (a, half), (b, other) in pairwise(spans)):
                break
        return named

    def _round_numbers(self, low: float, high: float, most: int) -> list[tuple[float, str]]:
        if self.zero is None:
            return [(x, number(x)) for x in ticks(low, high, self.log_x, most)]
        return [(self.zero, "0"), *((x, number(x)) for x in ticks(2 * self.zero, high, True, most))]


def share(value: float, low: float, high: float, log: bool) -> float:
    """Where a value stands between the ends of its axis, from 0 to 1."""
    if log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _limits(values: Sequence[float], log: bool, margin: float) -> tuple[float, float]:
    """The range of the values with a margin, a share of it, on both sides."""
    low, high = min(values, default=1.0), max(values, default=1.0)
    if low == high:
        pad = max(0.05, 0.05 * abs(low))
        return (low / 2, high * 2) if log else (low - pad, high + pad)
    if log:
        factor = (high / low) ** margin
        return low / factor, high * factor
    pad = margin * (high - low)
    return low - pad, high + pad


def ticks(low: float, high: float, log: bool, most: int) -> list[float]:
    """At most about `most` round numbers within [low, high]: multiples of 1, 2, 5 × 10^k; on a log axis, 1, 2
    and 5 of each decade, or only 1 and 3, or only 1, of decades that are many of every second or third. Where a
    log axis is too short for two of them, it has those of one that is not."""
    if log and len(_of_decades(low, high, (1, 2, 5))) < 2:
        log = False
    if not log:
        rough = (high - low) / most
        unit = 10 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough * (1 - 1e-9))
        return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = _of_decades(low, high, digits)
        if len(found) <= most:
            break
    return found[:: math.ceil(len(found) / most)]


def _of_decades(low: float, high: float, digits: tuple[int, ...]) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**k for k in decades for m in digits if low <= m * 10.0**k <= high]


def number(value: float) -> str:
    """10,000 as in tables, 2M for millions, 1e-5 for small ones; else as short as can be."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1000:
        return f"{value:,.6g}"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.6g}"


def slug(text: str) -> str:
    """A file's name: letters and digits of any script, and a dash for all between that is not `._=`."""
    return re.sub(r"[^\w.=]+", "-", normalize("NFC", text)).lstrip("-.") or "plot"
