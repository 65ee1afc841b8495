"""One run, from the claim on its directory to its published result."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from intrinsic_cli import __version__
from intrinsic_cli.errors import OutOfMemory, Stopped, StoreError
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import FORMAT, RunDir, Store
from intrinsic_cli.tasks import metrics
from intrinsic_cli.training import ranks
from intrinsic_cli.training.inputs import Load
from intrinsic_cli.training.snapshot import Snapshot
from intrinsic_cli.training.stop import Stop
from intrinsic_cli.training.trainer import Outcome, kin, train

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "numba", "numpy")


def execute(
    spec: RunSpec,
    store: Store,
    load: Load,
    *,
    progress: bool = False,
    stop: Stop | None = None,
) -> dict[str, Any] | None:
    """Train `spec` in its directory and return its result; None where another process holds the run.

    A run that was stopped or killed goes on from its last snapshot. Under `torchrun` all processes call this
    and the first one alone has the directory. Any error of the run is recorded with its traceback and raised
    again; what the output folder itself can't take is not recorded there, and leaves the run pending.
    """
    ranks.start()
    run = store.run(spec)
    with run.claim() if ranks.rank() == 0 else nullcontext(True) as mine:
        if not ranks.told(mine):
            return None
        if (result := ranks.told(run.result() if run.state == "done" else None)) is not None:
            return result
        try:
            result = _train(spec, run, load, progress, stop)
        except (StoreError, Stopped):
            raise
        except Exception as error:  # an interrupted run stays pending
            known = _out_of_memory(error) or error
            if ranks.rank() == 0:  # it has the directory; the others' errors are said by their commands
                run.fail(known)
            if known is not error:
                raise known from error
            raise
        if ranks.rank() == 0:
            run.finish(result)
        return result


def train_one(spec: RunSpec, store: Store, load: Load, stop: Stop, *, progress: bool = False) -> str:
    """Train one run and say what became of it, as `Launcher.launch` does. Its errors are in its directory."""
    try:
        result = execute(spec, store, load, progress=progress, stop=stop)
    except Stopped:
        return "stopped"
    except StoreError as error:  # the folder could not take it, so it is said here or nowhere
        log.error("%s: %s", spec.run_id, error)
        return "failed"
    except Exception:
        return "failed"
    return "elsewhere" if result is None else "done"


def _train(spec: RunSpec, run: RunDir, load: Load, progress: bool, stop: Stop | None) -> dict[str, Any]:
    """Train in the claimed directory of the run; returns its result."""
    first = ranks.rank() == 0
    if first:
        run.plan(spec)
    _reset_peak_memory()
    started = datetime.now(UTC)
    inputs = load(spec)
    snapshot = ranks.told(_begin(spec, run, kin(spec, inputs)) if first else None)
    outcome = train(
        spec, inputs, run.log if first else lambda **_: None, folder=run.path, progress=progress and first,
        save=partial(_save, run) if first else None, resume=snapshot, stop=stop,
    )  # fmt: skip
    theta = _theta(spec, outcome)
    if first:
        run.theta(theta)
    primary = spec.task.metrics[0]
    return {
        "format": FORMAT,
        "run_id": spec.run_id,
        "study": spec.study,
        "spec": spec.to_dict(),
        "metric": primary,
        "score": outcome.metrics[primary],
        "metrics": outcome.metrics,
        "holdout_metrics": outcome.holdout,
        "chance": metrics.chance(primary, inputs.validation.labels),
        "n_train": len(inputs.train),
        "n_eval": len(inputs.validation),
        "n_holdout": len(inputs.holdout) if inputs.holdout is not None else 0,
        "d": outcome.d,
        "m": outcome.m,
        "D": outcome.D,
        "steps": outcome.steps,
        "projection_version": outcome.projection_version,
        "precision": outcome.precision,
        "device": outcome.device,
        "started": started.isoformat(timespec="seconds"),
        "seconds": outcome.seconds,
        "resumed": outcome.resumed,
        "processes": outcome.processes,
        "sent_bytes_per_step": outcome.sent_bytes,
        "peak_memory_mb": _peak_memory_mb(outcome.device),
        "theta_hash": _hash(outcome.tensors) if outcome.tensors else None,
        "model_hash": inputs.base.weights_hash,
        "data_hash": inputs.data_hash,
        "label_names": list(inputs.label_names),
        "environment": environment(),
    }


def _theta(spec: RunSpec, outcome: Outcome) -> bytes:
    """θ and λ, or the weights that a full fine-tuning keeps, with the spec: the whole fine-tune as a file."""
    metadata = {"format": "idim-1", "spec": json.dumps(spec.to_dict(), sort_keys=True)}
    if outcome.projection_version is not None:
        metadata["projection_version"] = str(outcome.projection_version)
    return save(outcome.tensors, metadata=metadata)


def _hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors' names, dtypes, shapes and numbers: equal for equal θ, as that of the file is not,
    whose metadata safetensors writes in an order of chance."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _out_of_memory(error: Exception) -> OutOfMemory | None:
    """`error` as what it is where memory ran out, which torch's CPU allocator says in words alone."""
    words = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in words:
        cause = " ".join(words.split())[:200]
        return OutOfMemory(
            f"ran out of memory ({cause}); use a smaller train.batch_size with train.accumulate, "
            "train.precision=pure_bf16 or projection.cache=stream"
        )
    return None


def _begin(spec: RunSpec, run: RunDir, key: Mapping[str, Any]) -> Snapshot | None:
    """Clear the directory for an attempt, but for a snapshot of the same `key` to go on from: returns it."""
    content = run.snapshot()
    snapshot = None if content is None else Snapshot.from_bytes(content)
    if snapshot and (snapshot.state["kin"] != key or run.history_size() < snapshot.state["history"]):
        snapshot = None
    run.begin(spec, snapshot.state["history"] if snapshot else None)
    return snapshot


def _save(run: RunDir, snapshot: Snapshot) -> None:
    """Publish a snapshot with the length of the history that belongs to it."""
    run.save(replace(snapshot, state=snapshot.state | {"history": run.history_size()}).to_bytes())


def _reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if sys.platform == "linux":
        with suppress(OSError):  # some containers forbid it: then the peak is that of the process
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from the present size


def _peak_memory_mb(device: str) -> float:
    """Peak memory of the run in MiB: of the GPU on a GPU, else resident memory."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
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
        **{name: version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _git(folder: Path, *words: str) -> str | None:
    """What git answers, or None where the package does not lie in a checkout or there is no git."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
