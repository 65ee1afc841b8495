"""Terminals that lack letters, are narrow, or would obey what a name spells."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.made_runs import result, save, study

ROOT = Path(__file__).resolve().parents[2]
ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def idim(*words, **variables):
    done = subprocess.run(
        [sys.executable, "-m", "intrinsic_cli", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A d90 of at most 100, full fine-tuning below chance, and a task whose name would colour the screen."""
    root = tmp_path_factory.mktemp("runs")
    runs = study({100: 0.79, 400: 0.8}, 0.8) + study({100: 0.5}, 0.5, task="rté")
    save(runs + study({100: 0.6}, 0.8, task="\x1b[31mred\u202e"), root)
    return root


@pytest.mark.parametrize("variables", [ASCII, C_LOCALE], ids=["PYTHONIOENCODING", "C locale"])
def test_an_ascii_terminal_sees_every_table(folder, variables):
    for words in (["summarize"], ["status"], ["compare"], ["summarize", "--threshold", "7"]):
        status, out, err = idim(words[0], folder, *words[1:], **variables)
        assert b"Traceback" not in err
        assert (out + err).isascii()
        if words == ["summarize"]:
            assert status == 0
            assert b"<= 100" in out
            assert b"-- minilm rt\\xe9 DID: full fine-tuning" in out
    for words in (["--help"], ["sweep", "--help"], ["tasks", "--help"]):
        status, out, err = idim(*words, **variables)
        assert (status, err) == (0, b"")
        assert out.isascii()


@pytest.mark.parametrize("form", ["table", "md", "csv", "tex", "json"])
def test_a_name_is_never_a_command_of_the_terminal(folder, form):
    status, out, _ = idim("summarize", folder, "--format", form)
    assert status == 0
    assert all(c.isprintable() or c == "\n" for c in out.decode())
    if form == "json":
        assert {record["task"] for record in json.loads(out)} == {"sst2", "rté", "\x1b[31mred\u202e"}


@pytest.mark.parametrize("command", ["status", "show"])
def test_neither_a_folder_nor_a_message_is_a_command_of_the_terminal(tmp_path, command):
    run = save([result(100, 0.6)], tmp_path).runs()[0]
    with run.claim():
        (run.path / "result.json").unlink()
        run.fail(ValueError("evil \x1b[2J\nok: 1 done"))
    hostile = run.path.rename(tmp_path / "a\x1b[31mb\nc")
    words = [hostile if command == "show" else tmp_path]
    _, out, err = idim(command, *words)
    lines = (out + err).decode().splitlines()
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith(("ok:", "c:", "c/")) for line in lines)  # nor does a name end a line
    assert any("a\\x1b[31mb" in line for line in lines)
    if command == "show":
        assert any("evil \\x1b[2J" in line for line in lines)


def test_a_table_fits_the_columns_of_the_terminal(folder):
    for columns in (60, 90, 200):
        _, out, _ = idim("summarize", folder, COLUMNS=str(columns))
        assert max(map(len, out.decode().splitlines())) <= columns
