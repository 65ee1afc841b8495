"""The dense Gaussian projection: every entry of P is an independent draw of N(0, 1/D).

The reference that the structured kinds are compared with. The D·d numbers are drawn anew at each use, a row
at a time, and never stored: matvec and rmatvec cost D·d draws.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.contract import Projection

ROWS = 64  # rows of a block
_CHUNK = 1 << 22  # entries of P held at a time by the torch operations


class Dense(Projection):
    """P with independent N(0, 1/D) entries; entry (a, j) is normal draw a · (d rounded up to 4) + j."""

    kind: ClassVar[str] = "dense"

    def _set_up(self) -> None:
        self.key = draws.key(self.seed, draws.STREAM_NORMAL)
        self.width = -(-self.shape[1] // 4) * 4  # four draws come from one hash
        self.scale = 1 / (draws.NORMAL_ONE * self.shape[0] ** 0.5)

    @property
    def block_rows(self) -> int:
        return ROWS

    def add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        for first, last, entries in self._row_runs(x):
            out[first:last] = w0[first:last] + (entries @ x) * (scale * self.scale)

    def fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        for first, last, entries in self._row_runs(z):
            z += (v[first:last].to(z.dtype) @ entries) * (scale * self.scale)

    def _row_runs(self, like: torch.Tensor):
        """(first, last, entries of P · NORMAL_ONE · √D) of runs of rows, in the type and place of `like`."""
        D, d = self.shape
        step = max(1, _CHUNK // self.width)
        for first in range(0, D, step):
            last = min(first + step, D)
            size = (last - first) * self.width
            entries = draws.normals(self.key, first * self.width, size, like.device)
            yield first, last, entries.view(-1, self.width)[:, :d].to(like.dtype)
