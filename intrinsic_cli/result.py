"""What a run measured, as a checked record, and what has become of a run.

This module alone knows the keys of `result.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from intrinsic_cli.errors import ConfigError, DamagedError, StoreError
from intrinsic_cli.record import record
from intrinsic_cli.spec import LARGEST, RunSpec

FORMAT = 1  # of result.json


class RunState(StrEnum):
    """What has become of a run: what its directory says, and what a launcher adds to that."""

    DONE = "done"  # its result is whole
    RUNNING = "running"  # somebody holds its claim
    FAILED = "failed"  # it left a reason, and nobody has begun it again
    PRUNED = "pruned"  # ended at an evaluation that said it can't matter; it goes on where pruning is off
    PENDING = "pending"  # none of these: not begun, or interrupted
    UNREADABLE = "unreadable"  # what it left can't be read, or is not what a run leaves
    STOPPED = "stopped"  # asked to leave; it goes on from its snapshot next time
    ELSEWHERE = "elsewhere"  # another process holds it

    @property
    def over(self) -> bool:
        """Whether the run has ended for good, unless somebody asks for another attempt."""
        return self in (RunState.DONE, RunState.FAILED, RunState.PRUNED)


@dataclass(frozen=True)
class RunBound:
    """What `idim bound` found of a run, the content of its `bound.json`: with probability at least 1 − `delta`, its
    model in `levels` levels has a true error rate of at most `risk`, which pays for `bits`.

    `valid` is False where the base model had learned from the task's rows, so that nothing is bounded.
    """

    risk: float
    delta: float
    levels: int
    bits: float
    valid: bool

    def __post_init__(self) -> None:
        for name in ("risk", "delta"):
            if not 0 <= getattr(self, name) <= 1:
                raise DamagedError(f"{name}={getattr(self, name)} is not from 0 to 1")

    @classmethod
    def from_dict(cls, tree: object) -> RunBound:
        """The inverse of `dataclasses.asdict`. Raises DamagedError as `RunResult.from_dict`."""
        return record(cls, _mapping(tree), "bound", DamagedError)


@dataclass(frozen=True)
class RunResult:
    """What one finished run measured. Counts of rows are rows; D, d and m count numbers.

    run_id              the name of its directory when it was trained
    spec                what the run is
    metric              the primary metric: the name of `score`
    score               its value on the validation rows
    metrics             every metric on the validation rows, by name; `metric` is one of them
    holdout_metrics     the same on the held-out rows of the training split; None where none were held out
    train_metrics       the same on the rows trained on; None where `train.score_train` did not ask for it
    chance              the score of the best constant answer on the validation rows
    higher_is_better    whether a higher `score` is a better one, unlike a loss
    n_train, n_eval, n_holdout
                        rows trained on, scored and held out
    d                   numbers trained, λ and a head trained directly among them; D for full fine-tuning, and 0 for
                        the model before training
    m                   λs among them: one per group for SAID, else 0
    D                   weights that P moves, or that full fine-tuning trains; of an adapter, and before training,
                        all of the model's
    steps               optimizer steps taken
    projection_version  draw version of P; None without P
    precision           `fp32`, `bf16` or `pure_bf16`
    device              `cpu`, or the kind and name of the accelerator
    started             when training began: ISO 8601, UTC, to the second
    seconds             wall time by part, in seconds: `total` has all of them, `evaluation` is one
    resumed             the steps from which a run went on that had been interrupted, rising
    processes           how many trained it together
    sent_bytes_per_step bytes that each process sends the others in a step; 0 for one process
    peak_memory_mb      peak memory in MiB: of the GPU on a GPU, else resident memory
    theta_hash          SHA-256 of the tensors' names, dtypes, shapes and numbers; None where none are kept
    model_hash          SHA-256 of the base model's weights
    settings_hash       SHA-256 of its config, tokenizer and buffers
    data_hash           SHA-256 of the rows
    label_names         the class names in the order of their ids; empty for regression
    environment         versions, commit, machine: what a repetition needs to know, by name
    path                the directory it was read from; not part of the file

    What a file of an earlier version lacks is None, or the only value that there was then.
    """

    run_id: str
    spec: RunSpec
    metric: str
    score: float
    metrics: Mapping[str, float]
    holdout_metrics: Mapping[str, float] | None
    chance: float
    n_train: int
    n_eval: int
    d: int
    m: int
    D: int
    steps: int
    precision: str
    device: str
    started: str
    seconds: Mapping[str, float]
    environment: Mapping[str, str | int | float | bool | None]
    n_holdout: int = 0
    train_metrics: Mapping[str, float] | None = None
    higher_is_better: bool = True
    projection_version: int | None = None
    resumed: tuple[int, ...] = ()
    processes: int = 1
    sent_bytes_per_step: int = 0
    peak_memory_mb: float | None = None
    theta_hash: str | None = None
    model_hash: str | None = None
    settings_hash: str | None = None
    data_hash: str | None = None
    label_names: tuple[str, ...] = ()
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        least = {
            "n_train": 0,
            "n_eval": 1,
            "n_holdout": 0,
            "d": 0,
            "m": 0,
            "D": 1,
            "steps": 0,
            "processes": 1,
        }
        for name, low in least.items():
            if not low <= getattr(self, name) <= LARGEST:
                raise DamagedError(f"{name}={getattr(self, name)} is not from {low} to {LARGEST}")
        for name in ("metrics", "holdout_metrics", "train_metrics"):
            scores = getattr(self, name)
            if scores is not None and self.metric not in scores:
                raise DamagedError(f"{name} lacks {self.metric}, the metric of the run")
        if self.seconds.get("total", -1) < 0:
            raise DamagedError("seconds lacks a total of at least 0")
        spec = self.spec
        told = [
            ("metric", self.metric, spec.task.metrics[0]),
            ("score", self.score, self.metrics[self.metric]),
        ]
        if spec.subspace.has_theta:
            told.append(("d", self.d, spec.d))
        for name, value, other in told:
            if value != other:
                raise DamagedError(f"{name}={value} contradicts what it says elsewhere, {other}")

    @property
    def study(self) -> str:
        """The study of its spec."""
        return self.spec.study

    @property
    def conditions(self) -> dict[str, str]:
        """What its scores depend on beside its spec, as recorded: rows, weights, precision, and what a good score
        is. Scores under other conditions are not averaged with them."""
        hashes = {"data_hash": self.data_hash, "model_hash": self.model_hash}
        return {name: (value or "unknown")[:8] for name, value in hashes.items()} | {
            "precision": self.precision, "chance": f"{self.chance:.6g}",
            "better": "higher" if self.higher_is_better else "lower",
        }  # fmt: skip

    @property
    def holdout(self) -> float | None:
        """The score on the held-out rows; None where none were held out."""
        return None if self.holdout_metrics is None else self.holdout_metrics[self.metric]

    @property
    def total_seconds(self) -> float:
        """Wall time of the run in seconds, over all its attempts."""
        return self.seconds["total"]

    @property
    def directory(self) -> Path:
        """The directory it was read from. Raises StoreError for a record that was not read from one."""
        if self.path is None:
            raise StoreError(f"the record of {self.run_id} was not read from a run's directory")
        return self.path

    def to_dict(self) -> dict[str, Any]:
        """The content of `result.json`: plain dicts, lists, numbers and text."""
        tree = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "path"}
        plain = {
            "spec": self.spec.to_dict(), "metrics": dict(self.metrics), "seconds": dict(self.seconds),
            "holdout_metrics": None if self.holdout_metrics is None else dict(self.holdout_metrics),
            "train_metrics": None if self.train_metrics is None else dict(self.train_metrics),
            "environment": dict(self.environment), "resumed": list(self.resumed),
            "label_names": list(self.label_names),
        }  # fmt: skip
        return {"format": FORMAT, "study": self.study, **tree, **plain}

    @classmethod
    def from_dict(cls, tree: object, path: Path | None = None) -> RunResult:
        """The inverse of `to_dict`, read from `path`. Keys that it does not know are left out.

        Raises DamagedError at a field that is missing, of another type, not finite or out of its range, and
        StoreError at a format that this idim does not know.
        """
        tree = _mapping(tree)
        version = tree.get("format", FORMAT)
        if not isinstance(version, int) or isinstance(version, bool):
            raise DamagedError(f"format={version!r} is no number")
        if version != FORMAT:
            raise StoreError(
                f"it is of format {version} and this idim reads {FORMAT}; use the idim that wrote it, or "
                "another output_dir"
            )
        known = {f.name for f in fields(cls)} - {"path"}
        try:
            found = record(cls, {k: v for k, v in tree.items() if k in known}, "result", DamagedError)
        except ConfigError as error:  # of the spec's own checks
            raise DamagedError(str(error)) from error
        return replace(found, path=path)


def _mapping(tree: object) -> Mapping[str, Any]:
    """What a file holds, where it is a record at all. Raises DamagedError."""
    if not isinstance(tree, Mapping):
        raise DamagedError(f"it holds {type(tree).__name__} and no record")
    return tree
