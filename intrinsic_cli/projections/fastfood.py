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

import torch

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.blocks import BlockProjection
from intrinsic_cli.projections.hadamard import LANES, fwht

_PERIOD = 4096  # the g of a short block repeat after no fewer numbers: part of draw version 2


class Fastfood(BlockProjection):
    """P whose blocks are H G Π H B. See the module's text; the contract is `Projection`'s."""

    kind: ClassVar[str] = "fastfood"
    versions: ClassVar[tuple[int, ...]] = (1, 2)

    def _set_up(self) -> None:
        self.period = self.n
        if self.n <= _PERIOD:
            self.version = 1
        elif self.version > 1 and (short := self.shape[0] % self.n):
            self.period = min(self.n, max(_PERIOD, 4 << (short - 1).bit_length()))
        self.normal_key = draws.key(self.seed, draws.STREAM_NORMAL)
        self.shift_key = draws.key(self.seed, draws.STREAM_SHIFT)
        self.sign_key = draws.key(self.seed, draws.STREAM_SIGN)
        self.scale = 1 / (draws.NORMAL_ONE * (self.n * self.shape[0]) ** 0.5)
        self.stored = torch.empty(0, dtype=torch.int16)  # the g of whole blocks, or nothing

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
        if self.cache != "regenerate" and (self.stored.numel() != size or self.stored.device != device):
            self.stored = self._kernel(device).normals(self.normal_key, size, device)

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

    def _gains(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        """(end − begin, n) int16: the diagonals g of these blocks."""
        if end * self.n <= self.stored.numel() and self.stored.device == device:
            return self.stored[begin * self.n : end * self.n].view(end - begin, self.n)
        n = self.n
        whole = end if self.period == n else min(end, self.shape[0] // n)
        g = draws.normals(self.normal_key, begin * n, (whole - begin) * n, device).view(whole - begin, n)
        if whole == end:
            return g
        period = draws.normals(self.normal_key, whole * n, self.period, device)
        signs = draws.signs(self.sign_key, whole * n // LANES, n // LANES, device)
        repeated = period.repeat(n // self.period) * signs.repeat_interleave(LANES)
        return torch.cat((g, repeated[None]))


@lru_cache(maxsize=8)
def _permutation(n: int, device: torch.device) -> torch.Tensor:
    return draws.permutation(draws.key(n, draws.STREAM_PERMUTATION), n).to(device)
