"""Result records made by hand, and folders of them, for the tests of tables, figures and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from intrinsic_cli.result import RunResult
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store


def result(
    d: int | None,
    score: float,
    *,
    seed: int = 0,
    lr: float = 0.1,
    model: str = "minilm",
    task: str = "sst2",
    kind: str = "did",
    holdout: float | None = None,
    chance: float = 0.5,
    n_eval: int = 1_000_000,
    changes: dict[str, dict[str, Any]] | None = None,
) -> RunResult:
    """What a finished run leaves; `changes` are parts of the spec: {"data": {"max_train": 100}}."""
    tree: dict[str, Any] = {
        "model": {"name": model},
        "task": {
            "name": task, "path": "glue", "config": task, "text": ["sentence"], "label": "label",
            "train": "train", "validation": "validation", "metrics": ["accuracy"],
        },
        "subspace": {"kind": {None: "full", 0: "none"}.get(d, kind)},
        "d": d, "lr": 0.0 if d == 0 else lr, "seed": seed,
    }  # fmt: skip
    for part, values in (changes or {}).items():
        tree[part] = {**tree.get(part, {}), **values}
    spec = RunSpec.from_dict(tree)
    return RunResult(
        run_id=spec.run_id, spec=spec, metric="accuracy", score=score, metrics={"accuracy": score},
        holdout_metrics=None if holdout is None else {"accuracy": holdout}, chance=chance, n_train=4000,
        n_eval=n_eval, d=1000 if d is None else d, m=0, D=1000, steps=100, precision="fp32", device="cpu",
        started="2026-01-02T03:04:05+00:00", seconds={"total": 60.0, "evaluation": 1.0},
        environment={"python": "3.11", "gpu": None}, model_hash="0" * 64, data_hash="1" * 64,
        label_names=("calm", "loud"), path=Path(spec.run_id),
    )  # fmt: skip


def scored(run: RunResult, score: float, metric: str = "accuracy", **changes: Any) -> RunResult:
    """The same run with another score, of another metric perhaps."""
    spec = replace(run.spec, task=replace(run.spec.task, metrics=(metric,)))
    return replace(
        run, spec=spec, run_id=spec.run_id, metric=metric, score=score, metrics={metric: score}, **changes
    )


def study(scores: dict[int, float], full: float, *, seeds: int = 3, **options: Any) -> list[RunResult]:
    """Runs of the same score at every seed: `scores` by d, and full fine-tuning."""
    return [
        result(d, score, seed=seed, **options)
        for d, score in [*scores.items(), (None, full)]
        for seed in range(seeds)
    ]


def save(results: list[RunResult], root: Path) -> Store:
    """A folder with these runs, each with a history of 100 steps."""
    store = Store(root)
    for record in results:
        spec = record.spec
        run = store.run(spec)
        with run.claim():
            run.begin(spec)
            for step in range(1, 101):
                norm = {} if spec.d is None else {"theta_norm": step**0.5}
                run.log(step=step, epoch=0, loss=1 - record.score * step / 100, lr=spec.lr, **norm)
            run.log(step=100, epoch=0, eval_loss=0.5, eval_accuracy=record.score)
            run.finish(record)
    return store
