"""Quantization-aware fine-tuning of θ: straight-through gradients and learned levels.

The forward pass sees θ at its nearest levels; the gradient there goes to θ as if rounding were the identity
(Bengio et al. 2013, arXiv 1308.3432), and each level gets the sum over the weights that sit on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from intrinsic_cli.bounds.quantise import quantise
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import rebuilt
from intrinsic_cli.spec import RunSpec, stream_seed
from intrinsic_cli.tasks.batches import batches
from intrinsic_cli.tasks.rows import Encoded
from intrinsic_cli.training.clipping import clip
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.inputs import Inputs

RATE = 0.1  # of the run's own learning rate: θ is near its end already


def finetune(found: FineTune, spec: RunSpec, inputs: Inputs, levels: int, steps: int) -> FineTune:
    """`found` after `steps` of training at no more than `levels` levels: θ holds float16 numbers, mirrored where
    `quantise` mirrors them, so that coding it loses nothing more. λ and a trained head stay as they are."""
    compute, task = Compute.here(found.precision), inputs.task
    with rebuilt(found, inputs) as (model, space):
        torch.manual_seed(stream_seed(spec.seed, "dropout/qat"))
        latent = space.theta.detach().clone()
        learned = _Levels(latent, levels)
        optimizer = torch.optim.Adam([latent, learned.free], lr=RATE * spec.lr)
        model.train()
        for step, rows in zip(range(steps), _endless(inputs.train, spec), strict=False):
            all_levels = learned()
            symbols = _nearest(latent, all_levels)
            with torch.no_grad():
                space.theta.copy_(all_levels[symbols])
            space.write()
            with compute.autocast():
                loss = task.loss(model, compute.batch(task.batch(inputs.train, rows)))
            loss.backward()
            space.collect()
            clip(space, [space.theta], spec.train)
            assert space.theta.grad is not None
            latent.grad = space.theta.grad
            learned.free.grad = None
            all_levels.backward(torch.zeros_like(all_levels).index_add_(0, symbols, latent.grad))
            for group in optimizer.param_groups:
                group["lr"] = RATE * spec.lr * (1 - step / steps)
            optimizer.step()
            space.zero_grad()  # of a trained head too, by whose length θ is clipped
        last = learned().detach().half().float()
        theta = last[_nearest(latent, last)].cpu()
    return replace(found, tensors={**found.tensors, "theta": theta})


class _Levels:
    """The levels as a function of the free ones: all of them, or the positive half of a mirrored codebook."""

    def __init__(self, theta: Tensor, levels: int) -> None:
        codebook = torch.from_numpy(quantise(theta.cpu().numpy(), levels, mirrored=True)[1]).to(theta)
        self.mirrored = len(codebook) % 2 == 0 and torch.equal(codebook, -codebook.flip(0))
        self.free = (codebook[len(codebook) // 2 :] if self.mirrored else codebook).clone().requires_grad_()

    def __call__(self) -> Tensor:
        return torch.cat([-self.free.flip(0), self.free]) if self.mirrored else self.free * 1


def _nearest(latent: Tensor, levels: Tensor) -> Tensor:
    ordered, order = levels.detach().sort()
    return order[torch.bucketize(latent, (ordered[1:] + ordered[:-1]) / 2)]


def _endless(train: Encoded, spec: RunSpec) -> Iterator[list[int]]:
    for epoch in count():
        generator = torch.Generator().manual_seed(stream_seed(spec.seed, f"order/qat/{epoch}"))
        yield from batches(train, spec.train.batch_size, generator)
