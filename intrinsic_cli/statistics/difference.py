"""Whether one curve needs fewer numbers than another: log2 of d_t(A) / d_t(B), with an interval.

Where both have the same full fine-tuning, or the same validation rows, they share its noise: replays of A and B are
paired by drawing it once, so that it cancels as far as it moves both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from intrinsic_cli.spec import stream_seed
from intrinsic_cli.statistics.bootstrap import replay
from intrinsic_cli.statistics.estimate import CONFIDENCE, Measured
from intrinsic_cli.statistics.study import Study
from intrinsic_cli.statistics.targets import begin, headline

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
    a: Measured, b: Measured, *, threshold: float = 0.9, definition: str | None = None,
    confidence: float = CONFIDENCE, same_rows: bool = False, paired: bool = True,
) -> Difference:  # fmt: skip
    """A against B, with the seed and the number of replays of A.

    same_rows   whether all runs were scored on the same rows. Their noise is shared where both say what each row
                added; that of full fine-tuning where its runs are equal.
    paired      False: take all noise as independent.

    A replay in which one of both is beyond its grid counts as an infinite difference to its side, and one in which
    both are, to the same side, as unknown: half of these go to either side.
    """
    definition = definition or headline(a.scale)
    found = [side.estimate(threshold, definition, confidence) for side in (a, b)]
    for name, value in zip("AB", found, strict=True):
        if value.status == "undefined":
            return Difference(reason=f"{name} has no d_t: {value.reason}")
    shared = _shared(a.study, b.study, same_rows) if paired else ()
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
        draws.append(drawn.crossings(drawn.begin(definition), threshold))
        at.append(study.crossing(float(base + threshold * (study.full - base))))
    apart = at[0] - at[1] if all(map(math.isfinite, at)) else None
    return Difference(apart, *_ends(draws[0], draws[1], confidence), shared)


def _ends(a: np.ndarray, b: np.ndarray, confidence: float) -> tuple[float | None, float | None]:
    """The interval of the differences of replays (B,)."""
    with np.errstate(invalid="ignore"):
        each = a - b
    unknown = np.flatnonzero(np.isnan(each))
    each[unknown] = np.where(np.arange(unknown.size) % 2, np.inf, -np.inf)
    low = float(np.quantile(each, (1 - confidence) / 2, method="lower"))
    high = float(np.quantile(each, (1 + confidence) / 2, method="higher"))
    return low if math.isfinite(low) else None, high if math.isfinite(high) else None


def _shared(a: Study | str, b: Study | str, same_rows: bool) -> tuple[str, ...]:
    """What of SHARED both studies have in common."""
    assert isinstance(a, Study)
    assert isinstance(b, Study)
    rows = [study.noise.rows for study in (a, b) if study.noise is not None]
    known = (
        all(part is not None for part in rows)
        and len({part.shape[1] for part in rows if part is not None}) == 1
    )
    common = (_baseline(a) == _baseline(b), same_rows and known)
    return tuple(what for what, is_shared in zip(SHARED, common, strict=True) if is_shared)


def _baseline(study: Study) -> list[tuple[int, float, float | None]]:
    """Seed, rate and score of full fine-tuning's runs."""
    last = (study.table.count.shape[0] - 1) * study.table.count.shape[1]
    runs = [p for cell, p in zip(study.table.cell, study.table.runs, strict=True) if cell >= last]
    return sorted((p.seed, p.lr, p.score) for p in runs)
