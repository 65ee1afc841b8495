"""θ at K levels: the best 1-D k-means, so that each weight is a symbol that coder.py can write down."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.projections.compiled import cached_njit

MAX_LEVELS = 256
MAX_D = 1 << 22  # a few bits can spell a million equal symbols: a corrupt message must not keep us for hours


def quantise(
    theta: NDArray[np.floating], levels: int, *, mirrored: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Symbols (d,) and an ascending codebook (K,), K ≤ levels; θ ≈ codebook[symbols].

    The cells have the smallest squared error that K levels allow, and each level is its cell's mean rounded
    to float16. Levels that coincide once rounded, or that no weight uses, are dropped. With `mirrored` and an
    even `levels` they are −c and c for the best levels c of |θ|: half a codebook, for a θ that has no side of
    its own since P has none. A level that would be 0 has no mirror, and then they are as without it.
    Raises ConfigError at a `levels` out of range, DataError at a θ that can't be coded.
    """
    theta = np.asarray(theta, dtype=np.float64)
    if theta.ndim != 1 or not 1 <= theta.size <= MAX_D or not np.isfinite(theta).all():
        raise DataError(f"theta of shape {theta.shape} must be one row of 1 to {MAX_D} finite numbers")
    if not 1 <= levels <= MAX_LEVELS:
        raise ConfigError(f"levels={levels} must be between 1 and {MAX_LEVELS}")
    if np.abs(theta).max() > np.finfo(np.float16).max:
        raise DataError(f"theta reaches {np.abs(theta).max():g}, beyond float16, which holds its levels")
    if mirrored and levels % 2 == 0:
        symbols, half = quantise(np.abs(theta), levels // 2)
        if half[0] > 0:
            signed = np.where(theta < 0, half.size - 1 - symbols, half.size + symbols)
            return signed.astype(np.uint8), np.concatenate([-half[::-1], half])
    ordered = np.sort(theta)
    edges = np.unique(_best_edges(ordered - ordered.mean(), min(levels, ordered.size)))
    means = [ordered[low:high].mean() for low, high in pairwise(edges.tolist())]
    codebook = np.unique(np.array(means).astype(np.float16))
    used, numbers = np.unique(assign(theta, codebook), return_inverse=True)
    return numbers.astype(np.uint8), codebook[used]


def assign(theta: NDArray[Any], codebook: NDArray[Any]) -> NDArray[np.uint8]:
    """The symbol of the nearest level, (d,), for θ (d,) and an ascending codebook (K,)."""
    levels = codebook.astype(np.float64)
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, theta).astype(np.uint8)


@cached_njit()
def _best_edges(theta: NDArray[np.float64], levels: int) -> NDArray[np.int64]:
    """Edges (levels + 1,) that cut a sorted θ into cells of least squared error; equal edges are empty cells.

    With best_k(j) the least error of the first j weights in k cells, best_k(j) = min_i best_{k−1}(i) +
    cost(i, j), and the best i never falls as j grows (Wu, J. Algorithms 12, 1991). So the j's are visited
    from coarse to fine, each looks only between its neighbours' answers: O(K d log d).
    """
    d = theta.size
    one, two = np.zeros(d + 1), np.zeros(d + 1)
    one[1:], two[1:] = np.cumsum(theta), np.cumsum(theta * theta)
    best = np.zeros(d + 1)
    for j in range(1, d + 1):
        best[j] = two[j] - one[j] ** 2 / j
    cut = np.zeros((levels, d + 1), dtype=np.int32)
    for k in range(1, levels):
        before, best = best, np.zeros(d + 1)
        stride = 1
        while stride <= d:
            stride *= 2
        while stride > 1:
            half = stride // 2
            for j in range(half, d + 1, stride):
                low = cut[k, j - half]
                high = cut[k, j + half] if j + half <= d else j
                best[j] = np.inf
                for i in range(low, min(high, j) + 1):
                    error = before[i]
                    if i < j:
                        error += two[j] - two[i] - (one[j] - one[i]) ** 2 / (j - i)
                    if error < best[j]:
                        best[j], cut[k, j] = error, i
            stride = half
    edges = np.zeros(levels + 1, dtype=np.int64)
    edges[levels] = d
    for k in range(levels - 1, 0, -1):
        edges[k] = cut[k, edges[k + 1]]
    return edges
