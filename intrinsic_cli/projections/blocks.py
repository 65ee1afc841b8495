"""Projections made of Walsh-Hadamard blocks of n rows: what `fastfood` and `sorf` share."""

from __future__ import annotations

from functools import lru_cache

import torch
from numba import njit

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.cast import narrow, widen
from intrinsic_cli.projections.contract import Projection
from intrinsic_cli.projections.hadamard import LANES, fwht, fwht_inplace, torch_fwht

_CHUNK = 1 << 22  # numbers of a block matrix held at a time by the torch operations


class BlockProjection(Projection):
    """Rows k·n … (k+1)·n − 1 of P are a block S_k M_k H B with n = 2^⌈log2 d⌉, at least 16.

    H B θ, with θ padded by zeros to n, is the encoded x. Its signs B depend on n alone: they only turn the
    sign of some coordinates of θ, so no distribution of P changes when every seed has the same ones.
    The last block is cut to the rows that D leaves.
    """

    def __init__(
        self, shape: tuple[int, int], seed: int, cache: str = "auto", version: int | None = None
    ) -> None:
        super().__init__(shape, seed, cache, version)
        d = self.shape[1]
        self.n = max(LANES, 1 << (d - 1).bit_length())

    @property
    def _block_rows(self) -> int:
        return self.n

    def _mix(self, theta: torch.Tensor) -> torch.Tensor:
        """H B θ: (d,) -> (n,)."""
        self._check("theta", theta, self.shape[1], theta.dtype)
        padded = theta.new_zeros(self.n)
        padded[: self.shape[1]] = theta
        return _transform(padded * _signs(self.n, theta.device))

    def _unmix(self, x: torch.Tensor) -> torch.Tensor:
        """B H x: (n,) -> (d,), the adjoint of `_mix`."""
        return (_transform(x) * _signs(self.n, x.device))[: self.shape[1]].clone()

    def _torch_chunks(self):
        """(begin, end, first row, last row) of runs of blocks small enough to hold as a matrix."""
        step = max(1, _CHUNK // self.n)
        for begin in range(0, self._blocks, step):
            end = min(begin + step, self._blocks)
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
    return draws.torch_signs(draws.key(n, draws.STREAM_SIGN), 0, n, device)


def _transform(v: torch.Tensor) -> torch.Tensor:
    if v.device.type != "cpu":
        return torch_fwht(v)
    v = v.clone()
    fwht_inplace(v.numpy())
    return v


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
