"""Signs everywhere: blocks H D± Π H B, one random bit a weight (Ailon & Chazelle 2006; Yu et al. 2016).

Block k (n rows, see `blocks`) is c · H diag(s_k) Π_k H B with c = 1/√(n·D): fastfood with random signs s_k for its
normals. Its rows are orthogonal and of one length, so ‖Pθ‖² = ‖θ‖² for every θ where n divides D, and r ≤ n rows
of one block have a Gram matrix that is a multiple of the identity where d = n. `sorf` has that too, for two
transforms a block; this takes one, as fastfood does. The signs are drawn where they are used, 64 of a hash,
and nothing is stored.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from intrinsic_cli.projections.blocks import PermutedBlocks


class Signs(PermutedBlocks):
    """P whose blocks are H D± Π H B. See the module's text; the contract is `Projection`'s."""

    kind: ClassVar[str] = "signs"

    def _set_up(self) -> None:
        super()._set_up()
        self.scale = (self.n * self.shape[0]) ** -0.5

    def _gains(self, begin: int, end: int, device: torch.device) -> torch.Tensor:
        """(end − begin, n) int8."""
        return self._signs(self.sign_key, begin * self.n, (end - begin) * self.n, device).view(-1, self.n)
