"""A plot as inline SVG. Colours and type are the page's: CSS classes, so that light and dark follow it."""

from __future__ import annotations

from html import escape

from intrinsic_cli.reports.plot import ARROWS, Plot, Series, number, share, ticks

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 14, 48
ROW = 29  # height of a named row
CHARACTER, GAP = 8.5, 9  # at most, of the name of a tick, and between two of them


class Frame:
    """Maps data to the picture."""

    def __init__(self, plot: Plot) -> None:
        self.rows = bool(plot.rows)
        self.height = TOP + BOTTOM + ROW * len(plot.rows) if plot.rows else HEIGHT
        self.left, self.right = (RIGHT if plot.rows else LEFT), WIDTH - RIGHT
        self.top, self.bottom = TOP, self.height - BOTTOM
        self.log_x, self.log_y = plot.log_x, plot.log_y
        self.x_low, self.x_high = plot.x_limits()
        self.y_low, self.y_high = plot.y_limits()

    def x(self, value: float) -> float:
        at = share(value, self.x_low, self.x_high, self.log_x)
        return round(self.left + at * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        at = share(value, self.y_low, self.y_high, self.log_y)
        return round(self.bottom - at * (self.bottom - self.top), 1)


def draw(plot: Plot) -> str:
    """The <svg> element, responsive and labelled for screen readers."""
    frame = Frame(plot)
    body = [*_axes(plot, frame), *_band(plot, frame)]
    for level in plot.levels:
        y = frame.y(level.y)
        body.append(f'<path class="level t-{level.tone}" d="M{frame.left} {y:g}H{frame.right}"/>')
    body += [_series(s, frame) for s in plot.series]
    for i, name in enumerate(plot.rows):
        body.append(f'<text class="row" x="{frame.left}" y="{frame.y(-i) - 8:g}">{escape(name)}</text>')
    label = f"{plot.title}: {plot.y_label or 'rows'} against {plot.x_label}"
    label = escape(". ".join(filter(None, [label, plot.note, plot.told])) + ("." if plot.told else ""))
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {frame.height}" role="img" aria-label="{label}">'
        f"{''.join(body)}</svg>"
    )


def _axes(plot: Plot, frame: Frame) -> list[str]:
    parts = []
    width = frame.right - frame.left
    for x, name in plot.x_ticks(lambda name: (CHARACTER * len(name) + GAP) / width):
        at = frame.x(x)
        parts.append(f'<path class="grid" d="M{at:g} {frame.top}V{frame.bottom}"/>')
        parts.append(
            f'<text class="tick" x="{at:g}" y="{frame.bottom + 18}" text-anchor="middle">{name}</text>'
        )
    if not plot.rows:
        for y in ticks(frame.y_low, frame.y_high, frame.log_y, 5):
            at = frame.y(y)
            parts.append(f'<path class="grid" d="M{frame.left} {at:g}H{frame.right}"/>')
            parts.append(
                f'<text class="tick" x="{frame.left - 7}" y="{at:g}" dy=".35em" '
                f'text-anchor="end">{number(y)}</text>'
            )
    parts.append(f'<path class="axis" d="M{frame.left} {frame.bottom}H{frame.right}"/>')
    parts.append(
        f'<text class="label" x="{(frame.left + frame.right) / 2:g}" y="{frame.height - 8}" '
        f'text-anchor="middle">{escape(plot.x_label)}</text>'
    )
    if plot.y_label:
        middle = (frame.top + frame.bottom) / 2
        parts.append(
            f'<text class="label" transform="translate(10 {middle:g}) rotate(-90)" '
            f'text-anchor="middle">{escape(plot.y_label)}</text>'
        )
    return parts


def _band(plot: Plot, frame: Frame) -> list[str]:
    if plot.band is None:
        return []
    low, high = plot.band
    left = frame.left if low is None else max(frame.x(low), frame.left)
    right = frame.right if high is None else min(frame.x(high), frame.right)
    return [
        f'<rect class="band" x="{left:g}" y="{frame.top}" width="{max(right - left, 1):g}" '
        f'height="{frame.bottom - frame.top}"><title>{escape(plot.band_label)}</title></rect>'
    ]


def _series(series: Series, frame: Frame) -> str:
    tone, style = tone_class(series.tone)
    at = [(frame.x(x), frame.y(y)) for x, y in zip(series.x, series.y, strict=True)]
    if series.look == "area":
        return f'<path class="area {tone}"{style} d="M{"L".join(f"{x:g} {y:g}" for x, y in at)}Z"/>'
    if series.look in ("line", "dash"):
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in at)
        # What is hidden under a line's points says their values when pointed at.
        hits = "".join(
            f'<circle class="hit" cx="{x:g}" cy="{y:g}" r="7"><title>{escape(note)}</title></circle>'
            for (x, y), note in zip(at, series.notes, strict=False)
            if note
        )
        return f'<path class="{series.look} {tone}"{style} d="{path}"/>{hits}'
    notes = series.notes or ("",) * len(at)
    marks = []
    for (x, y), note in zip(at, notes, strict=True):
        title = f"<title>{escape(note)}</title>" if note else ""
        if series.look == "mark":
            drop = "" if frame.rows else f'<path class="drop {tone}" d="M{x:g} {y:g}V{frame.bottom}"/>'
            marks.append(f'{drop}<path class="mark {tone}" d="M{x:g} {y - 6:g}l6 6-6 6-6-6z">{title}</path>')
        elif series.look == "cross":
            marks.append(
                f'<path class="line {tone}" d="M{x - 5:g} {y - 5:g}l10 10m0-10l-10 10">{title}</path>'
            )
        elif series.look in ARROWS:
            turn = 90 * ("right", "down", "left", "up").index(series.look)
            marks.append(
                f'<path class="mark {tone}" transform="translate({x:g} {y:g}) rotate({turn})" '
                f'd="M-4-6L6 0L-4 6z">{title}</path>'
            )
        else:
            marks.append(
                f'<circle class="point {tone}"{style} cx="{x:g}" cy="{y:g}" r="3.4">{title}</circle>'
            )
    return "".join(marks)


def tone_class(tone: str | float) -> tuple[str, str]:
    """The CSS class of a tone, and for one of a family the attribute that places it on the page's ramp."""
    if isinstance(tone, str):
        return f"t-{tone}", ""
    half, rest = divmod(2 * tone, 1) if tone < 1 else (1, 1.0)  # the ramp has a colour in its middle
    return f"t-ramp{half:.0f}", f' style="--t:{100 * rest:.0f}%"'


def legend(plot: Plot) -> list[tuple[str, str, str, str]]:
    """(label, look, CSS class, style attribute) of each legend entry, once per label."""
    entries = {}
    for series in plot.series:
        if series.label and series.label not in entries:
            entries[series.label] = (series.label, series.look, *tone_class(series.tone))
    for level in plot.levels:
        entries[level.label] = (level.label, "level", *tone_class(level.tone))
    if plot.band is not None:
        entries[plot.band_label] = (plot.band_label, "band", "t-accent", "")
    return list(entries.values())
