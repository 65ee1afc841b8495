"""A sweep that ends runs which can't matter: the order of its runs, and at which scores each ends.

A run is judged by finished runs of earlier waves alone. So the same command with the same scores takes the same
decisions, with any number of slots, and after a kill.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict

import numpy as np

from intrinsic_cli.errors import StoreError
from intrinsic_cli.result import RunResult
from intrinsic_cli.rundir import Look, RunDir
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.statistics import runs
from intrinsic_cli.statistics.pruning import ABOVE, Known, Track, first
from intrinsic_cli.statistics.rows import sampling_variance
from intrinsic_cli.store import Store, Survey

# Of a wave: how often the row of sizes was halved, -1 for full fine-tuning, and how far the rate is from the first.
Rank = tuple[int, int]


def track(result: RunResult) -> Track:
    """A finished run with what its history says before its end. Raises DamagedError where that can't be read."""
    point, name = runs.finished(result), f"eval_{result.metric}"
    history = RunDir(result.directory).history()
    before = {int(line["step"]): line[name] for line in history if name in line}
    variance = float(sampling_variance(result.metric, np.array(result.score), result.n_eval, result.chance))
    if point.rows is not None:
        variance = float(np.var(point.rows)) / point.rows.size
    if result.spec.train.patience is not None:  # its score is the best of its evaluations
        best = itertools.accumulate(before.values(), max if result.higher_is_better else min)
        before = dict(zip(before, best, strict=True))
    before = {step: score for step, score in before.items() if step < result.steps}
    return Track(runs.place(result.spec), result.score, variance**0.5, before)


def known(survey: Survey) -> Known | None:
    """What the runs of a study say; None where none has finished. A history that can't be read says nothing."""
    results = survey.results
    untrained = [result for result in results if result.spec.subspace.kind == "none"]
    tracks = []
    for result in results:
        if result.spec.subspace.kind != "none":
            with suppress(StoreError):
                tracks.append(track(result))
    if not tracks:
        return None
    pruned = [(runs.place(spec), kind) for spec, kind in survey.pruned]
    return Known(
        tracks, pruned, runs.scale(results[0], untrained), [runs.place(spec) for spec in survey.diverged]
    )


def limit(spec: RunSpec, store: Store, before: Known | None) -> None:
    """Record at which scores a run is to end, by what is known `before` it; at none where nothing is."""
    limits = before.limits(runs.place(spec)) if before else []
    store.run(spec).limit([asdict(each) for each in limits])


class Pruning:
    """The runs of a sweep in waves: full fine-tuning first; then d's, those that halve what is left; and of each
    the rates, from the one outwards that was best at the nearest d before it."""

    def __init__(self, specs: Sequence[RunSpec], store: Store) -> None:
        self._store = store
        self._members: dict[tuple[str, ...], list[RunSpec]] = {}
        for spec in specs:
            self._members.setdefault(spec.curve, []).append(spec)

    def waves(self, specs: Sequence[RunSpec]) -> Iterator[list[RunSpec]]:
        """These runs, wave by wave, all seeds in one: each is asked for when those before it are over."""
        left = list(specs)
        while left:
            ranks = {spec: ranks[spec] for mine, _, ranks in self._ranked(left) for spec in mine}
            wave = [spec for spec in left if ranks[spec] == min(ranks.values())]
            left = [spec for spec in left if spec not in wave]
            yield wave

    def begin(self, wave: Sequence[RunSpec]) -> list[RunSpec]:
        """Record at which scores each run is to end. Returns those to be trained: all but those that need not
        begin, which are pruned here."""
        todo = []
        for spec, before in self._judged(wave):
            limit(spec, self._store, before)
            if before and (settled := before.settled(runs.place(spec))):
                self._store.run(spec).prune({"step": 0, "kind": ABOVE, "reason": settled})
            else:
                todo.append(spec)
        return todo

    def standing(self, specs: Sequence[RunSpec]) -> set[RunSpec]:
        """Those of these pruned runs that would be pruned again where they were."""
        found = set()
        for spec, before in self._judged(specs):
            end, at = self._store.run(spec).pruned(), runs.place(spec)
            if before is None or end is None:
                continue
            again = "score" in end and first(before.limits(at), end["step"], end["score"])
            if before.settled(at) or again:
                found.add(spec)
        return found

    def _judged(self, specs: Sequence[RunSpec]) -> Iterator[tuple[RunSpec, Known | None]]:
        """Each run with what the runs of earlier waves say, full fine-tuning's among them."""
        for mine, looks, ranks in self._ranked(specs):
            before = {
                rank: _known(look for spec, look in looks.items() if ranks[spec] < rank)
                for rank in {ranks[spec] for spec in mine}
            }
            for spec in mine:
                yield spec, before[ranks[spec]]

    def _ranked(
        self, specs: Sequence[RunSpec]
    ) -> Iterator[tuple[list[RunSpec], dict[RunSpec, Look], dict[RunSpec, Rank]]]:
        """These runs, curve by curve, with all runs that tell of them, full fine-tuning's among them, and the wave
        of each."""
        for key in dict.fromkeys(spec.curve for spec in specs):
            shared = self._members.get(key[:1], [])
            others = dict.fromkeys([*shared, *self._members[key]])
            looks = {spec: self._store.run(spec).look() for spec in others}
            yield [spec for spec in specs if spec.curve == key], looks, _ranks(looks)


def _known(looks: Iterable[Look]) -> Known | None:
    return known(Survey(tuple(looks), ()))


def _ranks(looks: Mapping[RunSpec, Look]) -> dict[RunSpec, Rank]:
    """The wave of each run of a curve: full fine-tuning's or not, how often the row of sizes was halved before its
    own, and how far its rate is from the first to try."""
    rows: dict[int, list[RunSpec]] = {}
    ranks: dict[RunSpec, Rank] = {spec: (-1, 0) for spec in looks if spec.subspace.kind == "none"}
    for spec in (spec for spec in looks if spec not in ranks):
        rows.setdefault((runs.place(spec).size or 0) if spec.in_space else 0, []).append(spec)
    sizes = sorted(size for size in rows if size)
    depths = dict(zip(sizes, halvings(len(sizes)), strict=True))
    for size in sorted(rows, key=lambda size: depths.get(size, -1)):
        depth = depths.get(size, -1)
        rates = sorted({spec.lr for spec in rows[size]})
        near = [other for other in sizes if depths[other] < depth]
        nearest = min(near, key=lambda other: abs(math.log(other / size)), default=None)
        best = None if nearest is None else _best(rows[nearest], looks)
        start = len(rates) // 2 if best is None else min(best, len(rates) - 1)
        ranks |= {spec: (depth, abs(rates.index(spec.lr) - start)) for spec in rows[size]}
    return ranks


def _best(row: Sequence[RunSpec], looks: Mapping[RunSpec, Look]) -> int | None:
    """Which of a size's rates, in rising order, is best so far; None where none has finished."""
    found = _known(looks[spec] for spec in row)
    best = None if found is None else found.best_rate(runs.place(row[0]).size)
    return None if best is None else sorted({spec.lr for spec in row}).index(best)


def halvings(n: int) -> list[int]:
    """For n places in a row, how often the row is halved until each is a middle: 2 1 2 0 2 1 2 for seven."""
    if n == 0:
        return []
    middle = n // 2
    left, right = halvings(middle), halvings(n - middle - 1)
    return [*(k + 1 for k in left), 0, *(k + 1 for k in right)]
