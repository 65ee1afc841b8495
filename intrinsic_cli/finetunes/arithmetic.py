"""Arithmetic on fine-tunes of one space: weighted sums of their θ's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from intrinsic_cli.errors import StoreError
from intrinsic_cli.finetunes.file import SPACE, FineTune


def combine(parts: Sequence[tuple[float, FineTune]]) -> FineTune:
    """Σ weight · θ: task arithmetic (Ilharco et al. 2022, arXiv 2212.04089) in d numbers.

    θ_0 + PΣwθ is θ_0 + Σw(Pθ), so this adds and scales what fine-tuning did to every weight. Labels and the
    drawn head are the first one's. With different numbers of labels the D of `normalize=global` differs a
    little, and the sum has the first one's. Score and rows are None: evaluate it.
    Raises StoreError at parts that do not share base model, P and d, at SAID (whose λ scale each θ apart,
    so that no θ is their sum), over an adapter (whose weights are no linear function of θ), at a head trained
    directly, and at a weight that is not finite.
    """
    if not parts:
        raise StoreError("nothing to combine; give at least one (weight, fine-tune)")
    first = parts[0][1]
    for weight, part in parts:
        if not math.isfinite(weight):
            raise StoreError(f"weight={weight} is not finite")
        if part.subspace.kind != "did" or part.subspace.head == "trained":
            raise StoreError(
                f"subspace={part.subspace.kind} head={part.subspace.head} can't be added; "
                "train with subspace=did subspace.head=projected"
            )
        if part.adapter:
            raise StoreError(
                f"fine-tunes over adapter={part.adapter.kind} can't be added, as their weights are no linear "
                "function of θ; train with adapter=none"
            )
        if space_of(part) != space_of(first):
            raise StoreError(
                f"the fine-tunes of {first.task} and {part.task} live in different spaces; they add with one "
                "base model, subspace, projection.seed, draw version and d"
            )
    theta = sum(weight * part.tensors["theta"].double() for weight, part in parts)
    return replace(first, score=None, n_eval=None, tensors={"theta": theta.float()})  # type: ignore[union-attr]


def space_of(found: FineTune) -> tuple[object, ...]:
    """What two fine-tunes must share for their θ's to be comparable: base weights, P, d, what is moved."""
    space = tuple(getattr(found.subspace, name) for name in SPACE)
    projection = (found.projection.kind, found.version, found.projection.seed)
    return (found.weights_hash, *projection, found.tensors["theta"].numel(), *space, repr(found.adapter))
