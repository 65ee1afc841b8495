"""Clip the gradients of a step by a length that means the same in every space.

The length of ∂L/∂θ = Pᵀ ∂L/∂W depends on how P is scaled and on d: on MiniLM it is 0.005 to 0.034 with
`normalize=global` and 3 to 52 with `tensor`. That of the weights' gradient ∂L/∂W is what full fine-tuning is
clipped by, so `train.clip=weights` measures it in subspaces too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from intrinsic_cli.spec import TrainSpec
from intrinsic_cli.subspace.attach import Full, Subspace
from intrinsic_cli.training import ranks


def clip(space: Full | Subspace, trained: Sequence[nn.Parameter], spec: TrainSpec) -> None:
    """Scale the gradients of `trained` so that the length `spec.clip` names is at most `spec.max_grad_norm`."""
    if spec.clip == "weights" and isinstance(space, Subspace):
        nn.utils.clip_grads_with_norm_(trained, spec.max_grad_norm, weight_length(space))
    else:
        nn.utils.clip_grad_norm_(trained, spec.max_grad_norm)


def weight_length(space: Subspace) -> Tensor:
    """The length of the gradient of all weights that P moves and of those trained beside it, after `collect`.

    It is exact for one backward pass in one process. A step of several never holds their sum, g = Σ g_j. What
    is known of g is its share of what the passes make alone, which P keeps on average:
    ‖g‖² ≈ Σ ‖g_j‖² · ‖Pᵀ g‖² / Σ ‖Pᵀ g_j‖².
    """
    squares, seen = ranks.total(space.passes.clone())
    assert space.theta.grad is not None
    whole = space.theta.grad.square().sum()
    moved = squares * torch.where(seen > 0, whole / seen, torch.ones_like(seen))
    beside = [p.grad.square().sum() for p in space.direct if p.grad is not None]
    return torch.stack([moved, *beside]).sum().sqrt()
