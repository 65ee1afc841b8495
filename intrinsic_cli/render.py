"""Numbers and tables as text: for a terminal, a paper or a script.

A command hands over an `Answer`, and `render` sets it in one of FORMATS. What a name, a path or a setting
spells is text in all of them: never a control sequence of a terminal, markup, LaTeX or a spreadsheet's formula.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import os
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from intrinsic_cli.errors import ConfigError, one_of, printable

FORMATS = ("table", "md", "csv", "tex", "json")
COLUMNS = 8  # of a table on a page
PAGE = 90  # characters that a page is wide, about 16 cm in small type
GAP = 2  # spaces between columns
PADDING = 2  # more that tabulate gives a header
DIGITS = (
    10  # significant ones of a number in CSV and JSON: more than any score has, fewer than rounding errors
)

# What this project prints beyond ASCII: how an ASCII terminal shows it, and how LaTeX sets it.
SYMBOLS = {
    "≤": ("<=", r"$\leq$"), "≥": (">=", r"$\geq$"), "—": ("--", "--"), "–": ("-", "--"), "…": ("...", r"\ldots{}"),
    "±": ("+-", r"$\pm$"), "√": ("sqrt", r"$\surd$"), "·": ("*", r"$\cdot$"), "×": ("x", r"$\times$"),
    "−": ("-", "$-$"), "→": ("->", r"$\to$"), "←": ("<-", r"$\leftarrow$"), "∞": ("inf", r"$\infty$"),
    "θ": ("theta", r"$\theta$"), "λ": ("lambda", r"$\lambda$"), "‖": ("||", r"$\|$"), "≈": ("~", r"$\approx$"),
    "₀": ("0", r"$_0$"), "²": ("^2", r"$^2$"), "’": ("'", "'"), "‘": ("'", "`"), "“": ('"', "``"), "”": ('"', "''"),
}  # fmt: skip
TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "{''}",
    "`": "{`}",
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "ø": r"\o{}", "Ø": r"\O{}", "œ": r"\oe{}",
    "ł": r"\l{}", "Ł": r"\L{}",
}  # fmt: skip
ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0308\u0304\u0307\u030c\u030a\u0327", "`'^~\"=.vrc", strict=True)
)


@dataclass(frozen=True)
class Table:
    """Rows of text under a header.

    title   a line above it.
    keys    so many leading columns name a row; where the table is cut, each part has them.
    right   the columns that are set flush right, by number.
    long    the same cells in fewer columns and more rows, for where the table is too wide.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    keys: int = 1
    right: frozenset[int] = frozenset()
    long: Table | None = None

    def columns(self, chosen: Sequence[int]) -> Table:
        """The table of some columns."""
        return replace(
            self,
            header=[self.header[i] for i in chosen],
            rows=[[row[i] for i in chosen] for row in self.rows],
            right=frozenset(at for at, i in enumerate(chosen) if i in self.right),
        )

    def each(self, head: Callable[[str], str], cell: Callable[[str], str]) -> Table:
        """The table with every name of its header and every cell changed."""
        return replace(
            self,
            header=[head(name) for name in self.header],
            rows=[[cell(text) for text in row] for row in self.rows],
            long=self.long and self.long.each(head, cell),
        )


@dataclass(frozen=True)
class Answer:
    """What a command found: tables and notes (a line each) for people, records of plain values for scripts.

    `document` is what JSON holds where that is more than the records.
    """

    tables: Sequence[Table]
    notes: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    document: Any = None


def check_format(form: str) -> str:
    """`form`, if it is one of FORMATS. Raises ConfigError if not."""
    if form not in FORMATS:
        raise ConfigError(f"--format {form}{one_of(form, FORMATS)}")
    return form


def render(answer: Answer, form: str = "table", width: int | None = None, encoding: str = "utf-8") -> str:
    """`answer` in one of FORMATS, without a newline at the end.

    A terminal's `width` and `encoding` concern `table` alone. A table that is wider than the terminal, or has
    more than COLUMNS columns on a page, is set long, or else cut into parts of fewer columns.
    Raises ConfigError at another format.
    """
    check_format(form)
    if form == "json":
        told = answer.records if answer.document is None else answer.document
        return json.dumps(_tidy(told), indent=1, allow_nan=False)
    if form == "csv":
        return _csv(answer.records)
    if form == "tex":
        return _tex(answer)
    if form == "md":
        return _markdown(answer)
    return _terminal(answer, width, encoding)


def _terminal(answer: Answer, width: int | None, encoding: str) -> str:
    def spell(text: str) -> str:
        return spelled(printable(text), encoding)

    def fold(text: str) -> str:
        return textwrap.fill(spell(text), width, break_on_hyphens=False) if width else spell(text)

    blocks = []
    for table in answer.tables:
        narrow = table.each(lambda name: spell(name).replace(" ", "\n"), spell)  # one word a line
        parts = fit(narrow, width or math.inf, math.inf if width else COLUMNS)
        if width and max(map(sum, map(_widths, parts))) > width + GAP:
            parts = fit(_folded(narrow, width), width, math.inf)
        blocks += [fold(table.title)] if table.title else []
        blocks += [_grid(part, "simple") for part in parts]
    return "\n\n".join([*blocks, *_together(map(fold, answer.notes))])


