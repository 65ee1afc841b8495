"""One run, from the claim on its directory to its published result."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch

from intrinsic_cli.errors import DamagedError, OutOfMemory, Pruned, Stopped, StoreError, is_failure
from intrinsic_cli.files import is_full
from intrinsic_cli.record import record
from intrinsic_cli.result import RunResult, RunState
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.statistics.pruning import Limit
from intrinsic_cli.store import Store
from intrinsic_cli.training import ranks, theta, trackers, untrained
from intrinsic_cli.training.environment import environment, peak_memory_mb, reset_peak_memory
from intrinsic_cli.training.inputs import Inputs, Load
from intrinsic_cli.training.snapshot import Snapshot, resume_key
from intrinsic_cli.training.stop import Stop
from intrinsic_cli.training.trainer import Outcome, Trainer, ignore

log = logging.getLogger(__name__)


def execute(
    spec: RunSpec,
    store: Store,
    load: Load,
    *,
    progress: bool = False,
    stop: Stop | None = None,
    limits: Sequence[Limit] = (),
) -> RunResult | None:
    """Train `spec` in its directory and return its result; None where another process holds the run.

    Raises Pruned at an evaluation at which one of the `limits` ends the run, which a later call goes on from.

    A run that was stopped or killed goes on from its last snapshot. Under `torchrun` all processes call this
    and the first one alone has the directory. Any error of the run is recorded with its traceback and raised
    again; what the output folder itself can't take is not recorded there, and leaves the run pending.
    """
    ranks.start()
    run = store.run(spec)
    with run.claim() if ranks.rank() == 0 else nullcontext(True) as mine:
        if not ranks.told(mine):
            return None
        if (result := ranks.told(_finished(run) if ranks.rank() == 0 else None)) is not None:
            return result
        try:
            result = _train(spec, run, load, progress, stop, limits)
        except (StoreError, Stopped):
            raise
        except Pruned as end:
            if ranks.rank() == 0:
                run.prune(end.record)
            raise
        except BaseException as error:
            if not is_failure(error):  # an interrupted run stays pending
                raise
            known = _out_of_memory(error) or error
            if ranks.rank() == 0:  # it has the directory; the others' errors are said by their commands
                run.fail(known)
            if known is not error:
                raise known from error
            raise
        if ranks.rank() == 0:
            run.finish(result)
        return result


def train_one(spec: RunSpec, store: Store, load: Load, stop: Stop, *, progress: bool = False) -> RunState:
    """Train one run and say what became of it, as `Launcher.launch` does. Its errors are in its directory.

    Raises StoreError where the disk is full, which no other run would find otherwise.
    """
    try:
        limits = _limits(store.run(spec))
        result = execute(spec, store, load, progress=progress, stop=stop, limits=limits)
    except Stopped:
        return RunState.STOPPED
    except Pruned:
        return RunState.PRUNED
    except StoreError as error:  # the folder could not take it, so it is said here or nowhere
        if is_full(error):
            raise
        log.error("%s: %s", spec.run_id, error)
        taken = store.run(spec).state is RunState.RUNNING  # over by another process
        return RunState.ELSEWHERE if taken else RunState.FAILED
    except BaseException as error:
        if not is_failure(error):
            raise
        return RunState.FAILED
    return RunState.ELSEWHERE if result is None else RunState.DONE


def _limits(run: RunDir) -> list[Limit]:
    """At which scores the run's driver wants it ended; none, with a word, where that can't be read."""
    try:
        return [record(Limit, tree, "limit", DamagedError) for tree in run.limits()]
    except StoreError as error:
        log.warning("%s; the run is trained to its end", error)
        return []


def _finished(run: RunDir) -> RunResult | None:
    """The run's result; None where there is none, or one to be made again. Raises StoreError at one to keep."""
    try:
        return run.result()
    except DamagedError:
        return None


def _train(
    spec: RunSpec, run: RunDir, load: Load, progress: bool, stop: Stop | None, limits: Sequence[Limit]
) -> RunResult:
    """Train in the claimed directory of the run; returns its result."""
    first = ranks.rank() == 0
    if first:
        run.plan(spec)
    reset_peak_memory()
    started = datetime.now(UTC)
    inputs = load(spec)
    outcome = _trained(spec, inputs, run, progress, stop, limits)
    if first:
        spared = bool(spec.adapter and inputs.base.idle)
        run.theta(theta.to_bytes(spec, outcome.tensors, outcome.projection_version, spared=spared))
        run.keep_outcomes(outcome.answers)
    return _result(spec, run, inputs, outcome, started.isoformat(timespec="seconds"))


