"""Projections made of Walsh-Hadamard blocks of n rows: what `fastfood`, `signs` and `sorf` share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property, lru_cache

import torch

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.contract import Projection
from intrinsic_cli.projections.hadamard import LANES, fwht

_CHUNK = 1 << 22  # numbers of a block matrix held at a time by the torch operations


class BlockProjection(Projection):
    """Rows k·n … (k+1)·n − 1 of P are a block S_k M_k H B with n = 2^⌈log2 d⌉, at least 16.

    H B θ, with θ padded by zeros to n, is the encoded x. Its signs B depend on n alone: they only turn the
    sign of some coordinates of θ, so no distribution of P changes when every seed has the same ones.
    The last block is cut to the rows that D leaves.
    """

    @cached_property
    def n(self) -> int:
        """The rows of a whole block."""
        return max(LANES, 1 << (self.shape[1] - 1).bit_length())

    @property
    def block_rows(self) -> int:
        return self.n

    @property
    def encoded_size(self) -> int:
        return self.n

    def encode(self, theta: torch.Tensor) -> torch.Tensor:
        """H B θ: (d,) -> (n,)."""
        self._check("theta", theta, self.shape[1], theta.dtype)
        padded = theta.new_zeros(self.n)
        padded[: self.shape[1]] = theta
        return self._kernel(theta.device).transform(padded * _shared_signs(self.n, theta.device))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return self._unmix(z.view(-1, self.n).sum(dim=0))

    def _unmix(self, x: torch.Tensor) -> torch.Tensor:
        """B H x: (n,) -> (d,), the adjoint of H B."""
        mixed = self._kernel(x.device).transform(x)
        return (mixed * _shared_signs(self.n, x.device))[: self.shape[1]].clone()

    def _chunks(self) -> Iterator[tuple[int, int, int, int]]:
        """(begin, end, first row, last row) of runs of blocks small enough to hold as a matrix."""
        step = max(1, _CHUNK // self.n)
        for begin in range(0, self.blocks, step):
            end = min(begin + step, self.blocks)
            yield begin, end, begin * self.n, min(end * self.n, self.shape[0])

    def _signs(self, key: int, first: int, count: int, device: torch.device) -> torch.Tensor:
        """(count,) int8: the ±1 draws `first`, … of a stream, from any place on."""
        start = first // 64 * 64
        return draws.signs(key, start, first - start + count, device)[first - start :]

    def _store_rows(self, rows: torch.Tensor, scale: float, w0: torch.Tensor, out: torch.Tensor) -> None:
        """out ← w0 + scale · rows, for a matrix of blocks whose last rows may lie beyond D."""
        out.copy_(w0.to(rows.dtype) + scale * rows.flatten()[: out.numel()])

    def _load_rows(self, v: torch.Tensor, blocks: int, dtype: torch.dtype) -> torch.Tensor:
        """v as a (blocks, n) matrix, with zeros beyond D."""
        padded = torch.zeros(blocks * self.n, dtype=dtype, device=v.device)
        padded[: v.numel()] = v
        return padded.view(blocks, self.n)


class PermutedBlocks(BlockProjection):
    """Blocks c · H diag(g_k) Π_k H B, with Π_k a cyclic shift of one permutation that depends on n alone.

    The shift of block k, a multiple of 16, is drawn from (seed, k). So x is Π H B θ, and each block reads it in
    order from its own start, around the end: whole vectors, no gather in the loop.
    """

    scale: float  # c, over the unit in which `_gains` are counted

    def _set_up(self) -> None:
        self.shift_key = draws.key(self.seed, draws.STREAM_SHIFT)
        self.sign_key = draws.key(self.seed, draws.STREAM_SIGN)

    def encode(self, theta: torch.Tensor) -> torch.Tensor:
        return super().encode(theta)[_permutation(self.n, theta.device)]

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        total = z.view(-1, self.n).sum(dim=0)
        unpermuted = torch.empty_like(total)
        unpermuted[_permutation(self.n, z.device)] = total
        return self._unmix(unpermuted)

    def add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        for begin, end, first, last in self._chunks():
            places = torch.arange(self.n, device=x.device) + self._shifts(begin, end, x.device)[:, None]
            rows = fwht(x[places % self.n] * self._gains(begin, end, x.device))
            self._store_rows(rows, scale * self.scale, w0[first:last], out[first:last])

    def fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        for begin, end, first, last in self._chunks():
            rows = fwht(self._load_rows(v[first:last], end - begin, z.dtype))
            rows = rows * self._gains(begin, end, z.device)
            # Undo each block's shift by a gather, so that the sum over blocks has a fixed order.
            places = torch.arange(self.n, device=z.device) - self._shifts(begin, end, z.device)[:, None]
            z += rows.gather(1, places % self.n).sum(dim=0) * (scale * self.scale)

    def _shifts(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        """(end − begin,) int64: where these blocks start to read x."""
        words = draws.words(self.shift_key, torch.arange(begin, end, device=device))
        return (words & (self.n // LANES - 1)) * LANES

    @abstractmethod
    def _gains(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        """(end − begin, n) integers: the diagonals g of these blocks."""


@lru_cache(maxsize=8)
def _shared_signs(n: int, device: torch.device) -> torch.Tensor:
    return draws.signs(draws.key(n, draws.STREAM_SIGN), 0, n, device)


@lru_cache(maxsize=8)
def _permutation(n: int, device: torch.device) -> torch.Tensor:
    return draws.permutation(draws.key(n, draws.STREAM_PERMUTATION), n).to(device)
