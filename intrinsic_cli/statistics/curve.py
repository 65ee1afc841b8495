"""Where a curve that rises with d first reaches its target, and what may lie between two d's."""

from __future__ import annotations

import numpy as np

from intrinsic_cli.statistics.points import Floats, Ints

PARTS = 8  # equal parts of a gap between two d's, over which its rise is spread at random
# How evenly: Dirichlet concentration of a gap that rises alone, and of one beside which the curve rises alike.
JUMP, SMOOTH = 0.2, 8.0
STRETCH = 1.15  # so that the central 95 % of a jump's place is all of its gap
WIDE = 1.8  # octaves of a gap, beyond which the curve may bend so much that a line says little
FALL = 1.5  # standard errors by which a tail lies below the best d, where it is taken for a fall
DIP = 4.0  # standard errors by which one d lies below an earlier one that is no worse than the best


def crossing(
    x: Floats, score: Floats, weight: Floats, target: Floats, spread: Floats | None = None,
    rng: np.random.Generator | None = None,
) -> Floats:  # fmt: skip
    """Where monotone fits reach their targets: x (K,) rising, score and weight (B, K), target (B,) -> (B,).

    The fit is the weighted isotonic regression of each row, linear between the x's; an end without weight
    takes no part. -inf: it is there at the first x; inf: it is not at the last. Found without the fit: the
    number of x's whose fitted value lies under t is the first minimum of the cumulative sums of weight *
    (score - t) (the switching relation, Groeneboom 1985), and the fitted values beside that boundary are the
    extreme means of the stretches that end or start there.

    With `spread` (K - 1,) and `rng`, the rise inside gap k is a random path instead of a line (`within`).
    """
    # A fit equal to its target reaches it, whatever the rounding of a mean.
    below = np.argmin(_cumulate(weight * (score - target[:, None] + 1e-12)), axis=1)[:, None]
    mass, total = _cumulate(weight), _cumulate(weight * score)
    mass_there, total_there = (np.take_along_axis(a, below, 1) for a in (mass, total))
    edge, span = np.arange(x.size + 1), mass - mass_there
    mean = (total - total_there) / np.where(span == 0, 1, span)
    under = np.where((edge < below) & (span != 0), mean, -np.inf).max(axis=1)
    over = np.where((edge > below) & (span != 0), mean, np.inf).min(axis=1)
    at = np.where(below[:, 0] == 0, -np.inf, np.inf)
    inside = np.isfinite(under) & np.isfinite(over)
    k = below[inside, 0]
    share = (target[inside] - under[inside]) / (over[inside] - under[inside])
    if spread is not None and rng is not None:
        share = within(share, spread[k - 1], rng)
    at[inside] = x[k - 1] + share * (x[k] - x[k - 1])
    return at


def within(share: Floats, spread: Floats, rng: np.random.Generator) -> Floats:
    """How far into its gap a random path from 0 to 1 first reaches `share` (B,) of its rise -> (B,).

    The path's rises over PARTS equal parts are Dirichlet(spread / PARTS), a gamma process tied at both ends:
    a large `spread` (B,) gives a straight line, one near 0 a single jump anywhere in the gap.
    """
    rise = rng.standard_gamma(np.repeat(spread[:, None] / PARTS, PARTS, axis=1)) + 1e-300
    path = np.cumsum(rise, axis=1)
    part = np.sum(path[:, :-1] < share[:, None] * path[:, -1:], axis=1)
    at = (part + rng.random(share.size)) / PARTS
    return np.clip(0.5 + STRETCH * (at - 0.5), 0, 1)


def spreads(x: Floats, fit: Floats) -> Floats:
    """How evenly the rise inside each gap is spread: x, fit (K,) -> (K - 1,), for `within`.

    A gap that rises like its steeper neighbour is likely smooth; one that rises alone may hold a jump, and a wide
    one much of a bend.
    """
    slope = np.diff(fit) / np.diff(x)
    beside = np.maximum(np.append(0, slope[:-1]), np.append(slope[1:], 0))
    alike = np.clip(beside / np.maximum(slope, 1e-12), 0, 1) * np.minimum(1, WIDE / np.diff(x))
    return JUMP * (SMOOTH / JUMP) ** alike


def fallen(score: Floats, variance: Floats) -> Ints:
    """The number of d's, from the first, that lie before a fall: score and variance (B, K) -> (B,).

    Beyond the best d, the longest tail whose mean is worse by at least FALL standard errors of the difference takes
    no part: d_t is where the target is first reached. A shorter one would leave the first d's of a gradual fall,
    which a monotone fit takes for what the d's before them can do. Nor does a dip, or what follows: a d that lies
    clearly (DIP) below an earlier one which is no worse than the best by FALL.
    """
    size, variance = score.shape[1], np.maximum(variance, 1e-12)
    best = np.argmax(score, axis=1)[:, None]
    top, top_variance = (np.take_along_axis(a, best, 1) for a in (score, variance))
    mass, total = (np.cumsum(a[:, ::-1], axis=1)[:, ::-1] for a in (1 / variance, score / variance))
    z = (top - total / mass) / np.sqrt(top_variance + 1 / mass)
    place = np.arange(size)
    worse = (place > best) & (z >= FALL)
    near = score >= top - FALL * np.sqrt(variance + top_variance)
    lead = score[:, :, None] - score[:, None, :] >= DIP * np.sqrt(variance[:, :, None] + variance[:, None, :])
    dips = np.any(near[:, :, None] & lead & (place[:, None] < place), axis=1)
    return np.minimum(*(np.where(a.any(axis=1), np.argmax(a, axis=1), size) for a in (worse, dips)))


def _cumulate(a: Floats) -> Floats:
    """(B, K) -> (B, K + 1): cumulative sums that begin at 0."""
    return np.concatenate([np.zeros((len(a), 1)), np.cumsum(a, axis=1)], axis=1)
