"""Tasks as points in one low-dimensional space: cosines and distances between the θ's of finished runs.

θ's are comparable where P and θ_0 are the same: one base model, subspace, d, draw version and seed of the space,
which is `projection.seed`, else the run's. What is compared are the moves of the weights that P moves: tensor i
moves by λ P_i θ with its group's λ (1 for DID), and E[P_iᵀP_i] = s_i I, with s_i = D_i/D of `normalize=global` and
1 of `tensor`. So two moves have the expected inner product ⟨θ_a, θ_b⟩ Σ_g c_g λ_ag λ_bg, where c_g sums the s_i
of group g. For DID that is ⟨θ_a, θ_b⟩ times 1, or times the number of tensors. Runs of several training seeds in
one space say how near two runs of one task are: the noise floor. Runs on permuted labels say how near those come
that have the rows in common and nothing to learn from them: the null. A head trained directly is left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.errors import DataError, StoreError
from intrinsic_cli.finetunes.arithmetic import space_of
from intrinsic_cli.finetunes.file import SPACE, FineTune
from intrinsic_cli.finetunes.rebuild import base_of
from intrinsic_cli.render import Answer, Table
from intrinsic_cli.result import RunResult
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.settings import differences, flat, natural
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.statistics.points import Point
from intrinsic_cli.statistics.rates import best_rate
from intrinsic_cli.statistics.runs import scale
from intrinsic_cli.subspace.selection import group_of, select

log = logging.getLogger(__name__)


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


def matrices(
    thetas: Sequence[NDArray[np.floating]], scales: Sequence[NDArray[np.floating]] | None = None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """`cosines`, `distances` and `pairs` of a Space, of one array (runs, d) per task, float.

    `scales` is one array (runs, groups) per task, √c_g λ_g of each run; None is 1 for all.
    Raises DataError at a move that is zero, which has no direction.
    """
    if scales is None:
        scales = [np.ones((len(theta), 1)) for theta in thetas]
    moves = [
        [
            (np.asarray(theta, np.float64), np.asarray(scale, np.float64))
            for theta, scale in zip(*task, strict=True)
        ]
        for task in zip(thetas, scales, strict=True)
    ]
    if any(_inner(move, move) == 0 for task in moves for move in task):
        raise DataError("a θ is zero: its run learned nothing, so it has no direction")
    shape = (len(moves), len(moves))
    cosines, distances = np.full(shape, np.nan), np.full(shape, np.nan)
    pairs = np.zeros(shape, dtype=np.int64)
    for a, b in combinations_with_replacement(range(len(moves)), 2):
        two = list(combinations(moves[a], 2) if a == b else product(moves[a], moves[b]))
        pairs[a, b] = pairs[b, a] = len(two)
        if two:
            xx, yy, xy = np.array([(_inner(x, x), _inner(y, y), _inner(x, y)) for x, y in two]).T
            cosines[a, b] = cosines[b, a] = np.mean(xy / np.sqrt(xx * yy))
            distances[a, b] = distances[b, a] = np.mean(np.sqrt(np.maximum(0, xx + yy - 2 * xy)))
    return cosines, distances, pairs


def _inner(x: tuple[NDArray[Any], NDArray[Any]], y: tuple[NDArray[Any], NDArray[Any]]) -> float:
    return float((x[0] @ y[0]) * (x[1] @ y[1]))


def shares(found: FineTune) -> NDArray[np.float64]:
    """c_g of the groups of a space, (m,); of DID, whose weights are one group, (1,).

    The base model's tensors are looked at where the answer depends on them. Raises ModelError or StoreError.
    """
    spec = found.subspace
    if spec.kind == "did" and spec.normalize == "global":
        return np.ones(1)
    base = base_of(found, own=True)
    moved, _ = select(base.model, spec, base.head)
    D = sum(p.numel() for p in moved.values())
    sums: dict[str, float] = {}
    for name, p in moved.items():
        group = group_of(name, spec.groups, base.head) if spec.kind == "said" else ""
        sums[group] = sums.get(group, 0.0) + (p.numel() / D if spec.normalize == "global" else 1.0)
    return np.array(list(sums.values()))


def spaces(results: Sequence[RunResult]) -> list[Space]:
    """The spaces of two runs or more among `results`. A task has the learning rate that a table would choose. What
    can't be read is left out, with a warning. Raises StoreError where no two runs share a space."""
    groups: dict[tuple[object, ...], dict[tuple[str, str, str], list[tuple[RunResult, FineTune]]]] = {}
    for result in results:
        spec = result.spec
        if not spec.subspace.has_theta or spec.adapter:  # a P over an adapter's numbers makes no linear move
            continue
        try:
            found = FineTune.of_run(RunDir(result.directory))
        except StoreError as error:
            log.warning("left out: %s", error)
            continue
        tasks = groups.setdefault(space_of(found), {})
        key = (_task(spec), result.study, result.conditions["data_hash"])
        tasks.setdefault(key, []).append((result, found))
    made, settings = [], []
    for tasks in groups.values():
        chosen = {key: _best_rate(runs) for key, runs in sorted(tasks.items())}
        if sum(map(len, chosen.values())) < 2:
            continue
        result, found = next(iter(chosen.values()))[0]
        spec = result.spec
        thetas = [np.stack([f.tensors["theta"].numpy() for _, f in runs]) for runs in chosen.values()]
        root = np.sqrt(shares(found))
        scales = [np.stack([root * _lam(f) for _, f in runs]) for runs in chosen.values()]
        title = (
            f"{spec.model.label} {spec.subspace.kind.upper()} d={spec.d} {found.projection.kind} "
            f"seed {found.seed}"
        )
        made.append(Space(title, thetas[0].shape[1], _labels(list(chosen)), *matrices(thetas, scales)))
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
    return sorted(named, key=lambda space: (natural(space.name), space.tasks))


def _task(spec: RunSpec) -> str:
    """The task's name, told apart from the same on permuted labels."""
    return spec.task.title if spec.data.permute_labels is None else f"{spec.task.title} permuted"


def _lam(found: FineTune) -> NDArray[Any]:
    return found.tensors["lam"].numpy() if "lam" in found.tensors else np.ones(1)


def _labels(tasks: Sequence[tuple[str, str, str]]) -> tuple[str, ...]:
    """Names of tasks, each with its study, and then its data, where others have the same."""
    named: list[str] = []
    for name, study, data in tasks:
        alike = [key for key in tasks if key[0] == name]
        parts = [name] if len(alike) == 1 else [name, study[:6]]
        parts += [data] if sum(key[1] == study for key in alike) > 1 else []
        named.append(" ".join(parts))
    return tuple(named)


def _best_rate(runs: Sequence[tuple[RunResult, FineTune]]) -> list[tuple[RunResult, FineTune]]:
    """The runs at the learning rate that a table would choose, by seed."""
    best = best_rate([Point.of(result) for result, _ in runs], scale(runs[0][0]))
    assert best is not None  # the best of finished runs has not collapsed
    return sorted((run for run in runs if run[0].spec.lr == best[0]), key=lambda run: run[0].spec.seed)


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
