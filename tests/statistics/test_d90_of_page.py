"""The d90s that a page makes of the scores that stand on it."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from support.scripts import load

ROOT = Path(__file__).parents[2]
script = load("d90_of_page")
PAGE = """
| task | full | d90 |
| --- | --- | --- |
| best | 0.80 | 200 |

| | d = 100 | 400 | 1,600 |
| --- | --- | --- | --- |
| did | 0.60 / 0.62 | 0.84 / 0.82 | 0.84 / 0.86 |
| other | — | 0.5 | |

| full fine-tuning | 3e-5 | 1e-4 |
| --- | --- | --- |
| did | 0.1 / 0.2 | −0.3 |
| best | 0.70 / 0.72 | 0.79 / 0.81 |
"""


def told(words, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["d90_of_page.py", *words])
    script.main()
    return capsys.readouterr().out


def test_scores_are_read_by_row_and_head():
    found = list(script.rows(PAGE))
    assert found == [
        ("did", [(100, [0.60, 0.62]), (400, [0.84, 0.82]), (1600, [0.84, 0.86])]),
        ("other", [(400, [0.5])]),
        ("did", [(3e-5, [0.1, 0.2]), (1e-4, [-0.3])]),
        ("best", [(3e-5, [0.70, 0.72]), (1e-4, [0.79, 0.81])]),
    ]
    (a, b, *_), (one, *_) = (
        script.points(scored, full=full, unit=unit) for (_, scored), full, unit in
        ((found[0], False, 0.0), (found[3], True, 1 / 30))
    )  # fmt: skip
    assert (a.d, a.seed, a.score) == (100, 0, 0.60)
    assert (b.d, b.seed, b.score) == (100, 1, 0.62)
    assert (one.d, one.lr, one.score) == (None, 3e-5, 21 / 30)


def test_the_d90_is_that_of_the_line_between_the_ds(tmp_path, monkeypatch, capsys):
    """0.9 x 0.80 = 0.72 lies half way between 0.61 at 100 and 0.83 at 400: d90 = 200."""
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    first = told([str(page), "best", "did", "--chance", "0.5"], monkeypatch, capsys).splitlines()[0]
    assert first.startswith("did: d90 200* [")


def test_a_row_that_is_not_there_is_told(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        told([str(page), "best", "said", "--chance", "0.5"], monkeypatch, capsys)
    assert left.value.code == 2
    assert "no row said with scores; there are did, other, best" in capsys.readouterr().err


def commands_and_blocks():
    for page in sorted((ROOT / "docs").glob("*.md")):
        for commands, block in re.findall(
            r"```sh\n((?:python scripts/d90_of_page\.py [^\n]*\n)+)```\n\n```\n(.*?)```",
            page.read_text("utf-8"),
            re.S,
        ):
            yield pytest.param(commands.splitlines(), block, id=page.name)


@pytest.mark.parametrize(("commands", "block"), list(commands_and_blocks()))
def test_the_pages_have_what_their_commands_say(commands, block, monkeypatch, capsys):
    said = "".join(told(shlex.split(line)[2:], monkeypatch, capsys) for line in commands)
    number = r"\d+(?:\.\d+)?"
    assert re.split(number, said) == re.split(number, block)
    # Another processor may round a replay's end otherwise.
    assert [float(n) for n in re.findall(number, said)] == pytest.approx(
        [float(n) for n in re.findall(number, block)], rel=0.01
    )
