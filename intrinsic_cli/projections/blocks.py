"""Projections made of Walsh-Hadamard blocks of n rows: what `fastfood` and `sorf` share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.contract import Projection
from intrinsic_cli.projections.hadamard import LANES

_CHUNK = 1 << 22  # numbers of a block matrix held at a time by the torch operations


class BlockProjection(Projection):
    """Rows k·n … (k+1)·n − 1 of P are a block S_k M_k H B with n = 2^⌈log2 d⌉, at least 16.

    H B θ, with θ padded by zeros to n, is the encoded x. Its signs B depend on n alone: they only turn the
    sign of some coordinates of θ, so no distribution of P changes when every seed has the same ones.
    The last block is cut to the rows that D leaves.
    """

    @property
    def n(self) -> int:
        """The rows of a whole block."""
        return max(LANES, 1 << (self.shape[1] - 1).bit_length())

    @property
    def block_rows(self) -> int:
        return self.n

    @property
    def encoded_size(self) -> int:
        return self.n

    def _mix(self, theta: torch.Tensor) -> torch.Tensor:
        """H B θ: (d,) -> (n,)."""
        self._check("theta", theta, self.shape[1], theta.dtype)
        padded = theta.new_zeros(self.n)
        padded[: self.shape[1]] = theta
        return self._kernel(theta.device).transform(padded * _signs(self.n, theta.device))

    def _unmix(self, x: torch.Tensor) -> torch.Tensor:
        """B H x: (n,) -> (d,), the adjoint of `_mix`."""
        mixed = self._kernel(x.device).transform(x)
        return (mixed * _signs(self.n, x.device))[: self.shape[1]].clone()

    def _chunks(self) -> Iterator[tuple[int, int, int, int]]:
        """(begin, end, first row, last row) of runs of blocks small enough to hold as a matrix."""
        step = max(1, _CHUNK // self.n)
        for begin in range(0, self.blocks, step):
            end = min(begin + step, self.blocks)
            yield begin, end, begin * self.n, min(end * self.n, self.shape[0])

    def _store_rows(self, rows: torch.Tensor, scale: float, w0: torch.Tensor, out: torch.Tensor) -> None:
        """out ← w0 + scale · rows, for a matrix of blocks whose last rows may lie beyond D."""
        out.copy_(w0.to(rows.dtype) + scale * rows.flatten()[: out.numel()])

    def _load_rows(self, v: torch.Tensor, blocks: int, dtype: torch.dtype) -> torch.Tensor:
        """v as a (blocks, n) matrix, with zeros beyond D."""
        padded = torch.zeros(blocks * self.n, dtype=dtype, device=v.device)
        padded[: v.numel()] = v
        return padded.view(blocks, self.n)


@lru_cache(maxsize=8)
def _signs(n: int, device: torch.device) -> torch.Tensor:
    return draws.signs(draws.key(n, draws.STREAM_SIGN), 0, n, device)
