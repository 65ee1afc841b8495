"""The dense projection on the CPU: a row of P is drawn, used and forgotten."""

from __future__ import annotations

import numpy as np

from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.dense import ROWS, Dense
from intrinsic_cli.projections.draws import normal_table
from intrinsic_cli.projections.kernels.numba.cast import narrow, widen
from intrinsic_cli.projections.kernels.numba.draws import draw_normals


def add(P: Dense, begin: int, end: int, w0: np.ndarray, x: np.ndarray, scale, out: np.ndarray) -> None:
    rows = slice(begin * ROWS, end * ROWS)
    scale = scale * x.dtype.type(P.scale)
    _add(rows.start, P.width, np.uint64(P.key), normal_table(), w0[rows], x, scale, out[rows])


def fold(P: Dense, runs: np.ndarray, v: np.ndarray, scale, z: np.ndarray) -> None:
    _fold(runs, P.width, np.uint64(P.key), normal_table(), v, scale * z.dtype.type(P.scale), z)


# Sums may be reordered, so that they use vectors; the order is fixed when the function is compiled.
@cached_njit(nogil=True, fastmath={"reassoc", "nsz"})
def _dot(entries, x):
    total = x.dtype.type(0)
    for j in range(x.shape[0]):
        total += x[j] * x.dtype.type(entries[j])
    return total


@cached_njit(nogil=True)
def _add(first, width, key, table, w0, x, scale, out):
    entries = np.empty(width, np.int16)
    for a in range(out.shape[0]):
        draw_normals(key, table, (first + a) * width, entries)
        out[a] = narrow(widen(w0[a]) + scale * _dot(entries, x), out[a])


@cached_njit(nogil=True)
def _fold(runs, width, key, table, v, scale, z):
    entries = np.empty(width, np.int16)
    place = 0
    for begin, end in runs:
        for a in range(begin * ROWS, min(end * ROWS, begin * ROWS + v.shape[0] - place)):
            value = scale * widen(v[place])
            place += 1
            if value == 0:
                continue
            draw_normals(key, table, a * width, entries)
            for j in range(z.shape[0]):
                z[j] += value * z.dtype.type(entries[j])
