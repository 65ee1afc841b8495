"""SORF on the CPU: two transforms a block, between signs drawn in the loop."""

from __future__ import annotations

import numpy as np

from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.kernels.numba.blocks import height, load, store
from intrinsic_cli.projections.kernels.numba.draws import flip
from intrinsic_cli.projections.kernels.numba.hadamard import fwht, line_aligned
from intrinsic_cli.projections.sorf import Sorf


def add(P: Sorf, begin: int, end: int, w0: np.ndarray, x: np.ndarray, scale, out: np.ndarray) -> None:
    keys = np.uint64(P.outer_key), np.uint64(P.inner_key)
    _add(begin, end, *keys, w0, x, scale * x.dtype.type(P.scale), out)


def fold(P: Sorf, runs: np.ndarray, v: np.ndarray, scale, z: np.ndarray) -> None:
    _fold(runs, np.uint64(P.outer_key), np.uint64(P.inner_key), v, scale * z.dtype.type(P.scale), z)


@cached_njit(nogil=True)
def _add(begin, end, outer_key, inner_key, w0, x, scale, out):
    n = x.shape[0]
    buffer = line_aligned(n, x)
    for k in range(begin, end):
        rows = min(n, out.shape[0] - k * n)
        m = height(rows, n)
        buffer[:] = x
        flip(buffer, inner_key, k * max(n, 64))
        fwht(buffer)
        flip(buffer, outer_key, k * max(n, 64))
        for start in range(m, n, m):
            for i in range(m):
                buffer[i] += buffer[start + i]
        store(buffer[:m], w0, scale, out, k * n, rows)


@cached_njit(nogil=True)
def _fold(runs, outer_key, inner_key, v, scale, z):
    n = z.shape[0]
    buffer = line_aligned(n, z)
    place = 0
    for begin, end in runs:
        for k in range(begin, end):
            first, rows = place, min(n, v.shape[0] - place)
            place += rows
            m = height(rows, n)
            if not load(buffer[:m], v, scale, first, rows):
                continue
            for start in range(m, n, m):
                buffer[start : start + m] = buffer[:m]
            flip(buffer, outer_key, k * max(n, 64))
            fwht(buffer)
            flip(buffer, inner_key, k * max(n, 64))
            for i in range(n):
                z[i] += buffer[i]
