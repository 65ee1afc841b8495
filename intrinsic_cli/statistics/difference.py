"""Whether one curve needs fewer numbers than another: log2 of d_t(A) / d_t(B), with an interval.

Where both have the same full fine-tuning, or runs on the same rows, both share its noise: replays of A and B
are paired by drawing it once, so that it cancels as far as it moves both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from intrinsic_cli.spec import stream_seed
from intrinsic_cli.statistics.bootstrap import Study, replays, target_score


@dataclass(frozen=True)
class Difference:
    """log2 of d_t(A) / d_t(B): below 0, A needs fewer.

    value       None where either lies beyond its grid.
    low, high   of the interval; None for an open end, which replays beyond a grid leave.
    paired      whether noise that both share was drawn once.
    """

    value: float | None
    low: float | None
    high: float | None
    paired: bool

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return (self.low is not None and self.low > 0) or (self.high is not None and self.high < 0)


def difference(
    a: Study, b: Study, *, threshold: float = 0.9, normalised: bool = False, confidence: float = 0.95,
    paired: bool | None = None, seed: int = 0, resamples: int = 1000,
) -> Difference | None:  # fmt: skip
    """A against B; None where the noise of either is unknown.

    paired: whether they share full fine-tuning; None: where its runs are equal. A replay in which one of
    both is beyond its grid counts as an infinite difference to its side, and one in which both are, to the
    same side, as unknown: half of these go to either side.
    """
    if paired is None:
        paired = _baseline(a) == _baseline(b)
    shared = seed if paired else None
    kinds = {"threshold": threshold, "normalised": normalised, "resamples": resamples}
    draws = [
        replays(study, seed=stream_seed(seed, name), shared_seed=shared, **kinds)  # type: ignore[arg-type]
        for study, name in ((a, "A"), (b, "B"))
    ]
    if draws[0] is None or draws[1] is None:
        return None
    at = [
        study.crossing(float(target_score(study.score[-1], study.chance, threshold, normalised)))
        for study in (a, b)
    ]
    with np.errstate(invalid="ignore"):
        each = draws[0] - draws[1]
    unknown = np.flatnonzero(np.isnan(each))
    each[unknown] = np.where(np.arange(unknown.size) % 2, np.inf, -np.inf)
    tail = (1 - confidence) / 2
    low = float(np.quantile(each, tail, method="lower"))
    high = float(np.quantile(each, 1 - tail, method="higher"))
    return Difference(
        at[0] - at[1] if all(map(math.isfinite, at)) else None,
        low if math.isfinite(low) else None,
        high if math.isfinite(high) else None,
        paired,
    )


def _baseline(study: Study) -> list[tuple[int, float, float | None]]:
    """Seed, rate and score of full fine-tuning's runs."""
    last = (study.table.count.shape[0] - 1) * study.table.count.shape[1]
    runs = [p for cell, p in zip(study.table.cell, study.table.runs, strict=True) if cell >= last]
    return sorted((p.seed, p.lr, p.score) for p in runs)
