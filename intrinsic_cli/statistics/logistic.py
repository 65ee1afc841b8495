"""A logistic curve in log2 d that rises from chance: a cross-check of d_t, and what noise leaves of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit

from intrinsic_cli.statistics.points import Floats, Ints

PARAMETERS = 3  # top, middle and steepness; the bottom is chance


@dataclass(frozen=True)
class Logistic:
    """base + rise * expit(steepness * (x - middle)), fitted to means of several runs at x (K,).

    left (K,): what the curve leaves of the means. maker (K, K): the linear map from small errors of the
    means, weighted by the root of their runs, to residuals so weighted: all but the three directions that
    the fit follows.
    """

    base: float
    rise: float
    middle: float
    steepness: float
    left: Floats
    maker: Floats

    def at(self, score: float) -> float | None:
        """The x where the curve has this score; None where it never has."""
        share = (score - self.base) / self.rise if self.rise else 0.0
        if not 0 < share < 1:
            return None
        return self.middle + math.log(share / (1 - share)) / self.steepness


def fit_logistic(x: Floats, score: Floats, runs: Ints, base: float) -> Logistic | None:
    """Weighted least squares: x, score, runs (K,); None with fewer than four x's, or without convergence."""
    if x.size <= PARAMETERS:
        return None
    rise, root = max(float(score.max()) - base, 1e-3), np.sqrt(runs)

    def steep(p: Floats) -> float:
        return float(np.exp(np.clip(p[2], -10, 10)))

    def left(p: Floats) -> Floats:
        return root * (base + rise * p[0] * expit((x - p[1]) * steep(p)) - score)

    def slopes(p: Floats) -> Floats:
        part = expit((x - p[1]) * steep(p))
        bend = rise * p[0] * part * (1 - part) * steep(p)
        return root[:, None] * np.stack([rise * part, -bend, bend * (x - p[1])], axis=1)

    fit = least_squares(
        left, [1.0, float(x.mean()), 0.0], slopes, method="lm", ftol=1e-5, max_nfev=500
    )  # fmt: skip
    if not fit.success:
        return None
    p = fit.x
    followed, size, _ = np.linalg.svd(slopes(p), full_matrices=False)
    followed = followed[:, size > 1e-9 * size[0]]
    maker = np.eye(x.size) - followed @ followed.T
    return Logistic(base, rise * float(p[0]), float(p[1]), steep(p), -fit.fun / root, maker)
