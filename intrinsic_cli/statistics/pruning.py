"""Which runs can't matter to a d_t, told from evaluations before their end: pure functions of finished runs.

Three kinds of run can't. One whose learning rate is clearly `behind` another's, at the same step on the same seed
and size. One of a size surely `below` every target, with a larger one that does not reach them either. And one of a
size surely `above`, with a smaller one that reaches all of them: the crossing lies elsewhere. What is left of
pruned cells would be a choice of seeds, so `counts` takes them out whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from intrinsic_cli.statistics.points import Place, Point
from intrinsic_cli.statistics.rates import best_rate, few_lost
from intrinsic_cli.statistics.targets import TARGETS, THRESHOLD, Scale, begin, target_score

BEHIND, BELOW, ABOVE = "behind", "below", "above"
CLEAR = 2.0  # standard errors by which a score must lie off, at least, to be no luck of the rows


@dataclass(frozen=True)
class Track:
    """A finished run: its score, that score's standard error by the rows, and its scores `before`, by step."""

    place: Place
    score: float
    error: float
    before: Mapping[int, float]

    @property
    def point(self) -> Point:
        return Point(self.place.size, self.place.seed, self.place.lr, self.score)


@dataclass(frozen=True)
class Limit:
    """A run whose score behind `step` is worse than `score` (of the kind `above`: better) can't matter; why."""

    step: int
    kind: str
    score: float
    reason: str
    higher_is_better: bool = True

    def ends(self, step: int, score: float) -> bool:
        """Whether it ends a run that scores so behind that step."""
        off = score - self.score if (self.kind == ABOVE) == self.higher_is_better else self.score - score
        return step == self.step and off > 0


def first(limits: Iterable[Limit], step: int, score: float) -> Limit | None:
    """The limit that ends a run which scores so behind that step, if any does."""
    return next((limit for limit in limits if limit.ends(step, score)), None)


def counts(place: Place, pruned: Collection[tuple[Place, str]]) -> bool:
    """Whether a finished run counts beside these pruned ones of its curve: none has its size and rate, and none
    said that its size is above the target, where other rates did not begin."""
    return not any(
        place.size == other.size and (kind == ABOVE or place.lr == other.lr) for other, kind in pruned
    )


