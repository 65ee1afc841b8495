"""Real `idim` commands in processes of their own, for stories about processes that die."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import psutil
from safetensors.torch import load_file

PATIENCE = 300  # seconds until a story that hangs fails


def idim(*words, env=MappingProxyType({}), **options):
    """Start `idim` with `env` beside this process's environment as Python knows it; its output is kept."""
    code = "import sys; from intrinsic_cli.cli.main import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ) | env, **options,
    )  # fmt: skip


@contextmanager
def largest_file(size):
    """Let this process write no file beyond `size` bytes, as a disk that is full there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def end(process):
    """Wait for a command; returns (exit status, stdout, stderr)."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def until(condition, what):
    """Wait until `condition()` is true and return it."""
    never = threading.Event()
    for _ in range(PATIENCE * 50):
        if found := condition():
            return found
        never.wait(0.02)
    raise TimeoutError(f"{what} did not happen in {PATIENCE} s")


def workers(process):
    """The living worker processes of a driver."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):  # one that has just died is none
            if "intrinsic_cli.study.worker" in " ".join(child.cmdline()):
                found.append(child)
    return found


def training(folder, *, lines=1):
    """The runs of a folder that have begun to train, by `lines` of their history, and have no result."""
    return [
        path.parent
        for path in Path(folder).glob("*/history.jsonl")
        if not (path.parent / "result.json").exists() and path.read_text().count("\n") >= lines
    ]


def results(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in Path(folder).glob("*/result.json")}


def science(folder):
    """Of every result what must not depend on how often its run was disturbed."""
    return {
        name: (record["metrics"], record["steps"], {k: v.tolist() for k, v in load_file(
            Path(folder) / name / "theta.safetensors").items()})
        for name, record in results(folder).items()
    }  # fmt: skip


def meanwhile(act, stop):
    """Start `act` in a thread; where it fails, the sweep is stopped, so that the test fails and ends."""

    def guarded():
        try:
            act()
        except BaseException:
            stop.request()
            raise

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread
