"""Quantization-aware fine-tuning of θ: straight-through gradients and learned levels.

The forward pass sees θ at its nearest levels; the gradient there goes to θ as if rounding were the identity
(Bengio et al. 2013, arXiv 1308.3432), and each level gets the sum over the weights that sit on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor, nn

from intrinsic_cli.bounds.quantise import quantise
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import place
from intrinsic_cli.spec import RunSpec, stream_seed
from intrinsic_cli.subspace.attach import Subspace
from intrinsic_cli.tasks.batches import Encoded, batches
from intrinsic_cli.tasks.task import task_of
from intrinsic_cli.training.device import Compute

RATE = 0.1  # of the run's own learning rate: θ is near its end already


def finetune(
    found: FineTune, spec: RunSpec, model: nn.Module, space: Subspace, train: Encoded, levels: int, steps: int
) -> FineTune:
    """`found` after `steps` of training at no more than `levels` levels: θ holds float16 numbers, so that
    coding it loses nothing more. λ and a trained head stay as they are. The subspace holds the model."""
    compute, task = Compute.here(found.precision), task_of(spec.task)
    place(space, found.tensors)
    latent = space.theta.detach().clone()
    centroids = torch.from_numpy(quantise(latent.cpu().numpy(), levels)[1]).to(latent)
    optimizer = torch.optim.Adam([latent, centroids], lr=RATE * spec.lr)
    torch.manual_seed(stream_seed(spec.seed, "dropout/qat"))
    model.train()
    for step, rows in zip(range(steps), _endless(train, spec), strict=False):
        symbols = _nearest(latent, centroids)
        with torch.no_grad():
            space.theta.copy_(centroids[symbols])
        space.write()
        with compute.autocast():
            loss = task.loss(model, compute.batch(task.batch(train, rows)))
        loss.backward()
        space.collect()
        nn.utils.clip_grad_norm_([space.theta], spec.train.max_grad_norm)
        assert space.theta.grad is not None
        latent.grad = space.theta.grad
        centroids.grad = torch.zeros_like(centroids).index_add_(0, symbols, latent.grad)
        for group in optimizer.param_groups:
            group["lr"] = RATE * spec.lr * (1 - step / steps)
        optimizer.step()
    for p in space.parameters():
        p.grad = None
    theta = centroids.half().float()[_nearest(latent, centroids)].cpu()
    return replace(found, tensors={**found.tensors, "theta": theta})


def _nearest(latent: Tensor, centroids: Tensor) -> Tensor:
    ordered, order = centroids.sort()
    return order[torch.bucketize(latent, (ordered[1:] + ordered[:-1]) / 2)]


def _endless(train: Encoded, spec: RunSpec) -> Iterator[list[int]]:
    for epoch in count():
        generator = torch.Generator().manual_seed(stream_seed(spec.seed, f"order/qat/{epoch}"))
        yield from batches(train, spec.train.batch_size, generator)
