"""What a run ran on: libraries, commit, machine, and the memory it took."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from intrinsic_cli import __version__

LIBRARIES = ("torch", "transformers", "datasets", "numba", "numpy")
PROC = Path("/proc")


def reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if sys.platform == "linux":
        with suppress(OSError):  # some containers forbid it: then the peak is that of the process
            (PROC / "self/clear_refs").write_text("5")  # VmHWM starts again from the present size


def peak_memory_mb(device: str) -> float:
    """Peak memory of the run in MiB: of the GPU on a GPU, else resident memory."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    for line in _lines(PROC / "self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


@cache
def environment() -> dict[str, Any]:
    """What a repetition of the run needs to know about this installation and machine."""
    here = Path(__file__).parents[1]
    tracked = _git(
        here, "ls-files", "--error-unmatch", "__init__.py"
    )  # and not just somebody's checkout around it
    git = _git(here, "rev-parse", "HEAD") if tracked else None
    return {
        "idim": __version__,
        "commit": git,
        "dirty": bool(_git(here, "status", "--porcelain", "--", str(here))) if git else None,
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "peft": _version("peft"),
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    for line in _lines(PROC / "cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _lines(file: Path) -> list[str]:
    """The lines of a file of the system, none where it can't be read: a run does not end over what it costs."""
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # installed without a word on what it is
        return None


def _git(folder: Path, *words: str) -> str | None:
    """What git answers, or None where the package does not lie in a checkout or there is no git."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
