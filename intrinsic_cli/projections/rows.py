"""Fold a gradient of which only some rows are known to be other than zero: that of an embedding."""

from __future__ import annotations

import numpy as np
import torch

from intrinsic_cli.projections.cast import widen
from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.contract import Projection, as_array, as_scalar, fold_pieces
from intrinsic_cli.projections.threads import run_all


def fold_rows(
    P: Projection, rows: torch.Tensor, values: torch.Tensor, scale: float, z: torch.Tensor
) -> torch.Tensor:
    """`P.fold` of a matrix that is zero outside `rows`. Returns z.

    rows: (k,) int64 in any order; repeated rows add up, in the dtype of z. values: (k, width), of a dtype
    that `fold` takes; D is a multiple of width. On the CPU only the blocks of P that the rows touch are
    held and worked on, and the bits are those of folding the whole matrix.
    """
    width, size = values.shape[1], P._block_rows
    if z.device.type != "cpu":
        matrix = torch.zeros(P.shape[0] // width, width, dtype=z.dtype, device=z.device)
        return P.fold(matrix.index_add_(0, rows, values.to(z.dtype)).view(-1), scale, z)
    P.prepare()
    begins = rows.numpy() * width
    first, last = begins // size, (begins + width - 1) // size
    used = np.zeros(P._blocks, dtype=bool)
    for step in range(int((last - first).max(initial=0)) + 1):
        used[np.minimum(first + step, last)] = True
    places = np.concatenate(([0], np.cumsum(used))) * size  # where in v each used block begins
    missing = P._blocks * size - P.shape[0] if used[-1] else 0
    v = np.zeros(places[-1] - missing, as_array(z).dtype)
    # The blocks of a row follow each other in v as they do in P, so that a row is one piece of v.
    _add_pieces(v, places[first] + begins % size, as_array(values.contiguous()))
    work = []
    for row, begin, end in P._pieces:
        edges = begin + np.flatnonzero(np.diff(used[begin:end], prepend=False, append=False))
        piece = edges.reshape(-1, 2), v[places[begin] : places[end]]
        work.append([(P, *piece, as_scalar(scale, z.dtype), as_array(z[row]))])
    run_all(fold_pieces, work)
    return z


@cached_njit(nogil=True)
def _add_pieces(v, starts, pieces):
    """v[starts[i] : starts[i] + width] += pieces[i] for every i in order; pieces is (k, width)."""
    width = pieces.shape[1]
    for i in range(pieces.shape[0]):
        target, piece = v[starts[i] : starts[i] + width], pieces[i]
        for j in range(width):
            target[j] += widen(piece[j])
