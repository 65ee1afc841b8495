"""Structured orthogonal random features (Yu et al. 2016, arXiv 1610.09072): blocks H D1 H D2 H D3 of signs.

Block k is c · H diag(a_k) H diag(b_k) H B with c = 1/(n √D) and B = D3 shared (see `blocks`). Its rows are
orthogonal and of one length, so ‖P θ‖² = ‖θ‖² exactly when n divides D. The signs are drawn in the loop,
one bit each, and nothing is stored.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.blocks import BlockProjection
from intrinsic_cli.projections.hadamard import fwht


class Sorf(BlockProjection):
    """P whose blocks are H D1 H D2 H D3. See the module's text; the contract is `Projection`'s."""

    kind: ClassVar[str] = "sorf"

    def _set_up(self) -> None:
        self.outer_key = draws.key(self.seed, draws.STREAM_SIGN)
        self.inner_key = draws.key(self.seed, draws.STREAM_SIGN2)
        self.scale = 1 / (self.n * self.shape[0] ** 0.5)

    def add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        for begin, end, first, last in self._chunks():
            rows = fwht(x * self._diagonals(self.inner_key, begin, end, x.device))
            rows = fwht(rows * self._diagonals(self.outer_key, begin, end, x.device))
            self._store_rows(rows, scale * self.scale, w0[first:last], out[first:last])

    def fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        for begin, end, first, last in self._chunks():
            rows = fwht(self._load_rows(v[first:last], end - begin, z.dtype))
            rows = fwht(rows * self._diagonals(self.outer_key, begin, end, z.device))
            rows = rows * self._diagonals(self.inner_key, begin, end, z.device)
            z += rows.sum(dim=0) * (scale * self.scale)

    def _diagonals(self, key: int, begin: int, end: int, device: torch.device) -> torch.Tensor:
        """(end − begin, n) int8; a block starts at a new 64-bit word."""
        stride = max(self.n, 64)
        signs = draws.signs(key, stride * begin, stride * (end - begin), device)
        return signs.view(end - begin, stride)[:, : self.n]
