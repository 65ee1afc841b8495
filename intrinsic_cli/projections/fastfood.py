"""Fastfood (Le, Sarlós, Smola 2013): blocks S H G Π H B, the default projection.

Block k (n rows, see `blocks`) is c · H diag(g_k) Π_k H B with c = 1/√(n·D): g_k are n draws of N(0,1), Π_k is
a cyclic shift of one random permutation. Given θ, row a is a Gaussian of variance c² ‖H B θ‖² = ‖θ‖²/D.

For a given θ nothing is lost by sharing the permutation: whatever Π is, the rows of different blocks, and of
different seeds, are independent because their g are; Π only decides which rows *within* a block are correlated.
Over all θ at once something is: a block's M_kᵀ M_k is diagonal in the basis B H e_j for every k, so that
‖Pθ‖² of a θ along one of these n directions is a mean of D/n squares of g and not of D, and varies more than
that of a dense P. (`signs` has no such directions: its M_kᵀ M_k is the identity.)

A last block that D cuts to r rows, as all of a bias is, has random signs for g: draw version 3. What matters for
r < n rows is their Gram matrix, as a step of gradient descent moves them by −P Pᵀ g. With signs it is that of r
rows of c · √n · (an orthogonal matrix), cut to d columns: a multiple of the identity where d = n. It also costs a
sixteenth of the draws. Version 1 draws n normals there too, whose squares spread the Gram matrix's eigenvalues.
Version 2, for n > 4,096, draws p = 4 · 2^⌈log₂ r⌉ normals, 4,096 at least, and repeats them with a new sign for
every 16 numbers, which spreads them more. Where n ≤ 4,096, versions 1 and 2 are one, named version 1.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.blocks import PermutedBlocks
from intrinsic_cli.projections.hadamard import LANES

_PERIOD = 4096  # the g of a short block repeat after no fewer numbers: part of draw version 2


class Fastfood(PermutedBlocks):
    """P whose blocks are H G Π H B. See the module's text; the contract is `Projection`'s."""

    kind: ClassVar[str] = "fastfood"
    versions: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def _set_up(self) -> None:
        super()._set_up()
        self.normal_key = draws.key(self.seed, draws.STREAM_NORMAL)
        self.scale = 1 / (draws.NORMAL_ONE * (self.n * self.shape[0]) ** 0.5)
        self.stored = torch.empty(0, dtype=torch.int16)  # the g of whole blocks, or nothing
        self.period = self.n  # of the normals in a short block
        if self.version == 2 and self.n <= _PERIOD:
            self.version = 1
        if self.version == 2 and (short := self.shape[0] % self.n):
            self.period = min(self.n, max(_PERIOD, 4 << (short - 1).bit_length()))

    def prepare(self, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        # Only whole blocks are stored, so that a bias of 384 numbers never keeps n of them.
        size = self.shape[0] // self.n * self.n
        if self.cache == "regenerate" or (self.stored.numel() == size and self.stored.device == device):
            return
        kernel = self._kernel(device)
        if kernel.keeps_draws:
            self.stored = kernel.normals(self.normal_key, size, device)

    def _gains(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        """(end − begin, n) int16, in units of 1 / NORMAL_ONE."""
        n, whole = self.n, min(end, self.shape[0] // self.n)
        if whole * n <= self.stored.numel() and self.stored.device == device:
            g = self.stored[begin * n : whole * n]
        else:
            g = draws.normals(self.normal_key, begin * n, (whole - begin) * n, device)
        if whole < end:
            g = torch.cat((g, self._short_gains(whole * n, device)))
        return g.view(end - begin, n)

    def _short_gains(self, first: int, device: torch.device) -> torch.Tensor:
        """(n,) int16: the diagonal of the last block, which begins at row `first`."""
        n = self.n
        if self.version == 3:
            return self._signs(self.sign_key, first, n, device).to(torch.int16) * draws.NORMAL_ONE
        period = draws.normals(self.normal_key, first, self.period, device)
        if self.period == n:
            return period
        signs = draws.signs(self.sign_key, first // LANES, n // LANES, device)
        return period.repeat(n // self.period) * signs.repeat_interleave(LANES)
