"""A slice of scripts/hostile, whose table is in docs/reliability.md, and that its judge sees each kind of fault."""

import subprocess
import sys

import pytest
from support.scripts import SCRIPTS, load

from intrinsic_cli.errors import DataError

SCRIPT = SCRIPTS / "hostile.py"

hostile = load("hostile")


@pytest.mark.hostile_slice
def test_a_slice_of_the_cases_has_no_fault():
    kinds = ",".join(kind for kind in hostile.KINDS if kind != "machines")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--share", "0.04", "--seed", "1", "--only", kinds],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    total = done.stdout.splitlines()[-1].split("|")
    assert int(total[3]) >= 60
    assert int(total[4]) > 20  # read right
    assert int(total[5]) > 20  # refused


def raising(error):
    def case():
        raise error

    return case


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        (lambda: None, "right"),
        (raising(DataError("no rows")), "refused"),
        (raising(KeyError("x")), "unforeseen"),
        (raising(hostile.Hang()), "hang"),
        (lambda: hostile.look(1, "", "Traceback (most recent call last):\n"), "traceback"),
        (lambda: hostile.look(1, "", "idim: unforeseen KeyError: 'x'\n"), "unforeseen"),
        (lambda: hostile.look(0, "\x1b[31m", ""), "unforeseen"),
        (lambda: hostile.look(-11, "", ""), "unforeseen"),
        (lambda: hostile.look(2, "", "idim: d=0 must be at least 1\n"), "refused"),
    ],
)
def test_the_judge_tells_outcomes_apart(case, outcome):
    assert hostile.judged(case)[0] == outcome


def test_other_rows_are_seen(tmp_path):
    path = hostile.write(tmp_path / "x.csv", hostile.table(hostile.rows(60)))
    assert hostile.judged(lambda: hostile.same(hostile.task(path), hostile.rows(60)))[0] == "right"
    assert hostile.judged(lambda: hostile.same(hostile.task(path), hostile.rows(61)))[0] == "silently other"
