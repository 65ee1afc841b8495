"""Float32 numbers to train in place of coarser weights.

A step of Adam is often smaller than half the distance between two neighbouring bfloat16 numbers. Added to a
bfloat16 weight it is lost: with a learning rate of 3e-5 AdamW moves such weights about a quarter of the way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Exact(nn.ParameterList):
    """What an optimizer trains: of each weight itself where it is float32, else a float32 copy.

    `starts` are the weights' exact values, of any float dtype. `write` rounds the copies into the weights once,
    and `take` moves the weights' gradients to the copies, adding to those that are there.
    """

    def __init__(self, weights: Sequence[nn.Parameter], starts: Sequence[Tensor]) -> None:
        trained = [
            weight if weight.dtype == torch.float32 else nn.Parameter(start.float().clone())
            for weight, start in zip(weights, starts, strict=True)
        ]
        super().__init__(trained)
        self._coarse = [
            (weight, own) for weight, own in zip(weights, trained, strict=True) if own is not weight
        ]

    @torch.no_grad()
    def write(self) -> None:
        """Round the copies into their weights."""
        for weight, own in self._coarse:
            weight.copy_(own)

    @torch.no_grad()
    def take(self) -> None:
        """Move the gradients of the weights to their copies."""
        for weight, own in self._coarse:
            if weight.grad is not None:
                own.grad = weight.grad.float() if own.grad is None else own.grad.add_(weight.grad)
                weight.grad = None
