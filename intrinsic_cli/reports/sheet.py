"""The paper of a figure: text placed by its measured size, so that none is cut and none lies on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intrinsic_cli.reports.plot import Plot, number, ticks

# Inches, of one column of a paper; sizes of type in points.
WIDTH, BODY, PAD, GAP = 3.4, 2.1, 0.06, 0.08
RIGHT, TOP = 0.14, 0.09
SIZE, SMALL = 8, 6.5
LINE = 1.25 / 72  # from one line to the next, per point of size
TICK = 7.5 / 72  # a tick and what is left beside it
LABEL = 4 / 72  # between the ticks' names and the axis' own
MARK = 0.21  # height of a row less its name
COLUMNS = 3  # of a legend, at most


class Sheet:
    """A matplotlib figure with one pair of `axes`, of a fixed width, as high as what stands on it."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(WIDTH, BODY))
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.axes = self.figure.add_subplot()

    def lay_out(self, plot: Plot, entries: Sequence[tuple[Any, str]]) -> None:
        """Name what is drawn on the axes: ticks, rows, axes, `entries` (artist, label) of a legend, the note."""
        left = self._left(plot)
        body = self._rows(plot.rows, left) if plot.rows else BODY
        across = WIDTH - left - RIGHT
        self._x_ticks(plot, across)
        label = self._wrapped(plot.x_label, 2 * min(left + across / 2, RIGHT + across / 2), SIZE)
        self.axes.set_xlabel(label)
        self.axes.set_ylabel(self._wrapped(plot.y_label, body, SIZE))
        below = TICK + LABEL + LINE * SIZE * (2 + label.count("\n"))
        feet = [self._note(plot.note)] if plot.note else []
        feet += [self._legend(entries)] if entries and not plot.rows else []
        heights = [self._height(foot) + GAP for foot in feet]
        height = PAD + sum(heights) + below + body + TOP
        self.figure.set_size_inches(WIDTH, height)
        for i, foot in enumerate(feet):
            self._put(foot, (PAD + sum(heights[:i])) / height)
        bottom = PAD + sum(heights) + below
        self.axes.set_position((left / WIDTH, bottom / height, across / WIDTH, body / height))

    def _left(self, plot: Plot) -> float:
        """What stands left of the axes: the names of ticks, and the axis' own."""
        if plot.rows:
            self.axes.set_yticks([])
            self.axes.spines["left"].set_visible(False)
            return 2 * PAD
        places = ticks(*plot.y_limits(), plot.log_y, 5)
        names = [number(place) for place in places]
        self.axes.set_yticks(places, names)
        self.axes.set_yticks([], minor=True)
        lines = 1 + self._wrapped(plot.y_label, BODY, SIZE).count("\n")
        widest = max((self._width(name, SIZE) for name in names), default=0.0)
        return PAD + LINE * SIZE * lines + LABEL + widest + TICK

    def _rows(self, rows: Sequence[str], left: float) -> float:
        """Write the name of each row above it and return how high they all are."""
        names = [self._wrapped(name, WIDTH - left - RIGHT, SMALL) for name in rows]
        for i, name in enumerate(names):
            self.axes.annotate(
                name, (0, -i), xycoords=self.axes.get_yaxis_transform(), xytext=(0, 4),
                textcoords="offset points", va="bottom", fontsize=SMALL, linespacing=1.1,
            )  # fmt: skip
        lines = 1 + max(name.count("\n") for name in names)
        low, high = self.axes.get_ylim()
        return float(high - low) * (MARK + LINE * SMALL * lines)

    def _x_ticks(self, plot: Plot, across: float) -> None:
        """Name as many places as have room; others of a logarithmic axis have a mark alone."""
        from matplotlib.ticker import NullFormatter

        named = plot.x_ticks(lambda name: (self._width(name, SIZE) + GAP) / across)
        self.axes.set_xticks([x for x, _ in named], [name for _, name in named])
        self.axes.xaxis.set_minor_formatter(NullFormatter())
        if plot.zero is not None:
            self.axes.set_xticks([], minor=True)

    def _legend(self, entries: Sequence[tuple[Any, str]]) -> Any:
        """A legend in as many columns as fit."""
        most = WIDTH - 2 * PAD
        for columns in range(min(COLUMNS, len(entries)), 0, -1):
            # A label that begins with an underscore is none for matplotlib, so that labels are put in afterwards.
            found = self.figure.legend(
                [artist for artist, _ in entries], ["-"] * len(entries), loc="lower center", ncols=columns,
                borderaxespad=0, borderpad=0, fontsize=SMALL, columnspacing=1.4,
            )  # fmt: skip
            beside = self._across(found) if columns == 1 else 0.0
            for text, (_, label) in zip(found.get_texts(), entries, strict=True):
                text.set_text(self._wrapped(label, most - beside, SMALL) if columns == 1 else label)
            if columns == 1 or self._across(found) <= most:
                break
            found.remove()
        return found

    def _note(self, text: str) -> Any:
        return self.figure.text(
            0.5, 0, self._wrapped(text, WIDTH - 2 * PAD, SMALL), fontsize=SMALL, ha="center", va="bottom",
            linespacing=1.1,
        )  # fmt: skip

    def _put(self, foot: Any, bottom: float) -> None:
        """Place a legend or a text at a height of the figure, a share of it."""
        if hasattr(foot, "set_bbox_to_anchor"):
            foot.set_bbox_to_anchor((0.5, bottom))
        else:
            foot.set_y(bottom)

    def _wrapped(self, text: str, most: float, size: float) -> str:
        """The text in lines of at most this width, broken behind spaces and dashes where there are any."""
        lines = []
        while self._width(text, size) > most and len(text) > 1:
            fits = max((n for n in range(1, len(text)) if self._width(text[:n], size) <= most), default=1)
            at = max(text.rfind(" ", 0, fits), text.rfind("-", 0, fits)) + 1 or fits
            lines.append(text[:at].rstrip())
            text = text[at:].lstrip()
        return "\n".join([*lines, text])

    def _width(self, text: str, size: float) -> float:
        """How wide a line of text is."""
        from matplotlib.font_manager import FontProperties

        across, _, _ = self.renderer.get_text_width_height_descent(text, FontProperties(size=size), False)
        return float(across) / float(self.figure.dpi)

    def _height(self, artist: Any) -> float:
        return float(artist.get_window_extent(self.renderer).height) / float(self.figure.dpi)

    def _across(self, artist: Any) -> float:
        return float(artist.get_window_extent(self.renderer).width) / float(self.figure.dpi)
