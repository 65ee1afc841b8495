"""The kernel that numba compiles for the CPU: pieces of work of all tensors at once, on torch's threads.

The module named after a kind of projection does its blocks: `add(P, begin, end, w0, x, scale, out)` for the
blocks begin … end − 1, and `fold(P, runs, v, scale, z)` into one row z for the blocks of `runs`, which lie end
to end in v; runs is (r, 2) int64, ascending, and run i is the blocks runs[i, 0] … runs[i, 1] − 1. Both get NumPy
arrays, bfloat16 and float16 as their 16 bits (`cast`), and let go of the GIL.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numba
import numpy as np
import torch

from intrinsic_cli.projections.contract import ROWS, Projection, Scales
from intrinsic_cli.projections.draws import normal_table
from intrinsic_cli.projections.kernels.door import Kernel
from intrinsic_cli.projections.kernels.numba.cast import VIEWED_AS
from intrinsic_cli.projections.kernels.numba.draws import draw_normals
from intrinsic_cli.projections.kernels.numba.hadamard import fwht_inplace
from intrinsic_cli.projections.kernels.numba.rows import gather
from intrinsic_cli.projections.kernels.numba.threads import run_all

config: Any = numba.core.config
if config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set")

_PIECE = 1 << 17  # a piece of work has at least this many rows of P, so that starting it costs little
_FEW = 1 << 19  # rows that one thread does sooner than several that take turns at small tensors


class NumbaKernel(Kernel):
    """Its bits depend neither on the number of threads nor on how tensors are put together in a call.

    Blocks of v that are all zero (the embedding rows that a batch did not use) cost no more than being read.
    """

    name = "numba"

    def supports(self, kind: str) -> bool:
        return find_spec(f"{__name__}.{kind}") is not None

    def transform(self, v: torch.Tensor) -> torch.Tensor:
        v = v.clone()
        fwht_inplace(v.numpy())
        return v

    def normals(self, key: int, count: int, device: torch.device) -> torch.Tensor:
        drawn = torch.empty(count, dtype=torch.int16)
        draw_normals(np.uint64(key), normal_table(), 0, drawn.numpy())
        return drawn

    def add(
        self,
        projections: Sequence[Projection],
        w0: Sequence[torch.Tensor],
        x: torch.Tensor,
        scales: Scales,
        out: Sequence[torch.Tensor],
    ) -> None:
        encoded, work = _array(x), []
        for P, source, scale, target in zip(projections, w0, scales, out, strict=True):
            arrays = _flat(source), encoded, encoded.dtype.type(scale), _flat(target)
            work += [(_blocks_of(P.kind).add, P, begin, end, *arrays) for _, begin, end in _pieces(P)]
        run_all(lambda piece: piece[0](*piece[1:]), work, alone=_few(projections))

    def fold(
        self,
        projections: Sequence[Projection],
        v: Sequence[torch.Tensor],
        scales: Scales,
        z: torch.Tensor,
    ) -> None:
        sums = _array(z)
        work: dict[int, list[tuple]] = {}
        for P, source, scale in zip(projections, v, scales, strict=True):
            values, size, factor = _flat(source), P.block_rows, sums.dtype.type(scale)
            for row, begin, end in _pieces(P):
                piece = np.array([[begin, end]]), values[begin * size : end * size], factor, sums[row]
                work.setdefault(row, []).append((P, *piece))
        run_all(_fold_in_order, list(work.values()), alone=_few(projections))

    def fold_rows(
        self, P: Projection, rows: torch.Tensor, values: torch.Tensor, scale: float, z: torch.Tensor
    ) -> None:
        sums, work = _array(z), []
        moved = _array(values.contiguous())
        used, places, v = gather(rows.numpy(), moved, P.block_rows, P.shape[0], sums.dtype)
        for row, begin, end in _pieces(P):
            edges = begin + np.flatnonzero(np.diff(used[begin:end], prepend=False, append=False))
            piece = edges.reshape(-1, 2), v[places[begin] : places[end]]
            work.append([(P, *piece, sums.dtype.type(scale), sums[row])])
        run_all(_fold_in_order, work)


def _few(projections: Sequence[Projection]) -> bool:
    return sum(P.shape[0] for P in projections) < _FEW


def _fold_in_order(pieces: list[tuple]) -> None:
    """Fold (P, runs, v, scale, row of z), one after the other: all that goes to one row."""
    for P, *piece in pieces:
        _blocks_of(P.kind).fold(P, *piece)


def _pieces(P: Projection) -> list[tuple[int, int, int]]:
    """(row, begin, end): the fixed split of the blocks of P, and the row of the accumulator of each piece."""
    return _split(P.blocks, P.shape[0], P.seed % ROWS)


@lru_cache(maxsize=4096)
def _split(blocks: int, D: int, row: int) -> list[tuple[int, int, int]]:
    count = max(1, min(ROWS, blocks, D // _PIECE))
    edges = [blocks * i // count for i in range(count + 1)]
    # Many small tensors should not all meet in row 0.
    return [((row + i) % ROWS, edges[i], edges[i + 1]) for i in range(count)]


@cache
def _blocks_of(kind: str) -> ModuleType:
    """The module that does the blocks of a kind."""
    return import_module(f"{__name__}.{kind}")


def _flat(v: torch.Tensor) -> np.ndarray:
    return _array(v).reshape(-1)


def _array(v: torch.Tensor) -> np.ndarray:
    v = v.detach() if v.requires_grad else v
    return v.view(VIEWED_AS.get(v.dtype, v.dtype)).numpy()
