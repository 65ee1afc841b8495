"""Fastfood (Le, Sarlós, Smola 2013): blocks S H G Π H B, the default projection.

Block k (n rows, see `blocks`) is c · H diag(g_k) Π_k H B with c = 1/√(n·D): g_k are n draws of N(0,1), Π_k is
a cyclic shift of one random permutation. Given θ, row a is a Gaussian of variance c² ‖H B θ‖² = ‖θ‖²/D.

The permutation depends on n alone and its shift by s_k (a multiple of 16) on (seed, k). So x holds Π H B θ
twice in a row, and each block reads one slice of it: no gather in the loop. Nothing is lost by sharing the
permutation: for any fixed Π the rows of different blocks, and of different seeds, are independent because
their g are; Π only decides which rows *within* a block are correlated for a given θ.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numba import njit

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.blocks import BlockProjection, height, load, store
from intrinsic_cli.projections.draws import draw_normals, normal_table, word
from intrinsic_cli.projections.hadamard import LANES, line_aligned, torch_fwht


class Fastfood(BlockProjection):
    """P whose blocks are H G Π H B. See the module's text; the contract is `Projection`'s."""

    kind: ClassVar[str] = "fastfood"

    def __init__(self, shape: tuple[int, int], seed: int, cache: str = "auto") -> None:
        super().__init__(shape, seed, cache)
        self._normal_key = np.uint64(draws.key(self.seed, draws.STREAM_NORMAL))
        self._shift_key = np.uint64(draws.key(self.seed, draws.STREAM_SHIFT))
        self._scale = 1 / (draws.NORMAL_ONE * (self.n * self.shape[0]) ** 0.5)
        self._stored = torch.empty(0, dtype=torch.int16)

    @property
    def encoded_size(self) -> int:
        return 2 * self.n

    def encode(self, theta: torch.Tensor) -> torch.Tensor:
        return self._mix(theta)[_permutation(self.n, theta.device)].repeat(2)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        halves = z.view(-1, self.n).sum(dim=0)
        unpermuted = torch.empty_like(halves)
        unpermuted[_permutation(self.n, z.device)] = halves
        return self._unmix(unpermuted)

    def _prepare(self, device: torch.device) -> None:
        # Only whole blocks are stored, so that a bias of 384 numbers never keeps n of them.
        size = self.shape[0] // self.n * self.n
        if self.cache == "regenerate" or (self._stored.numel() == size and self._stored.device == device):
            return
        if device.type == "cpu":
            self._stored = torch.empty(size, dtype=torch.int16)
            draw_normals(self._normal_key, normal_table(), 0, self._stored.numpy())
        else:
            self._stored = self._torch_normals(0, size // self.n, device).flatten()

    def _add_blocks(
        self, begin: int, end: int, w0: np.ndarray, x: np.ndarray, scale, out: np.ndarray
    ) -> None:
        stored, keys = self._stored.numpy(), (self._normal_key, self._shift_key)
        _add(begin, end, self.n, stored, keys, normal_table(), w0, x, scale * x.dtype.type(self._scale), out)

    def _fold_blocks(self, begin: int, end: int, v: np.ndarray, scale, z: np.ndarray) -> None:
        stored, keys = self._stored.numpy(), (self._normal_key, self._shift_key)
        _fold(begin, end, self.n, stored, keys, normal_table(), v, scale * z.dtype.type(self._scale), z)

    def _add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        for begin, end, first, last in self._torch_chunks():
            slices = x[
                self._torch_shifts(begin, end, x.device)[:, None] + torch.arange(self.n, device=x.device)
            ]
            rows = torch_fwht(slices * self._gains(begin, end, x.device))
            self._store_rows(rows, scale * self._scale, w0[first:last], out[first:last])

    def _fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        for begin, end, first, last in self._torch_chunks():
            rows = torch_fwht(self._load_rows(v[first:last], end - begin, z.dtype))
            rows = rows * self._gains(begin, end, z.device)
            # Undo each block's shift by a gather, so that the sum over blocks has a fixed order.
            places = torch.arange(self.n, device=z.device) - self._torch_shifts(begin, end, z.device)[:, None]
            z[: self.n] += rows.gather(1, places % self.n).sum(dim=0) * (scale * self._scale)

    def _torch_shifts(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        words = draws.torch_words(int(self._shift_key), torch.arange(begin, end, device=device))
        return (words & (self.n // LANES - 1)) * LANES

    def _gains(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        """(end − begin, n) int16: the diagonals g of these blocks."""
        if end * self.n <= self._stored.numel():
            return self._stored[begin * self.n : end * self.n].view(end - begin, self.n)
        return self._torch_normals(begin, end, device)

    def _torch_normals(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        count = (end - begin) * self.n
        normals = draws.torch_normals(int(self._normal_key), begin * self.n, count, device)
        return normals.view(end - begin, self.n)


@lru_cache(maxsize=8)
def _permutation(n: int, device: torch.device) -> torch.Tensor:
    return draws.permutation(draws.key(n, draws.STREAM_PERMUTATION), n).to(device)


@njit(nogil=True, inline="always")
def _shift(key, k, n):
    return np.int64(word(key, np.uint64(k)) & np.uint64(n // LANES - 1)) * LANES


@njit(nogil=True, inline="always")
def _diagonal(k, n, stored, key, table, scratch):
    """The diagonal g of block k, times NORMAL_ONE: (n,) int16."""
    if (k + 1) * n <= stored.shape[0]:
        return stored[k * n : (k + 1) * n]
    draw_normals(key, table, k * n, scratch)
    return scratch


@njit(nogil=True, cache=True)
def _add(begin, end, n, stored, keys, table, w0, x, scale, out):
    scratch = np.empty(n, np.int16)
    buffer = line_aligned(n, x)
    for k in range(begin, end):
        rows = min(n, out.shape[0] - k * n)
        m = height(rows, n)
        g = _diagonal(k, n, stored, keys[0], table, scratch)
        shift = _shift(keys[1], k, n)
        for start in range(0, n, m):
            part, source = g[start : start + m], x[shift + start : shift + start + m]
            if start == 0:
                for i in range(m):
                    buffer[i] = source[i] * part[i]
            else:
                for i in range(m):
                    buffer[i] += source[i] * part[i]
        store(buffer[:m], w0, scale, out, k * n, rows)


@njit(nogil=True, cache=True)
def _fold(begin, end, n, stored, keys, table, v, scale, z):
    scratch = np.empty(n, np.int16)
    buffer = line_aligned(n, z)
    for k in range(begin, end):
        rows = min(n, v.shape[0] - k * n)
        m = height(rows, n)
        if not load(buffer[:m], v, scale, k * n, rows):
            continue
        g = _diagonal(k, n, stored, keys[0], table, scratch)
        shift = _shift(keys[1], k, n)
        for start in range(0, n, m):
            part, target = g[start : start + m], z[shift + start : shift + start + m]
            for i in range(m):
                target[i] += buffer[i] * part[i]