def _folded(table: Table, width: int) -> Table:
    """The table with cells of several lines, so narrow that its keys and one more column have room."""
    room = max(12, width // (table.keys + 1) - GAP)
    own = replace(table, long=None).each(str, lambda cell: textwrap.fill(cell, room, break_on_hyphens=False))
    return replace(own, long=table.long and _folded(table.long, width))


def _together(notes: Iterable[str]) -> list[str]:
    """Notes as one block of lines, if there are any."""
    return ["\n".join(lines)] if (lines := list(notes)) else []


def _markdown(answer: Answer) -> str:
    blocks = []
    for table in answer.tables:
        blocks += [_markdown_line(table.title)] if table.title else []
        escaped = table.each(escape_markdown, escape_markdown)
        blocks += [_grid(part, "github") for part in fit(escaped, math.inf, COLUMNS)]
    return "\n\n".join([*blocks, *map(_markdown_line, answer.notes)])


def _grid(table: Table, style: str) -> str:
    from tabulate import tabulate

    align = ["right" if i in table.right else "left" for i in range(len(table.header))]
    return tabulate(table.rows, table.header, style, disable_numparse=True, colalign=align)


def _tex(answer: Answer) -> str:
    blocks = ["% needs \\usepackage{booktabs}"] if answer.tables else []
    for table in answer.tables:
        blocks += [f"% {escape_tex(table.title)}"] if table.title else []
        for part in fit(table.each(escape_tex, escape_tex), PAGE, COLUMNS):
            align = "".join("r" if i in part.right else "l" for i in range(len(part.header)))
            lines = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", _tex_row(part.header), r"\midrule"]
            lines += [*map(_tex_row, part.rows), r"\bottomrule", r"\end{tabular}"]
            blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, *_together(f"% {escape_tex(note)}" for note in answer.notes)])


def _tex_row(cells: Sequence[str]) -> str:
    """A row; a bracket or a star behind the `\\\\` of the row before would be its argument."""
    first = "{}" if cells[0].startswith(("[", "*")) else ""
    return rf"{first}{' & '.join(cells)} \\"


def fit(table: Table, width: float, most: float) -> list[Table]:
    """The table, if it has at most `most` columns and `width` characters, else its long form, or its parts.

    A part has the keys and as many of the other columns as there is room for, at least one.
    """
    wide = _widths(table)
    if len(wide) <= most and sum(wide) <= width + GAP:
        return [table]
    if table.long is not None:
        return fit(table.long, width, most)
    keys = list(range(table.keys))
    parts: list[list[int]] = [[]]
    for i in range(table.keys, len(wide)):
        here = [*keys, *parts[-1], i]
        if parts[-1] and (len(here) > most or sum(wide[j] for j in here) > width + GAP):
            parts.append([])
        parts[-1].append(i)
    return [table.columns([*keys, *part]) for part in parts]


def _widths(table: Table) -> list[int]:
    """Characters of each column with the gap behind it; a text may have several lines."""

    def longest(text: str) -> int:
        return max(map(len, text.split("\n")))

    columns = zip(table.header, *table.rows, strict=True)
    return [max(longest(head) + PADDING, *map(longest, cells), 0) + GAP for head, *cells in columns]


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as CSV; an empty cell where there is none."""
    file = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _csv_cell(value) for name, value in _tidy(record).items()} for record in records)
    return file.getvalue().rstrip("\n")


def _csv_cell(value: Any) -> Any:
    """Text that a spreadsheet would calculate gets the apostrophe that makes it text there."""
    if not isinstance(value, str):
        return value
    begin = unicodedata.normalize("NFKC", value.lstrip()[:1])
    return printable(f"'{value}" if begin and begin in "=+-@" else value)


def _tidy(value: Any) -> Any:
    """`value` with every float rounded to DIGITS: 0.486 and never 0.48600000000000004."""
    if isinstance(value, Mapping):
        return {key: _tidy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tidy(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def escape_markdown(text: str) -> str:
    """`text` as Markdown shows it: whatever could open markup has a backslash."""
    markup = r"[\\`*<|~&$]|(?<!\w)_|_(?!\w)|\[(?=[^\]]*\][(\[:])"
    return re.sub(markup, r"\\\g<0>", printable(text))


def _markdown_line(text: str) -> str:
    """A paragraph of Markdown; a mark at its beginning would make it a heading, a list or a quotation."""
    return re.sub(r"^(?=[#+>-])", r"\\", escape_markdown(text))


def escape_tex(text: str) -> str:
    """`text` as LaTeX sets it, in ASCII. Letters that plain LaTeX lacks become their code, `U+4E2D`."""
    text = printable(text)
    joined = [a == b and a in "-'" for a, b in zip(text, text[1:] + " ", strict=False)]
    return "".join(_tex_letter(c) + "{}" * again for c, again in zip(text, joined, strict=True))


def _tex_letter(c: str) -> str:
    if c in SYMBOLS:
        return SYMBOLS[c][1]
    if c in TEX or c.isascii():
        return TEX.get(c, c)
    base, *marks = list(unicodedata.normalize("NFD", c))
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in ACCENTS:
        return rf"\{ACCENTS[marks[0]]}{{{base}}}"
    return f"U+{ord(c):04X}"


def can_draw(stream: IO[str]) -> bool:
    """Whether a bar can be drawn on `stream`: a terminal, and none that can only print (TERM=dumb)."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def spelled(text: str, encoding: str) -> str:
    """`text` as far as `encoding` can say it: `<=` for ≤ in ASCII."""
    return text.encode(encoding, SPELL).decode(encoding)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    told = (SYMBOLS[c][0] if c in SYMBOLS else c.encode("ascii", "backslashreplace").decode() for c in bad)
    return "".join(told), error.end


SPELL = "idim.spell"  # an error handler for streams and `str.encode`
codecs.register_error(SPELL, _spell)


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3.4 h`; whole seconds and minutes are rounded up, so that no time is none."""
    if math.ceil(seconds) < 90:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"
