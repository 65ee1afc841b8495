"""Whether one curve needs fewer numbers than another: log2 of d_t(A) / d_t(B), with an interval.

Where both have the same full fine-tuning, or the same validation rows, they share its noise: replays of A and B are
paired by drawing it once, so that it cancels as far as it moves both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from intrinsic_cli.spec import stream_seed
from intrinsic_cli.statistics.bootstrap import percentiles, replay
from intrinsic_cli.statistics.estimate import CONFIDENCE, Measured
from intrinsic_cli.statistics.points import Floats
from intrinsic_cli.statistics.study import Study
from intrinsic_cli.statistics.targets import THRESHOLD, begin, headline, target_score

SHARED = ("full fine-tuning", "rows")


@dataclass(frozen=True)
class Difference:
    """log2 of d_t(A) / d_t(B): below 0, A needs fewer.

    value       None where either lies beyond its grid, or is undefined.
    low, high   of the interval; None for an open end, which replays beyond a grid leave.
    shared      what of SHARED was drawn once for both.
    reason      why there is no interval at all.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    shared: tuple[str, ...] = ()
    reason: str = ""

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return (self.low is not None and self.low > 0) or (self.high is not None and self.high < 0)


def difference(
    a: Measured, b: Measured, *, threshold: float = THRESHOLD, definition: str | None = None,
    same_full: bool = False, same_rows: bool = False,
) -> Difference:  # fmt: skip
    """A against B, with the seed and the number of replays of A.

    same_full   whether the runs of full fine-tuning are the same ones.
    same_rows   whether all runs were scored on the same rows. Their noise is shared where both say what each row
                added.

    A replay in which one of both is beyond its grid says how far apart they are at least. One in which both are, to
    the same side, says nothing: half of these go to either side.
    """
    definition = definition or headline(a.scale)
    found = [side.estimate(threshold, definition) for side in (a, b)]
    for name, value in zip("AB", found, strict=True):
        if value.status == "undefined":
            return Difference(reason=f"{name} has no d_t: {value.reason}")
    shared = _shared(a.study, b.study, same_full, same_rows)
    full_seed, rows_seed = (stream_seed(a.seed, what) if what in shared else None for what in SHARED)
    at, draws = [], []
    for name, side in (("A", a), ("B", b)):
        study, base = side.study, begin(definition, side.scale)
        assert isinstance(study, Study)
        assert base is not None
        drawn = replay(
            study, seed=stream_seed(a.seed, name), resamples=a.resamples, full_seed=full_seed,
            rows_seed=rows_seed,
        )  # fmt: skip
        if drawn is None:
            return Difference(reason=f"the noise of {name} is unknown: it needs more than one seed")
        draws.append(drawn.bounds(drawn.begin(definition), threshold))
        at.append(study.crossing(target_score(study.full, base, threshold)))
    apart = at[0] - at[1] if all(map(math.isfinite, at)) else None
    return Difference(apart, *_ends(draws[0], draws[1]), shared)


Bounds = tuple[Floats, Floats]


def _ends(a: Bounds, b: Bounds) -> tuple[float | None, float | None]:
    """The interval of the differences of replays, which lie between their bounds (B,)."""
    least, most = a[0] - b[1], a[1] - b[0]
    unknown = np.flatnonzero((least == -np.inf) & (most == np.inf))
    least[unknown] = most[unknown] = np.where(np.arange(unknown.size) % 2, np.inf, -np.inf)
    low, high = percentiles(least, most, CONFIDENCE)
    return low if math.isfinite(low) else None, high if math.isfinite(high) else None


def _shared(a: Study | str, b: Study | str, same_full: bool, same_rows: bool) -> tuple[str, ...]:
    """What of SHARED both studies have in common."""
    assert isinstance(a, Study)
    assert isinstance(b, Study)
    rows = [study.noise.rows for study in (a, b) if study.noise is not None]
    known = (
        all(part is not None for part in rows)
        and len({part.shape[1] for part in rows if part is not None}) == 1
    )
    common = (same_full, same_rows and known)
    return tuple(what for what, is_shared in zip(SHARED, common, strict=True) if is_shared)
