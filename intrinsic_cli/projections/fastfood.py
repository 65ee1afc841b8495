"""Fastfood (Le, Sarlós, Smola 2013): blocks S H G Π H B, the default projection.

Block k (n rows, see `blocks`) is c · H diag(g_k) Π_k H B with c = 1/√(n·D): g_k are n draws of N(0,1), Π_k is
a cyclic shift of one random permutation. Given θ, row a is a Gaussian of variance c² ‖H B θ‖² = ‖θ‖²/D.

The permutation depends on n alone and its shift by s_k (a multiple of 16) on (seed, k). So x is Π H B θ, and
each block reads it in order from its own start, around the end: whole vectors, no gather in the loop.
Nothing is lost by sharing the permutation: for any fixed Π the rows of different blocks, and of different
seeds, are independent because their g are; Π only decides which rows *within* a block are correlated.

A last block that D cuts to r rows, as all of a bias is, needs no n draws: its g repeat after p numbers, where p is
4 · 2^⌈log₂ r⌉ or 4,096 if that is more, and each repetition draws new signs, one for 16 numbers. Row a is then a
Gaussian given θ and the signs, of a variance whose mean is ‖θ‖²/D. It varies by about √(2/p) of that where H B θ is
like noise, and by √(32/p) for θ along its first coordinate, where H B θ is constant. (With p = r the rows are so
alike that small models train worse.) This is draw version 2; version 1 draws all n. Both are the same matrix, named
version 1, where n ≤ 4,096.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numba import njit

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.blocks import BlockProjection, height, load, store
from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.draws import draw_normals, flip, normal_table
from intrinsic_cli.projections.fused import add_blocks, add_product, block_shift, fold_blocks
from intrinsic_cli.projections.hadamard import LANES, line_aligned, torch_fwht

_PERIOD = 4096  # the g of a short block repeat after no fewer numbers: part of draw version 2
_DRAWN = 4096  # numbers drawn at a time when they are not stored; divides every longer period


class Fastfood(BlockProjection):
    """P whose blocks are H G Π H B. See the module's text; the contract is `Projection`'s."""

    kind: ClassVar[str] = "fastfood"
    versions: ClassVar[tuple[int, ...]] = (1, 2)

    def __init__(
        self, shape: tuple[int, int], seed: int, cache: str = "auto", version: int | None = None
    ) -> None:
        super().__init__(shape, seed, cache, version)
        self._period = self.n
        if self.n <= _PERIOD:
            self.version = 1
        elif self.version > 1 and (rows := self.shape[0] % self.n):
            self._period = min(self.n, max(_PERIOD, 4 << (rows - 1).bit_length()))
        self._normal_key = np.uint64(draws.key(self.seed, draws.STREAM_NORMAL))
        self._shift_key = np.uint64(draws.key(self.seed, draws.STREAM_SHIFT))
        self._sign_key = np.uint64(draws.key(self.seed, draws.STREAM_SIGN))
        self._scale = 1 / (draws.NORMAL_ONE * (self.n * self.shape[0]) ** 0.5)
        self._stored = torch.empty(0, dtype=torch.int16)

    @property
    def encoded_size(self) -> int:
        return self.n

    def encode(self, theta: torch.Tensor) -> torch.Tensor:
        return self._mix(theta)[_permutation(self.n, theta.device)]

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        total = z.view(-1, self.n).sum(dim=0)
        unpermuted = torch.empty_like(total)
        unpermuted[_permutation(self.n, z.device)] = total
        return self._unmix(unpermuted)

    def prepare(self, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
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
        _add(begin, end, *self._gain_source(), w0, x, scale * x.dtype.type(self._scale), out)

    def _fold_blocks(self, runs: np.ndarray, v: np.ndarray, scale, z: np.ndarray) -> None:
        _fold(runs, *self._gain_source(), v, scale * z.dtype.type(self._scale), z)

    def _gain_source(self) -> tuple:
        """What the kernels read or draw the g and the shifts of blocks from."""
        keys = self._normal_key, self._sign_key, self._shift_key
        return self._stored.numpy(), normal_table(), *keys, self._period

    def _add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        for begin, end, first, last in self._torch_chunks():
            places = torch.arange(self.n, device=x.device) + self._torch_shifts(begin, end, x.device)[:, None]
            rows = torch_fwht(x[places % self.n] * self._gains(begin, end, x.device))
            self._store_rows(rows, scale * self._scale, w0[first:last], out[first:last])

    def _fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        for begin, end, first, last in self._torch_chunks():
            rows = torch_fwht(self._load_rows(v[first:last], end - begin, z.dtype))
            rows = rows * self._gains(begin, end, z.device)
            # Undo each block's shift by a gather, so that the sum over blocks has a fixed order.
            places = torch.arange(self.n, device=z.device) - self._torch_shifts(begin, end, z.device)[:, None]
            z += rows.gather(1, places % self.n).sum(dim=0) * (scale * self._scale)

    def _torch_shifts(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        words = draws.torch_words(int(self._shift_key), torch.arange(begin, end, device=device))
        return (words & (self.n // LANES - 1)) * LANES

    def _gains(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        """(end − begin, n) int16: the diagonals g of these blocks."""
        if end * self.n <= self._stored.numel():
            return self._stored[begin * self.n : end * self.n].view(end - begin, self.n)
        return self._torch_normals(begin, end, device)

    def _torch_normals(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        """The diagonals, drawn."""
        n, key = self.n, int(self._normal_key)
        whole = end if self._period == n else min(end, self.shape[0] // n)
        g = draws.torch_normals(key, begin * n, (whole - begin) * n, device).view(whole - begin, n)
        if whole == end:
            return g
        period = draws.torch_normals(key, whole * n, self._period, device)
        signs = draws.torch_signs(int(self._sign_key), whole * n // LANES, n // LANES, device)
        repeated = period.repeat(n // self._period) * signs.repeat_interleave(LANES)
        return torch.cat((g, repeated[None]))


@lru_cache(maxsize=8)
def _permutation(n: int, device: torch.device) -> torch.Tensor:
    return draws.permutation(draws.key(n, draws.STREAM_PERMUTATION), n).to(device)


@njit(nogil=True)
def _short_block(total, t0, factor, f0, first, period, table, normal_key, sign_key, scratch):
    """total += factor · g: x times g into the numbers of a short block, or these times g into z.

    `total` and `factor` are read from t0 and f0, around their ends, the shorter one again and again. g are the
    draws from `first` on, made a piece at a time in `scratch`.
    """
    n = max(total.shape[0], factor.shape[0])
    g = scratch[: min(n, _DRAWN)]
    signs = np.ones(n // LANES, total.dtype)
    if period < n:
        flip(signs, sign_key, first // LANES)
    for base in range(0, period, g.shape[0]):
        draw_normals(normal_key, table, first + base, g)
        for start in range(base, n, period):
            for i in range(0, g.shape[0], LANES):
                t, f = (t0 + start + i) & (total.shape[0] - 1), (f0 + start + i) & (factor.shape[0] - 1)
                sign = signs[(start + i) // LANES]
                add_product(total, t, factor, f, g, i, sign)  # type: ignore[call-arg]  # numba gives the context


@cached_njit(nogil=True)
def _add(begin, end, stored, table, normal_key, sign_key, shift_key, period, w0, x, scale, out):
    n = x.shape[0]
    scratch = np.empty(max(n, _DRAWN), np.int16)
    buffer = line_aligned(n, x)
    whole = min(end, out.shape[0] // n)
    if whole * n <= stored.shape[0]:
        add_blocks(buffer, x, shift_key, begin, whole, stored, begin * n, w0, out, scale)
    else:
        step = scratch.shape[0] // n
        for k in range(begin, whole, step):
            last = min(k + step, whole)
            draw_normals(normal_key, table, k * n, scratch[: (last - k) * n])
            add_blocks(buffer, x, shift_key, k, last, scratch, 0, w0, out, scale)
    if whole < end:
        rows = out.shape[0] - whole * n
        part = buffer[: height(rows, n)]
        part[:] = 0
        shift = block_shift(shift_key, whole, n)
        _short_block(part, 0, x, shift, whole * n, period, table, normal_key, sign_key, scratch)
        store(part, w0, scale, out, whole * n, rows)


@cached_njit(nogil=True)
def _fold(runs, stored, table, normal_key, sign_key, shift_key, period, v, scale, z):
    n = z.shape[0]
    scratch = np.empty(max(n, _DRAWN), np.int16)
    buffer = line_aligned(n, z)
    first = 0
    for begin, end in runs:
        whole = min(end, begin + (v.shape[0] - first) // n)
        if whole * n <= stored.shape[0]:
            fold_blocks(buffer, z, shift_key, begin, whole, stored, begin * n, v, first, scale)
        else:
            step = scratch.shape[0] // n
            for k in range(begin, whole, step):
                last = min(k + step, whole)
                draw_normals(normal_key, table, k * n, scratch[: (last - k) * n])
                fold_blocks(buffer, z, shift_key, k, last, scratch, 0, v, first + (k - begin) * n, scale)
        first += (whole - begin) * n
        if whole < end:
            rows = v.shape[0] - first
            part = buffer[: height(rows, n)]
            if load(part, v, scale, first, rows):
                shift = block_shift(shift_key, whole, n)
                _short_block(z, shift, part, 0, whole * n, period, table, normal_key, sign_key, scratch)
