"""The page's plots as SVG and PDF files for a paper, drawn by matplotlib (the extra `[report]`)."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from intrinsic_cli.errors import ConfigError, to_install, writing
from intrinsic_cli.render import can_draw
from intrinsic_cli.reports.plots import ARROWS, Plot, number, ticks

FORMATS = ("svg", "pdf")
WORTH = 20  # plots that a process is worth: it takes a second to start, in which it could have drawn some
# Text stays text, in type that can be edited; ids and dates do not change from one writing to the next.
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "legend.fontsize": 6.5, "axes.linewidth": 0.6, "lines.linewidth": 1.2,
    "svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "idim",
}  # fmt: skip
TONES = {"data": "#3b6fd4", "fit": "#1c3f94", "accent": "#d1480f", "full": "#14795a", "chance": "#7d796f",
         "c0": "#2f5fd0", "c1": "#c2410c", "c2": "#0f766e", "c3": "#9333ea", "c4": "#a16207", "c5": "#be185d",
         "c6": "#475569", "c7": "#4d7c0f"}  # fmt: skip
LOOKS: dict[str, dict[str, Any]] = {
    "points": {"marker": "o", "linestyle": "", "markersize": 3, "alpha": 0.7},
    "line": {},
    "dash": {"linestyle": ":"},
    "mark": {"marker": "D", "linestyle": "", "markersize": 5},
    **{look: {"marker": m, "linestyle": "", "markersize": 5} for look, m in zip(ARROWS, "<>v^", strict=True)},
}


def require_matplotlib() -> None:
    """Raise ConfigError where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise ConfigError(f"--figures needs matplotlib, which is not installed; run: {to_install('report')}")


def check_folder(folder: Path) -> None:
    """Raise ConfigError or StoreError where `write` would, as far as that is known before."""
    require_matplotlib()
    with writing("--figures", folder, "folder"):
        for place in (folder, *folder.parents):
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(place.stat().st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, "")
                if not os.access(place, os.W_OK):
                    raise PermissionError(errno.EACCES, "")
                return


def write(plots: Iterable[Plot], folder: Path) -> list[Path]:
    """Write each plot as `NAME.svg` and `NAME.pdf` and return the files. Many are drawn by several processes.

    Raises ConfigError without matplotlib and StoreError where the folder can't be written.
    """
    require_matplotlib()
    every = list(plots)
    with writing("--figures", folder, "folder"):
        folder.mkdir(parents=True, exist_ok=True)
    count = min(os.cpu_count() or 1, len(every) // WORTH)
    bar = tqdm(total=len(every), desc="figures", unit="plot", disable=not can_draw(sys.stderr), leave=False)
    files: list[Path] = []
    with bar, ExitStack() as stack:
        if count > 1:
            spawn = multiprocessing.get_context("spawn")
            drawn = stack.enter_context(ProcessPoolExecutor(count, spawn)).map(partial(_save, folder), every)
        else:
            drawn = map(partial(_save, folder), every)
        for written in drawn:
            files += written
            bar.update()
    return files


def _save(folder: Path, plot: Plot) -> list[Path]:
    """Both files of one plot."""
    import matplotlib

    files = [folder / f"{plot.name}.{form}" for form in FORMATS]
    with matplotlib.rc_context(STYLE), writing("--figures", folder, "folder"):
        figure = draw(plot)
        for path, date in zip(files, ("Date", "CreationDate"), strict=True):
            figure.savefig(path, metadata={date: None})
    return files


def draw(plot: Plot) -> Any:
    """A matplotlib Figure, one column of a paper wide."""
    from matplotlib.figure import Figure

    height = 0.7 + 0.22 * len(plot.rows) if plot.rows else 2.9
    figure = Figure(figsize=(3.4, height), layout="constrained")
    ax = figure.add_subplot()
    if plot.log_x:
        ax.set_xscale("log")
    if plot.log_y:
        ax.set_yscale("log")
    if plot.band is not None:
        low, high = (
            end if end is not None else edge for end, edge in zip(plot.band, plot.x_limits(), strict=True)
        )
        ax.axvspan(low, high, color=TONES["accent"], alpha=0.13, linewidth=0, label=plot.band_label)
    for level in plot.levels:
        ax.axhline(level.y, color=TONES[level.tone], linestyle="--", linewidth=0.9, label=level.label)
    seen: set[str] = set()
    for series in plot.series:
        label = series.label if series.label not in seen else None
        seen.add(series.label)
        color = TONES[series.tone] if isinstance(series.tone, str) else _ramp(series.tone)
        if series.look == "area":
            ax.fill(series.x, series.y, color=color, alpha=0.1, linewidth=0)
            continue
        ax.plot(series.x, series.y, color=color, label=label or None, **LOOKS[series.look])
    ax.set_xlim(*plot.x_limits())
    ax.set_ylim(*plot.y_limits())
    ax.set_xlabel(plot.x_label)
    if plot.zero is not None:
        _label(ax.set_xticks, plot.x_ticks(7))
    if plot.rows:
        ax.set_yticks([-i for i in range(len(plot.rows))], plot.rows)
    else:
        if plot.log_y:  # matplotlib labels whole decades alone
            _label(ax.set_yticks, [(y, number(y)) for y in ticks(*plot.y_limits(), True, 5)])
        ax.set_ylabel(plot.y_label)
        if ax.get_legend_handles_labels()[1]:
            figure.legend(loc="outside lower center", ncols=3)
    return figure


def _label(set_ticks: Any, named: list[tuple[float, str]]) -> None:
    set_ticks([place for place, _ in named], [name for _, name in named])
    set_ticks([], minor=True)


def _ramp(share: float) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis_r"](0.1 + 0.85 * share)
