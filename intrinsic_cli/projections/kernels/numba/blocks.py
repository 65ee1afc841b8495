"""Parts of a block that all compiled block kernels use: reading, writing, and cutting one short."""

from __future__ import annotations

from numba import njit

from intrinsic_cli.projections.hadamard import LANES
from intrinsic_cli.projections.kernels.numba.cast import narrow, widen
from intrinsic_cli.projections.kernels.numba.hadamard import fwht


@njit(nogil=True)
def height(rows, n):
    """The size of the transform that gives the first `rows` rows of H_n: a power of two, LANES to n.

    The first m rows of H_n u are H_m times the sum of the n / m chunks of u, so a short last block costs n
    additions and a short transform.
    """
    m = n
    while m >= 2 * max(rows, LANES):
        m //= 2
    return m


@njit(nogil=True)
def store(buffer, w0, scale, out, first, rows):
    """out ← w0 + scale · H_m buffer on rows first … first + rows − 1, for a buffer of m numbers."""
    fwht(buffer)
    source, target = w0[first : first + rows], out[first : first + rows]
    for i in range(rows):
        target[i] = narrow(widen(source[i]) + scale * buffer[i], target[i])


@njit(nogil=True)
def load(buffer, v, scale, first, rows):
    """buffer ← H_m (scale · v) on rows first … first + rows − 1; False if v is zero there."""
    source = v[first : first + rows]
    anything = False
    for i in range(rows):
        value = widen(source[i])
        anything |= value != 0
        buffer[i] = scale * value
    if anything:
        buffer[rows:] = 0
        fwht(buffer)
    return anything
