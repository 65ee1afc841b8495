"""The page's plots as SVG and PDF files for a paper, drawn by matplotlib (the extra `[report]`)."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tqdm import tqdm

from intrinsic_cli.errors import ConfigError, printable, to_install
from intrinsic_cli.files import writing
from intrinsic_cli.render import can_draw
from intrinsic_cli.reports.fonts import families
from intrinsic_cli.reports.plot import ARROWS, Plot
from intrinsic_cli.reports.sheet import SIZE, SMALL, Sheet

FORMATS = ("svg", "pdf")
LONGEST = 200  # bytes of a file's name less its form
WORTH = 20  # plots that a process is worth: it takes a second to start, in which it could have drawn some
# Text stays text, in type that can be edited, and a dollar a dollar; ids and dates do not change between writings.
STYLE: dict[Any, Any] = {
    "font.size": SIZE, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "legend.fontsize": SMALL, "axes.linewidth": 0.6, "lines.linewidth": 1.2,
    "svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "idim", "text.parse_math": False,
}  # fmt: skip
TONES = {"data": "#3b6fd4", "fit": "#1c3f94", "accent": "#d1480f", "full": "#14795a", "chance": "#7d796f",
         "c0": "#2f5fd0", "c1": "#c2410c", "c2": "#0f766e", "c3": "#9333ea", "c4": "#a16207", "c5": "#be185d",
         "c6": "#475569", "c7": "#4d7c0f"}  # fmt: skip
LOOKS: dict[str, dict[str, Any]] = {
    "points": {"marker": "o", "linestyle": "", "markersize": 3, "alpha": 0.7},
    "line": {},
    "dash": {"linestyle": ":"},
    "mark": {"marker": "D", "linestyle": "", "markersize": 5},
    "cross": {"marker": "x", "linestyle": "", "markersize": 5},
    **{look: {"marker": m, "linestyle": "", "markersize": 5} for look, m in zip(ARROWS, "<>v^", strict=True)},
}


def require_matplotlib() -> None:
    """Raise ConfigError where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise ConfigError(f"--figures needs matplotlib, which is not installed; run: {to_install('report')}")


def check_folder(folder: Path) -> None:
    """Raise ConfigError or StoreError where `write` would: make a file in the folder, and leave nothing."""
    require_matplotlib()
    with writing("--figures", folder, "folder"):
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        finally:
            for place in made:
                with suppress(OSError):
                    place.rmdir()


def write(plots: Iterable[Plot], folder: Path) -> list[Path]:
    """Write each plot that shows something as `NAME.svg` and `NAME.pdf` and return the files. Many are drawn by
    several processes.

    Raises ConfigError without matplotlib and StoreError where the folder can't be written.
    """
    require_matplotlib()
    every = _named_apart([plot for plot in plots if plot.series])
    with writing("--figures", folder, "folder"):
        folder.mkdir(parents=True, exist_ok=True)
    workers = min(os.cpu_count() or 1, len(every) // WORTH)
    bar = tqdm(total=len(every), desc="figures", unit="plot", disable=not can_draw(sys.stderr), leave=False)
    files: list[Path] = []
    with bar, ExitStack() as stack:
        if workers > 1:
            spawn = multiprocessing.get_context("spawn")
            drawn = stack.enter_context(ProcessPoolExecutor(workers, spawn)).map(
                partial(_save, folder), every
            )
        else:
            drawn = map(partial(_save, folder), every)
        for written in drawn:
            files += written
            bar.update()
    return files


def _named_apart(plots: list[Plot]) -> list[Plot]:
    """The plots by names that no file system takes for each other: a number follows one that is taken, and of one
    too long for a file the middle is left out."""
    taken: set[str] = set()
    named = []
    for plot in plots:
        long = len(plot.name.encode()) > LONGEST
        short = f"{plot.name[:40]}…{plot.name[-20:]}" if long else plot.name
        numbered = chain([short], (f"{short}-{i}" for i in count(2)))
        name = next(each for each in numbered if each.casefold() not in taken)
        taken.add(name.casefold())
        named.append(replace(plot, name=name))
    return named


def _save(folder: Path, plot: Plot) -> list[Path]:
    """Both files of one plot. A viewer of SVG has fonts of its own; a PDF has those that are here."""
    plot = _spelled(plot, printable)
    svg, pdf = (folder / f"{plot.name}.{form}" for form in FORMATS)
    with writing("--figures", folder, "folder"), _style(plot):
        figure = draw(plot)
        figure.savefig(svg, metadata={"Date": None})
        if (other := readable(plot)) != plot:
            figure = draw(other)
        figure.savefig(pdf, metadata={"CreationDate": None})
    return [svg, pdf]


def readable(plot: Plot) -> Plot:
    """The plot with each letter that no font here has spelled as its code."""
    codes = {ord(c): c.encode("unicode_escape").decode() for c in families(letters(plot))[1]}
    return _spelled(plot, lambda text: text.translate(codes))


def _spelled(plot: Plot, spell: Callable[[str], str]) -> Plot:
    """The plot with all that comes from a name spelled anew."""
    series = tuple(replace(each, label=spell(each.label)) for each in plot.series)
    return replace(plot, series=series, rows=tuple(map(spell, plot.rows)), note=spell(plot.note))


def letters(plot: Plot) -> str:
    """All that is written on a figure."""
    labels = [series.label for series in plot.series] + [level.label for level in plot.levels]
    return "".join([plot.x_label, plot.y_label, plot.note, *plot.rows, *labels])


@contextmanager
def _style(plot: Plot) -> Iterator[None]:
    """STYLE in fonts that have the letters of a plot, and no word of matplotlib about those that none has."""
    import matplotlib

    family = families(letters(plot))[0]
    with matplotlib.rc_context(STYLE | {"font.family": family}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def draw(plot: Plot) -> Any:
    """A matplotlib Figure, one column of a paper wide."""
    with _style(plot):
        sheet = Sheet()
        sheet.lay_out(plot, _fill(sheet.axes, plot))
    return sheet.figure


def _fill(ax: Any, plot: Plot) -> list[tuple[Any, str]]:
    """Draw the data; the artists of a legend, with their labels."""
    entries: dict[str, Any] = {}
    if plot.log_x:
        ax.set_xscale("log")
    if plot.log_y:
        ax.set_yscale("log")
    for series in plot.series:
        color = TONES[series.tone] if isinstance(series.tone, str) else _ramp(series.tone)
        if series.look == "area":
            ax.fill(series.x, series.y, color=color, alpha=0.1, linewidth=0)
            continue
        [artist] = ax.plot(series.x, series.y, color=color, **LOOKS[series.look])
        entries.setdefault(series.label, artist)
    for level in plot.levels:
        entries[level.label] = ax.axhline(level.y, color=TONES[level.tone], linestyle="--", linewidth=0.9)
    if plot.band is not None:
        low, high = (
            edge if end is None else end for end, edge in zip(plot.band, plot.x_limits(), strict=True)
        )
        entries[plot.band_label] = ax.axvspan(low, high, color=TONES["accent"], alpha=0.13, linewidth=0)
    ax.set_xlim(*plot.x_limits())
    ax.set_ylim(*plot.y_limits())
    return [(artist, label) for label, artist in entries.items() if label]


def _ramp(share: float) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis_r"](0.1 + 0.85 * share)
