"""The kernel of plain torch operations: every kind's own definition, on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.contract import Projection, Scales
from intrinsic_cli.projections.hadamard import fwht
from intrinsic_cli.projections.kernels.door import Kernel

_DRAWN = 1 << 22  # numbers drawn at a time: a draw takes 40 bytes while it is made


class TorchKernel(Kernel):
    """One tensor after the other, and all sums in the accumulator's first row.

    On a CPU, how torch splits a sum over its threads can change the last bits.
    """

    name = "torch"

    def transform(self, v: torch.Tensor) -> torch.Tensor:
        return fwht(v)

    def normals(self, key: int, count: int, device: torch.device) -> torch.Tensor:
        drawn = torch.empty(count, dtype=torch.int16, device=device)
        for first in range(0, count, _DRAWN):
            part = drawn[first : first + _DRAWN]
            part.copy_(draws.normals(key, first, part.numel(), device))
        return drawn

    def add(
        self,
        projections: Sequence[Projection],
        w0: Sequence[torch.Tensor],
        x: torch.Tensor,
        scales: Scales,
        out: Sequence[torch.Tensor],
    ) -> None:
        for P, source, scale, target in zip(projections, w0, scales, out, strict=True):
            # Through `data`: by no kernel does autograd take a weight for changed.
            P.add_torch(source.detach().view(-1), x, scale, target.data.view(-1))

    def fold(
        self,
        projections: Sequence[Projection],
        v: Sequence[torch.Tensor],
        scales: Scales,
        z: torch.Tensor,
    ) -> None:
        for P, source, scale in zip(projections, v, scales, strict=True):
            P.fold_torch(source.detach().view(-1), scale, z[0])
