"""Terminals that lack letters, are narrow, or would obey what a name spells."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from contextlib import suppress
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


@pytest.mark.parametrize("columns", ["0", "1", "-3", "many", "", "9" * 30, "1e3"])
def test_odd_columns_end_no_command(folder, columns):
    for words in (["summarize", folder], ["status", folder], ["summarize", "--help"], ["--help"]):
        status, out, err = idim(*words, COLUMNS=columns, LINES=columns)
        assert (status, b"Traceback" in err) == (0, False)
        assert len(out.splitlines()[0]) > 9  # no word is cut into its letters


@pytest.mark.long
@pytest.mark.parametrize(
    ("variables", "draws"),
    [
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm", "COLUMNS": "1"}, True),
        ({"COLUMNS": "many", "NO_COLOR": "1"}, True),
    ],
)
def test_a_bar_is_drawn_where_it_can_be(tmp_path, task_folder, variables, draws):
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    words = f"run model=tiny task=custom task.path={task_folder} d=20 train.max_steps=2 train.precision=fp32"
    process = subprocess.Popen(
        [sys.executable, "-m", "intrinsic_cli", *words.split(), f"output_dir={tmp_path / 'out'}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **variables},
        stdout=subprocess.PIPE, stderr=end,
    )  # fmt: skip
    os.close(end)
    said = b""
    with suppress(OSError):  # of a terminal that nobody writes to any more
        while part := os.read(terminal, 4096):
            said += part
    os.close(terminal)
    out, _ = process.communicate()
    assert (process.returncode, b"Traceback" in said) == (0, False), said
    assert out.startswith(b"accuracy ")
    assert (b"\r" in said.replace(b"\r\n", b"\n")) == draws
    assert b"\x1b[3" not in said  # no colour, which nobody asked for


def test_a_table_fits_the_columns_of_the_terminal(folder):
    for columns in (60, 90, 200):
        _, out, _ = idim("summarize", folder, COLUMNS=str(columns))
        assert max(map(len, out.decode().splitlines())) <= columns


# --- streams that are closed or full, a folder that is gone, a signal at the start ------------------------


def shell(command, **options):
    """Have a shell run `command`, in which IDIM is the command line; returns (status, stdout, stderr)."""
    script = command.replace("IDIM", f"'{sys.executable}' -m intrinsic_cli")
    done = subprocess.run(
        ["sh", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", "2>/dev/full", "2<&0"], ids=lambda text: text
)
def test_a_stream_that_is_closed_or_full_stops_no_study(folder, tmp_path, task_folder, closed):
    words = f"model=tiny task=custom task.path={task_folder} d=20 train.max_steps=1 baseline.run=false"
    where = f"train.precision=fp32 data.max_length=16 output_dir={tmp_path / 'out'}"
    status, _, said = shell(f"IDIM sweep {words} {where} {closed}", stdin=subprocess.DEVNULL)
    assert (status, "Traceback" in said) == (0, False)
    assert len(list(tmp_path.glob("out/*/result.json"))) == 1


def test_a_python_without_docstrings(tmp_path, task_folder):
    words = f"model=tiny task=custom task.path={task_folder} d=20 train.max_steps=1 train.precision=fp32"
    status, _, said = shell(f"PYTHONOPTIMIZE=2 IDIM run {words} output_dir={tmp_path / 'out'}")
    assert (status, said.count("\n")) == (2, 1)
    assert "without docstrings" in said
    more = f"baseline.run=false output_dir={tmp_path / 'out'}"
    status, _, said = shell(f"PYTHONOPTIMIZE=2 IDIM sweep {words} {more}")  # whose workers have them
    assert (status, "Traceback" in said) == (0, False)


@pytest.mark.parametrize("words", ["status {}", "summarize {}", "list models", "keys", "_complete run task="])
def test_a_full_disk_for_what_is_printed_is_one_line(folder, words):
    status, _, said = shell(f"IDIM {words.format(folder)} > /dev/full")
    assert (status, said) == (1, "idim: can't write: No space left on device\n")


@pytest.mark.parametrize("words", ["status {}", "_complete run task=", "--help"])
def test_a_reader_that_leaves_early_hears_no_traceback(folder, words):
    status, out, said = shell(f"(IDIM {words.format(folder)}; echo $? >&2) | true")
    assert (status, out) == (0, "")
    assert said in ("0\n", "141\n")  # all was printed before it left, or not


def test_a_reader_that_is_gone_is_told_from_a_run_that_failed(folder):
    """By the status that shells give a command which SIGPIPE ends."""
    gone = (
        "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    status, _, said = shell(f"{sys.executable} -c '{gone}' IDIM status {folder}")
    assert (status, said) == (141, "")


@pytest.mark.parametrize("words", ["status {}", "run model=tiny", "sweep output_dir=/nowhere", "list models"])
def test_a_working_folder_that_is_gone_is_one_line(folder, tmp_path, words):
    status, out, said = shell(
        f"mkdir gone; cd gone; rmdir ../gone; IDIM {words.format(folder)}", cwd=tmp_path
    )
    assert (status, out) == (2, "")
    assert said.splitlines()[-1].startswith("idim: the working folder is gone")


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ("WORLD_SIZE=many", "WORLD_SIZE=many is no number of processes"),
        ("WORLD_SIZE=2", "WORLD_SIZE=2 without RANK, MASTER_ADDR, MASTER_PORT"),
        ("WORLD_SIZE=2 RANK=x LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=1", "can't meet"),
        ("WORLD_SIZE=2 RANK=0 LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=x", "can't meet"),
    ],
)
def test_what_torchrun_would_have_said_is_missing(tmp_path, task_folder, variables, part):
    words = (
        f"model=tiny task=custom task.path={task_folder} d=20 train.max_steps=1 output_dir={tmp_path / 'out'}"
    )
    status, out, said = shell(f"{variables} IDIM run {words} train.precision=fp32")
    assert (status, out) == (2, "")
    assert part in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith("start the run by torchrun, or unset WORLD_SIZE")


SIGNALLED = """
import os, signal, sys

class Slow:  # the first module that is looked for once the command has begun
    def find_spec(self, name, *_):
        if name == "intrinsic_cli.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Slow())
sys.argv = ["idim", "list", "models"]
import runpy
runpy.run_module("intrinsic_cli", run_name="__main__")
"""


def test_an_interrupt_while_modules_are_imported_shows_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (-2, b"", b"")
