"""The sparse projection on the CPU: from one nonzero to the next."""

from __future__ import annotations

import numpy as np
from numba import njit

from intrinsic_cli.projections import sparse
from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.kernels.numba.cast import narrow, widen
from intrinsic_cli.projections.kernels.numba.draws import word
from intrinsic_cli.projections.sparse import ROWS, UNIT, Sparse

_log = njit(nogil=True)(sparse.log)


def add(P: Sparse, begin: int, end: int, w0: np.ndarray, x: np.ndarray, scale, out: np.ndarray) -> None:
    _add(begin, end, np.uint64(P.key), P.gap_rate, w0, x, scale * x.dtype.type(P.scale), out)


def fold(P: Sparse, runs: np.ndarray, v: np.ndarray, scale, z: np.ndarray) -> None:
    _fold(runs, np.uint64(P.key), P.gap_rate, v, scale * z.dtype.type(P.scale), z)


@njit(nogil=True, inline="always")
def _next(key, block, count, gap_rate):
    """The gap before nonzero `count` of a block, and its sign: 53 bits and the lowest bit of one draw."""
    bits = word(key, np.uint64(block) << np.uint64(40) | np.uint64(count))
    u = (np.float64(bits >> np.uint64(11)) + 1) * UNIT
    return np.int64(_log(u) * gap_rate), 1 - 2 * np.int64(bits & np.uint64(1))


@cached_njit(nogil=True)
def _add(begin, end, key, gap_rate, w0, x, scale, out):
    d = x.shape[0]
    sums = np.empty(ROWS, x.dtype)
    for block in range(begin, end):
        first = block * ROWS
        rows = min(ROWS, out.shape[0] - first)
        sums[:] = 0
        count = 0
        place, sign = _next(key, block, count, gap_rate)
        while place < rows * d:
            sums[place // d] += sign * x[place % d]
            count += 1
            gap, sign = _next(key, block, count, gap_rate)
            place += 1 + gap
        for a in range(rows):
            out[first + a] = narrow(widen(w0[first + a]) + scale * sums[a], out[first + a])


@cached_njit(nogil=True)
def _fold(runs, key, gap_rate, v, scale, z):
    d = z.shape[0]
    first = 0
    for begin, end in runs:
        for block in range(begin, end):
            rows = min(ROWS, v.shape[0] - first)
            count = 0
            place, sign = _next(key, block, count, gap_rate)
            while place < rows * d:
                z[place % d] += scale * sign * widen(v[first + place // d])
                count += 1
                gap, sign = _next(key, block, count, gap_rate)
                place += 1 + gap
            first += rows
