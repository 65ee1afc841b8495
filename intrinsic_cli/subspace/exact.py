"""Numbers that are kept exactly: float32 to train in place of coarser weights, and starts in as few bytes as do.

A step of Adam is often smaller than half the distance between two neighbouring bfloat16 numbers. Added to a
bfloat16 weight it is lost: with a learning rate of 3e-5 AdamW moves such weights about a quarter of the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

HALVES = (torch.bfloat16, torch.float16)


def narrowed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers, in two bytes each where bfloat16 or float16 holds all of a tensor exactly.

    As most of a checkpoint in bfloat16 is. Where fewer than half of the numbers are, `tensors` as they are: those
    of one dtype share a launch on a GPU.
    """
    found = {name: _half(values) for name, values in tensors.items()}
    spared = sum(found[name].numel() for name in tensors if found[name] is not tensors[name])
    enough = 2 * spared >= sum(values.numel() for values in tensors.values())
    return found if enough else dict(tensors)


def _half(values: Tensor) -> Tensor:
    if values.element_size() > 2:
        for dtype in HALVES:
            if torch.equal((half := values.to(dtype)).to(values.dtype), values):
                return half
    return values


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

    def drop(self) -> None:
        """Forget all gradients, whether they were taken or not."""
        for weight, _ in self._coarse:
            weight.grad = None
        for own in self:
            own.grad = None
