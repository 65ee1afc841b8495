"""Tasks as points in one low-dimensional space: cosines and distances between the θ's of finished runs.

θ's are comparable where P and θ_0 are the same: one base model, subspace, d, draw version and seed of the space,
which is `projection.seed`, else the run's. E[PᵀP] = I, so ⟨θ_a, θ_b⟩ is also what the inner product of the moves
of all weights is expected to be. Runs of several training seeds in one space say how near two runs of one task
are: the noise floor. λ of SAID and a head trained directly are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.errors import DataError, StoreError
from intrinsic_cli.finetunes.file import SPACE, FineTune, space_of
from intrinsic_cli.render import Answer, Table, differences, flat
from intrinsic_cli.result import RunResult
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import RunDir


@dataclass(frozen=True)
class Space:
    """t tasks whose runs share one space.

    cosines, distances  (t, t) float64, symmetric: means over pairs of runs of two tasks; on the diagonal over
                        pairs of different runs of one task, NaN where there is one run only.
    pairs               (t, t) int64: how many pairs.
    """

    name: str
    d: int
    tasks: tuple[str, ...]
    cosines: NDArray[np.float64]
    distances: NDArray[np.float64]
    pairs: NDArray[np.int64]


def matrices(thetas: Sequence[NDArray[np.floating]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """`cosines`, `distances` and `pairs` of a Space, of one array (runs, d) per task, float.

    Raises DataError at a θ that is zero, which has no direction.
    """
    rows = [np.asarray(theta, dtype=np.float64) for theta in thetas]
    if any(not np.linalg.norm(theta, axis=1).all() for theta in rows):
        raise DataError("a θ is zero: its run learned nothing, so it has no direction")
    shape = (len(rows), len(rows))
    cosines, distances = np.full(shape, np.nan), np.full(shape, np.nan)
    pairs = np.zeros(shape, dtype=np.int64)
    for a, b in combinations_with_replacement(range(len(rows)), 2):
        two = list(combinations(rows[a], 2) if a == b else product(rows[a], rows[b]))
        pairs[a, b] = pairs[b, a] = len(two)
        if two:
            at = [x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for x, y in two]
            cosines[a, b] = cosines[b, a] = np.mean(at)
            distances[a, b] = distances[b, a] = np.mean([np.linalg.norm(x - y) for x, y in two])
    return cosines, distances, pairs


def spaces(results: Sequence[RunResult]) -> list[Space]:
    """The spaces of two runs or more among `results`. A task has the learning rate of its
    best mean score. Raises StoreError where no two runs share a space."""
    groups: dict[tuple[object, ...], dict[tuple[str, str], list[tuple[RunSpec, float, FineTune]]]] = {}
    for result in results:
        spec = result.spec
        if spec.subspace.kind == "full":
            continue
        found = FineTune.of_run(RunDir(result.directory))
        tasks = groups.setdefault(space_of(found), {})
        tasks.setdefault((spec.task.name, result.study), []).append((spec, result.score, found))
    made, settings = [], []
    for tasks in groups.values():
        chosen = {key: _best_rate(runs) for key, runs in sorted(tasks.items())}
        if sum(map(len, chosen.values())) < 2:
            continue
        spec, _, found = next(iter(chosen.values()))[0]
        names = [name for name, _ in chosen]
        labels = [name if names.count(name) == 1 else f"{name} {study[:6]}" for name, study in chosen]
        thetas = [np.stack([f.tensors["theta"].numpy() for _, _, f in runs]) for runs in chosen.values()]
        title = (
            f"{spec.model.label} {spec.subspace.kind.upper()} d={spec.d} {found.projection.kind} "
            f"seed {found.seed}"
        )
        made.append(Space(title, thetas[0].shape[1], tuple(labels), *matrices(thetas)))
        moved = {key: getattr(found.subspace, key) for key in SPACE}
        settings.append(flat({"weights": found.weights_hash[:12], "draw": found.version, **moved}))
    if not made:
        raise StoreError(
            "no two finished subspace runs here share a space; train several tasks, or several seeds with "
            "projection.seed=0, under one draw version"
        )
    titles = [space.name for space in made]
    more = differences(settings, titles, titles)
    named = [replace(space, name=f"{space.name} {m}".rstrip()) for space, m in zip(made, more, strict=True)]
    return sorted(named, key=lambda space: (space.name, space.tasks))


def _best_rate(runs: Sequence[tuple[RunSpec, float, FineTune]]) -> list[tuple[RunSpec, float, FineTune]]:
    scores: dict[float, list[float]] = {}
    for spec, score, _ in runs:
        scores.setdefault(spec.lr, []).append(score)
    best = max(scores, key=lambda lr: float(np.mean(scores[lr])))
    return sorted((run for run in runs if run[0].lr == best), key=lambda run: run[0].seed)


def records(found: Sequence[Space]) -> list[dict[str, Any]]:
    """One record for every two tasks of a space, and for each task with itself; None where there is no pair."""
    return [
        {
            "space": space.name, "task_a": space.tasks[a], "task_b": space.tasks[b],
            "cosine": _number(space.cosines[a, b]), "distance": _number(space.distances[a, b]),
            "pairs": int(space.pairs[a, b]),
        }
        for space in found
        for a, b in combinations_with_replacement(range(len(space.tasks)), 2)
    ]  # fmt: skip


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def answer(found: Sequence[Space]) -> Answer:
    """What `idim tasks` says."""
    blocks = []
    for space in found:
        for what, matrix in (("cosine", space.cosines), ("distance", space.distances)):
            body = [
                [name, *("—" if np.isnan(value) else f"{value:.3f}" for value in row)]
                for name, row in zip(space.tasks, matrix, strict=True)
            ]
            blocks.append(Table([what, *space.tasks], body, space.name))
    notes = [
        f"{space.name}: unrelated directions have cosine 0 ± {space.d**-0.5:.3f}. On the diagonal: pairs of "
        "training seeds of one task in one space, the noise floor."
        for space in found
    ]
    return Answer(blocks, notes, records(found))


def slug(space: Space) -> str:
    """A file name for the space's figure."""
    return "tasks-" + re.sub(r"[^A-Za-z0-9._=]+", "-", space.name)
