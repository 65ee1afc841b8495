"""A matrix of which few rows are other than zero, laid out as the blocks of P that these rows touch."""

from __future__ import annotations

import numpy as np

from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.kernels.numba.cast import widen


def gather(
    rows: np.ndarray, values: np.ndarray, size: int, D: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The blocks, of `size` numbers of D, that a matrix with `values` in its `rows` and zeros elsewhere touches.

    rows: (k,) int64 in any order; repeated rows add up. values: (k, width), of any weight type (`cast`).
    Returns used: (blocks,) bool; places: (blocks + 1,) int64, where in v a used block begins; v: its numbers.
    """
    width, blocks = values.shape[1], -(-D // size)
    begins = rows * width
    first, last = begins // size, (begins + width - 1) // size
    used = np.zeros(blocks, dtype=bool)
    for step in range(int((last - first).max(initial=0)) + 1):
        used[np.minimum(first + step, last)] = True
    places = np.concatenate(([0], np.cumsum(used))) * size
    missing = blocks * size - D if used[-1] else 0
    v = np.zeros(places[-1] - missing, dtype)
    # The blocks of a row follow each other in v as they do in P, so that a row is one piece of v.
    _add_pieces(v, places[first] + begins % size, values)
    return used, places, v


@cached_njit(nogil=True)
def _add_pieces(v, starts, pieces):
    """v[starts[i] : starts[i] + width] += pieces[i] for every i in order; pieces is (k, width)."""
    width = pieces.shape[1]
    for i in range(pieces.shape[0]):
        target, piece = v[starts[i] : starts[i] + width], pieces[i]
        for j in range(width):
            target[j] += widen(piece[j])