@dataclass(frozen=True)
class Known:
    """What is known of a study: finished runs, full fine-tuning's among them, pruned ones with their kinds, and
    those that diverged, which count against their rates."""

    tracks: Sequence[Track]
    pruned: Sequence[tuple[Place, str]]
    scale: Scale
    diverged: Sequence[Place] = ()

    def limits(self, place: Place) -> list[Limit]:
        """The scores that end the run of that place early."""
        found = [*self._behind(place)]
        if place.size is not None and self._targets is not None:
            found += [*self._below(place.size, self._targets[0]), *self._above(place.size, self._targets[1])]
        return found

    def settled(self, place: Place) -> str:
        """Why the run need not begin: its size can't be the first to reach the target; "" where it may be."""
        if place.size is None or self._targets is None or self._margin <= 0:
            return ""
        above = [other for other, kind in self.pruned if kind == ABOVE and other.size == place.size]
        if above:
            return f"its size is above the target, as lr={above[0].lr:g} says"
        clear = self._targets[1] + self._margin
        smaller = [
            s for s, (_, level) in self._best.items() if s is not None and s < place.size and level > clear
        ]
        return (
            f"{min(smaller)} surely reaches the target ({self.scale.up(self._targets[1]):.4g})"
            if smaller
            else ""
        )

    @cached_property
    def _whole(self) -> list[Track]:
        return [track for track in self.tracks if counts(track.place, self.pruned)]

    def best_rate(self, size: int | None) -> float | None:
        """The learning rate that is best at a size; None where no run of it counts."""
        return self._best[size][0] if size in self._best else None

    @cached_property
    def _best(self) -> dict[int | None, tuple[float, float]]:
        """The best rate of each size, and its mean score as `scale.up`."""
        sizes = {track.place.size for track in self._whole}
        found = {size: best_rate(self._points(size), self.scale) for size in sizes}
        return {size: best for size, best in found.items() if best is not None}

    def _points(self, size: int | None) -> list[Point]:
        finished = [track.point for track in self._whole if track.place.size == size]
        return finished + [Point(size, at.seed, at.lr, None) for at in self.diverged if at.size == size]

    @cached_property
    def _targets(self) -> tuple[float, float] | None:
        """The lowest and the highest target of any definition, as `scale.up`."""
        if None not in self._best:
            return None
        full, begins = self._best[None][1], [begin(name, self.scale) for name in TARGETS]
        targets = [target_score(full, base, THRESHOLD) for base in begins if base is not None]
        return min(targets), max(targets)

    @cached_property
    def _margin(self) -> float:
        """How far two scores of the same rows must lie apart."""
        return CLEAR * float(np.sqrt(2) * np.mean([track.error for track in self.tracks]))

    def _gains(self, tracks: Iterable[Track]) -> dict[int, tuple[float, float]]:
        """The least and the greatest gain from each step on of these runs, as `scale.up`."""
        up, gains = self.scale.up, dict[int, list[float]]()
        for track in tracks:
            for step, score in track.before.items():
                gains.setdefault(step, []).append(up(track.score) - up(score))
        return {step: (min(0.0, *each), max(0.0, *each)) for step, each in gains.items()}

    @cached_property
    def _gains_of_all(self) -> dict[int, tuple[float, float]]:
        return self._gains(track for track in self.tracks if track.place.size is not None)

    def _behind(self, place: Place) -> Iterator[Limit]:
        """Held against the best finished rate of its size and seed, of those that may be chosen: what any run of
        that size still gained, it may gain too."""
        like = [t for t in self.tracks if t.place.size == place.size]
        others = [t for t in like if t.place.lr != place.lr]
        rivals = [t for t in others if t.place.seed == place.seed and self._sound(t.place)]
        if rivals and self._margin > 0:
            best = max(rivals, key=lambda t: self.scale.up(t.score))
            for step, (_, gain) in self._gains(like).items():
                told = f"behind lr={best.place.lr:g}, which ended at {best.score:.4g}"
                yield self._limit(step, BEHIND, self.scale.up(best.score) - gain - self._margin, told)

    def _sound(self, place: Place) -> bool:
        """Whether a rate may be chosen at a size: no more of its runs there diverged than `choose` allows."""
        lost, finished = (
            sum((at.size, at.lr) == (place.size, place.lr) for at in part)
            for part in (self.diverged, [track.place for track in self.tracks])
        )
        return bool(few_lost(np.array(lost), np.array(lost + finished)))

    def _below(self, size: int, target: float) -> Iterator[Limit]:
        """Against the greatest gain that any finished run still made."""
        settled = [s for s, (_, level) in self._best.items() if s is not None and s > size and level < target]
        if settled and self._margin > 0:
            for step, (_, gain) in self._gains_of_all.items():
                told = f"surely below the target ({self.scale.up(target):.4g}), as {max(settled)} is too"
                yield self._limit(step, BELOW, target - gain - self._margin, told)

    def _above(self, size: int, target: float) -> Iterator[Limit]:
        """Against the greatest loss that any finished run still made."""
        settled = [
            s for s, (_, level) in self._best.items() if s is not None and s < size and level >= target
        ]
        if settled and self._margin > 0:
            for step, (loss, _) in self._gains_of_all.items():
                told = f"surely above the target ({self.scale.up(target):.4g}), as {min(settled)} is too"
                yield self._limit(step, ABOVE, target - loss + self._margin, told)

    def _limit(self, step: int, kind: str, score: float, reason: str) -> Limit:
        return Limit(step, kind, self.scale.up(score), reason, self.scale.higher_is_better)
