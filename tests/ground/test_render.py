"""One answer in five formats, read back by other programs' rules; names that are hostile in each."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.render import (
    Answer,
    Table,
    duration,
    escape_markdown,
    escape_tex,
    fit,
    render,
    spelled,
)

HOSTILE = (
    "a_b & c%", "=1+1", "@SUM(A1)", "+x", "-2+3", "＝1", "<script>", "x|y", "[a](http://b)", "*b*", "`c`", "--",
    "\\write18{ls}", "#1", "~^{}$", "\x1b[31mred", "a\nb", "\u202eabc", "é Å ç ß ø", "模型", "''q''", '"', "?`",
    "[x]", "*", "≤ 100 [≤ 100, 179]", "> 30000 — ± √ θ ‖ · − … λ", "\ud800",
)  # fmt: skip


def answer(names=HOSTILE) -> Answer:
    rows = [[name, str(i)] for i, name in enumerate(names)]
    records = [{"name": name, "i": i, "score": 0.1 + 0.2, "none": None} for i, name in enumerate(names)]
    return Answer([Table(["name", "i"], rows, "title: " + "".join(names))], [*names], records)


def test_a_number_is_written_once_rounded_and_read_back_alike():
    told = json.loads(render(answer(["a"]), "json"))
    assert told == [{"name": "a", "i": 0, "score": 0.3, "none": None}]
    assert render(answer(["a"]), "csv") == "name,i,score,none\na,0,0.3,"
    nested = Answer([], [], [{"d": 3}], {"models": [{"x": (0.48600000000000004, True, 5)}]})
    assert json.loads(render(nested, "json")) == {"models": [{"x": [0.486, True, 5]}]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        render(Answer([], [], [{"x": float("nan")}]), "json")


def test_a_table_for_a_terminal():
    table = Table(
        ["model", "sst2 full"], [["minilm", "0.8"], ["b", "≤ 100"]], "d90: what", right=frozenset([1])
    )
    assert render(Answer([table], ["* one", "— two"], [])).splitlines() == [
        "d90: what", "", "model      sst2", "           full", "-------  ------", "minilm      0.8",
        "b         ≤ 100", "", "* one", "— two",
    ]  # fmt: skip


def test_an_ascii_terminal_gets_words():
    table = Table(["a"], [["≤ 100"], ["é"]])
    told = render(Answer([table], ["0 ± 1"], []), encoding="ascii").splitlines()
    assert told == ["a", "------", "<= 100", "\\xe9", "", "0 +- 1"]
    assert spelled("≤ θ 模", "latin-1") == "<= theta \\u6a21"


@pytest.mark.parametrize("form", ["table", "md", "csv", "tex", "json"])
def test_nothing_that_a_terminal_obeys_is_ever_printed(form):
    told = render(answer(), form)
    assert all(c.isprintable() or c == "\n" for c in told)
    told.encode("utf-8")


def test_a_spreadsheet_does_not_calculate_a_name():
    rows = list(csv.DictReader(io.StringIO(render(answer(), "csv"))))
    assert len(rows) == len(HOSTILE)
    for row, name in zip(rows, HOSTILE, strict=True):
        assert row["name"][0] not in "=+-@＝"
        if name.isprintable():
            assert row["name"].removeprefix("'") == name.removeprefix("'")
    assert render(Answer([], [], [{"x": -0.5}]), "csv") == "x\n-0.5"  # a number is one


def cells(line):
    """The cells of a row of a GFM table: a pipe splits unless a backslash stands before it."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def unescaped(text):
    """What CommonMark shows for text in which every backslash stands before punctuation (§2.4)."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


def test_markdown_shows_names_as_they_are():
    names = [name for name in HOSTILE if name.isprintable()]
    lines = [line for line in render(answer(names), "md").splitlines() if line.startswith("|")]
    assert [unescaped(cells(line)[0]) for line in lines[2:]] == names
    body = "".join(lines[2:])
    assert not re.search(r"(?<!\\)[<`*]", body)  # no tag, code or emphasis begins
    assert not re.search(r"(?<!\\)\[[^\]]*\]\(", body)  # nor a link
    assert render(Answer([], ["* few", "# one", "a_b"], []), "md") == "\\* few\n\n\\# one\n\na_b"


def test_latex_is_ascii_and_commands():
    told = render(answer(), "tex")
    assert told.isascii()
    body = "\n".join(line for line in told.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[_#^~%\"]", body)
    assert not re.search(r"[<>|](?!\$)", body)
    assert escape_tex("≤ 100 [≤ 100, 179]") == r"$\leq$ 100 [$\leq$ 100, 179]"
    assert escape_tex("> 5 — a--b") == "$>$ 5 -- a-{}-b"
    assert escape_tex("Café 模") == r"Caf\'{e} U+6A21"
    for row in re.findall(r"^.*\\\\$", body, re.M):
        assert len(re.split(r"(?<!\\)&", row)) == 2
        assert not row.startswith(("[", "*"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_a_real_latex_sets_every_character(tmp_path):
    """In the plainest article, which stops at whatever it does not know; an overfull line is a table too wide."""
    alphabet = "".join(map(chr, range(32, 127)))
    grid = Table(
        ["model"] + [f"task{i} DID" for i in range(12)],
        [["a_model"] + ["5487* [2784, 12782]"] * 12, [alphabet[:20]] + ["≤ 100 [≤ 100, 179]"] * 12],
    )
    asked = answer([*HOSTILE, *(alphabet[i : i + 20] for i in range(0, 95, 20))])
    told = render(Answer([*asked.tables, grid], asked.notes, []), "tex")
    source = rf"""\documentclass{{article}}\usepackage{{booktabs}}\usepackage[textwidth=16cm]{{geometry}}
