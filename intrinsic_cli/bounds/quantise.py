"""θ at K levels: the best 1-D k-means, so that each weight is a symbol that code.py can write down."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.projections.compiled import cached_njit

CODEBOOKS = (np.dtype(np.float16), np.dtype(np.float32))
MAX_LEVELS = 1 << 16
MAX_D = 1 << 22  # a few bits can spell a million equal symbols: a corrupt message must not keep us for hours


def quantise(
    theta: NDArray[np.floating], levels: int, dtype: DTypeLike = np.float16
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Symbols (d,) uint8 or uint16 and an ascending codebook (K,), K ≤ levels; θ ≈ codebook[symbols].

    The cells have the smallest squared error that K levels allow, and each level is its cell's mean rounded
    to `dtype` (float16 or float32). Levels that coincide once rounded, or that no weight uses, are dropped.
    Raises ConfigError at a `levels` or `dtype` that can't be coded, DataError at a θ that can't be.
    """
    theta = np.asarray(theta, dtype=np.float64)
    if theta.ndim != 1 or not 1 <= theta.size <= MAX_D or not np.isfinite(theta).all():
        raise DataError(f"theta of shape {theta.shape} must be one row of 1 to {MAX_D} finite numbers")
    if not 1 <= levels <= MAX_LEVELS:
        raise ConfigError(f"levels={levels} must be between 1 and {MAX_LEVELS}")
    if np.dtype(dtype) not in CODEBOOKS:
        raise ConfigError(f"a codebook of {np.dtype(dtype)} can't be coded; use float16 or float32")
    if np.abs(theta).max() > np.finfo(dtype).max:
        raise DataError(f"theta reaches {np.abs(theta).max():g}, beyond {np.dtype(dtype)}; use float32")
    ordered = np.sort(theta)
    edges = np.unique(_best_edges(ordered - ordered.mean(), min(levels, ordered.size)))
    means = [ordered[low:high].mean() for low, high in pairwise(edges.tolist())]
    codebook = np.unique(np.array(means).astype(dtype))
    used, symbols = np.unique(assign(theta, codebook), return_inverse=True)
    return symbols.astype(symbol_dtype(used.size)), codebook[used]


def assign(theta: NDArray[Any], codebook: NDArray[Any]) -> NDArray[Any]:
    """The symbol of the nearest level, (d,) uint8 or uint16, for θ (d,) and an ascending codebook (K,)."""
    levels = codebook.astype(np.float64)
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, theta).astype(symbol_dtype(levels.size))


def symbol_dtype(levels: int) -> type[np.unsignedinteger]:
    """The narrowest type that holds the symbols of a codebook: uint8 up to 256 levels, else uint16."""
    return np.uint8 if levels <= 256 else np.uint16


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
