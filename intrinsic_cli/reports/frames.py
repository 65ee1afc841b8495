"""What notebooks ask for: finished runs and their d90s as data frames, and a d90 of one's own numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intrinsic_cli.errors import DataError
from intrinsic_cli.reports import curves
from intrinsic_cli.reports.records import records
from intrinsic_cli.result import RunResult
from intrinsic_cli.statistics.estimate import Estimate, estimate
from intrinsic_cli.statistics.points import Point
from intrinsic_cli.statistics.targets import THRESHOLD
from intrinsic_cli.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame


def results(folder: str | Path) -> DataFrame:
    """The finished runs of an output folder, a row each; None where a run has no such number.

    Columns: run_id, study, model, revision, task, subspace, adapter, r (its size), projection, normalize, d, m, D
    (numbers), lr, seed, metric, score, holdout (the score on rows held out of training), chance, n_train, n_eval
    (rows), steps, seconds, precision, device, path. Raises StoreError where the folder or a result can't be read.
    """
    from pandas import DataFrame

    return DataFrame([_row(result) for result in Store(folder).results()])


def _row(result: RunResult) -> dict[str, Any]:
    spec = result.spec
    return {
        "run_id": result.run_id, "study": result.study, "model": spec.model.label,
        "revision": spec.model.revision, "task": spec.task.title, "subspace": spec.subspace.kind,
        "adapter": spec.adapter.kind, "r": spec.adapter.r,
        "projection": spec.projection.kind if spec.subspace.has_theta else None,
        "normalize": spec.subspace.normalize if spec.subspace.has_theta else None, "d": result.d, "m": result.m,
        "D": result.D, "lr": spec.lr, "seed": spec.seed, "metric": result.metric, "score": result.score,
        "holdout": result.holdout, "chance": result.chance, "n_train": result.n_train,
        "n_eval": result.n_eval, "steps": result.steps, "seconds": result.total_seconds,
        "precision": result.precision, "device": result.device, "path": str(result.path),
    }  # fmt: skip


def summarize(
    folder: str | Path,
    thresholds: Sequence[float] = (THRESHOLD,),
    selection: str = "validation",
    *,
    normalised: bool = False,
) -> DataFrame:
    """The d90s of an output folder, a row for each curve and threshold: the records of `idim summarize`.

    `selection` is what learning rates are chosen by, `validation` or `holdout`; `normalised` adds a row for each
    about the share of the way from chance, which every row has under `d90_chance` too. Raises StoreError where no
    subspace run has finished, ConfigError at an option.
    """
    from pandas import DataFrame

    found = curves.estimates(curves.of(Store(folder).read()), thresholds=thresholds, selection=selection)
    return DataFrame(records(found, normalised=normalised))


def d90(
    points: Iterable[Point | tuple[int, float]],
    baseline: Iterable[Point | float],
    *,
    chance: float,
    threshold: float = THRESHOLD,
    **options: Any,
) -> Estimate:
    """The d90 of scores from anywhere: `d90([(100, 0.60), (400, 0.84)], [0.80], chance=0.5).d_t`.

    points      (d, score) of each subspace run, or a `Point` where learning rates and seeds matter.
    baseline    the score of each full fine-tuning.
    chance      the score of the best constant answer; `threshold` 0.9 asks for 90 % of the baseline's.
    options     of `intrinsic_cli.statistics.estimate.estimate`: n_eval, selection, definition, confidence, ...

    Raises ConfigError at an option, and DataError at a score, that can't be used.
    """
    runs = [p if isinstance(p, Point) else _point(p, seed) for seed, p in enumerate(points)]
    if isinstance(baseline, str) or not isinstance(baseline, Iterable):
        raise DataError(f"baseline={baseline!r} is no list of scores; write [{baseline}]")
    full = [p if isinstance(p, Point) else _point((None, p), seed) for seed, p in enumerate(baseline)]
    return estimate(runs, full, chance=chance, threshold=threshold, **options)


def _point(pair: Any, seed: int) -> Point:
    try:
        d, score = pair
        return Point(d, seed, 1.0, float(score))
    except (TypeError, ValueError) as error:
        raise DataError(f"{pair!r} is not (d, score); give pairs of numbers, or a Point") from error