def _result(spec: RunSpec, run: RunDir, inputs: Inputs, outcome: Outcome, started: str) -> RunResult:
    task = inputs.task
    return RunResult(
        run_id=run.path.name,
        spec=spec,
        metric=task.primary,
        score=outcome.metrics[task.primary],
        metrics=outcome.metrics,
        holdout_metrics=outcome.holdout,
        train_metrics=outcome.train,
        chance=task.chance(task.primary, inputs.validation),
        higher_is_better=task.higher_is_better,
        n_train=len(inputs.train),
        n_eval=len(inputs.validation),
        n_holdout=len(inputs.holdout) if inputs.holdout is not None else 0,
        d=outcome.d,
        m=outcome.m,
        D=outcome.D,
        steps=outcome.steps,
        projection_version=outcome.projection_version,
        precision=outcome.precision,
        device=outcome.device,
        started=started,
        seconds=outcome.seconds,
        resumed=tuple(outcome.resumed),
        processes=outcome.processes,
        sent_bytes_per_step=outcome.sent_bytes,
        peak_memory_mb=peak_memory_mb(outcome.device),
        theta_hash=theta.fingerprint(outcome.tensors) if outcome.tensors else None,
        model_hash=inputs.base.weights_hash,
        settings_hash=inputs.base.settings_hash,
        data_hash=inputs.data_hash,
        label_names=tuple(inputs.label_names),
        environment=environment(),
        path=run.path,
    )


def _trained(
    spec: RunSpec, inputs: Inputs, run: RunDir, progress: bool, stop: Stop | None, limits: Sequence[Limit]
) -> Outcome:
    """Train from the last snapshot on, if there is one. The first process alone writes files."""
    first = ranks.rank() == 0
    snapshot = ranks.told(_begin(spec, run, resume_key(spec, inputs)) if first else None)
    with trackers.tracked(spec.tracker if first else "none", spec, run.path) as track:

        def record(steps: int = 0, **values: float) -> None:
            run.log(steps=steps, **values)
            track(**values)

        if spec.subspace.kind == "none":
            return untrained.measure(spec, inputs, log=record if first else ignore, beat=run.beat)

        def fresh() -> Trainer:
            if not first:
                return Trainer(spec, inputs)
            return Trainer(
                spec,
                inputs,
                log=record,
                save=partial(_save, run),
                beat=run.beat,
                progress=progress,
                limits=limits,
            )

        trainer = fresh()
        if snapshot is not None and not _resumed(trainer, snapshot):
            trainer.space.close()
            if first:
                run.begin(spec)
            trainer = fresh()
        return trainer.run(stop)


def _resumed(trainer: Trainer, snapshot: Snapshot) -> bool:
    """Have the trainer go on from a snapshot. One that is whole and yet not this run's is passed over."""
    try:
        trainer.load_state_dict(snapshot)
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        log.warning(
            "%s: the snapshot is of another run (%s); the run begins anew", trainer.spec.run_id, error
        )
        return False
    return True


def _out_of_memory(error: BaseException) -> OutOfMemory | None:
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
    snapshot = None
    if (content := run.snapshot()) is not None:
        try:
            snapshot = Snapshot.from_bytes(content)
        except DamagedError as error:
            log.warning("%s: the snapshot is damaged (%s); the run begins anew", run.path, error)
    if snapshot and (why := _not_of(snapshot, run, key)):
        log.warning("%s: the snapshot is of %s; the run begins anew", run.path, why)
        snapshot = None
    run.begin(spec, snapshot.state["history"] if snapshot else None)
    return snapshot


def _not_of(snapshot: Snapshot, run: RunDir, key: Mapping[str, Any]) -> str:
    """Why a run of `key` can't go on from the snapshot: what it is of; nothing where it can."""
    old = snapshot.state.get("resume_key")
    if not isinstance(old, dict):
        return "nothing that this idim knows"
    if other := [name for name in {**old, **key} if old.get(name) != key.get(name)]:
        return " and ".join(f"{name} {old.get(name)!s:.20}, not {key.get(name)!s:.20}" for name in other)
    return "a longer history" if run.history_size() < snapshot.state["history"] else ""


def _save(run: RunDir, snapshot: Snapshot) -> None:
    """Publish a snapshot with the length of the history that belongs to it."""
    run.save(replace(snapshot, state=snapshot.state | {"history": run.history_size()}).to_bytes())