\setlength\parindent{{0pt}}\begin{{document}}\small
{told}
\end{{document}}"""
    (tmp_path / "table.tex").write_text(source, encoding="ascii")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "table.pdf").is_file()
    assert not re.search(r"Overfull \\hbox", done.stdout), done.stdout


WIDE = Table(
    ["model", *(f"t{i} DID" for i in range(20))], [["m" * 10, *(f"{i}" * 12 for i in range(20))]] * 2
)


@given(st.integers(60, 400))
def test_no_line_of_a_table_is_wider_than_the_terminal(width):
    told = render(Answer([WIDE], ["a note of many words " * 10], []), width=width)
    assert max(map(len, told.splitlines())) <= width
    shown = " ".join(told.split())
    assert all(f"{i}" * 12 in shown for i in range(20))
    assert shown.count("m" * 10) == 2 * told.count("model")  # each part names its rows


def test_a_long_name_is_folded_and_not_the_terminal():
    table = Table(["model", "d90"], [["minilm " + "data.max_train=400 " * 8, "200 [100, 300]"]])
    told = render(Answer([table], [], []), width=60)
    assert max(map(len, told.splitlines())) <= 60
    assert " ".join(told.split()).count("data.max_train=400") == 8


def test_a_wide_table_becomes_long_on_a_page_and_in_a_narrow_terminal():
    long = Table(["model", "task", "d90"], [["a", f"t{i}", "5"] for i in range(9)], keys=2)
    table = Table(["model", *(f"t{i}" for i in range(9))], [["a", *"555555555"]], long=long)
    assert fit(table, 1000, 8) == [long]
    assert fit(table, 1000, 10) == [table]
    assert render(Answer([table], [], []), "md").count("| a") == 9
    assert render(Answer([table], [], []), "tex").count("a & t") == 9
    assert len(render(Answer([table], [], []), width=200).splitlines()) == 3
    assert len(render(Answer([table], [], []), width=30).splitlines()) == 11


def test_an_unknown_format_names_those_there_are():
    with pytest.raises(ConfigError, match="--format html is not known; use one of table, md, csv, tex, json"):
        render(answer(), "html")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 s"), (89, "89 s"), (89.5, "2 min"), (61 * 60, "61 min"), (5341, "1.5 h"), (5400, "1.5 h")],
)
def test_durations(seconds, told):
    assert duration(seconds) == told


@given(st.text())
def test_escapes_end_in_one_printable_line(text):
    for escape in (escape_markdown, escape_tex):
        assert "\n" not in escape(text)
        assert escape(text).isprintable()
    assert escape_tex(text).isascii()
