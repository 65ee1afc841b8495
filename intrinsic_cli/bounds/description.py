"""A fine-tune as messages that a decoder with the base model turns back into it: what a bound has to pay for.

One self-delimiting message (code.py) for each of θ, λ and the tensors of a trained head; their
concatenation is prefix-free too. θ's message also names what the search was free to choose and the decoder has to
know: P's kind, version and seed (the drawn head's too), DID or SAID, normalisation, groups, the head's treatment,
the precision and the tensors that move. Not named, since fixed before any label was seen: the base model with
its tokenizer, the text columns and their length, and the labels. Not named, since no decoder needs them:
learning rates, epochs, batches and every other choice of training.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from intrinsic_cli.bounds import coder
from intrinsic_cli.bounds.quantise import quantise
from intrinsic_cli.errors import DataError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.projections import KINDS
from intrinsic_cli.spec import GROUPS, HEADS, NORMALIZE, PRECISIONS, SUBSPACES

MENUS = (KINDS, SUBSPACES[1:], NORMALIZE, GROUPS, HEADS, PRECISIONS[1:])
NUMBERS = len(MENUS) + 2  # menus, P's version and seed


@dataclass(frozen=True)
class Description:
    """The messages, and their length in bits by part: `form`, `choices`, `codebook`, `d`, `symbols`."""

    messages: tuple[bytes, ...]
    bits: dict[str, int]

    @property
    def total(self) -> int:
        """Bits of the concatenated messages, without the padding of each to whole bytes."""
        return sum(self.bits.values())


def describe(found: FineTune, levels: int) -> Description:
    """The messages of `found` with every tensor at no more than K = `levels` levels, each by the shorter coder."""
    messages, bits = [], Counter[str]()
    for name, tensor in _ordered(found):
        symbols, codebook = quantise(tensor.reshape(-1).numpy(), levels)
        named = choices(found) if name == "theta" else ()
        parts = {kind: coder.bits_of_parts(symbols, codebook, named, kind) for kind in coder.CODERS}
        best = min(parts, key=lambda c: sum(parts[c].values()))
        messages.append(coder.encode(symbols, codebook, named, best))
        bits.update(parts[best])
    return Description(tuple(messages), dict(bits))


def decode(messages: Sequence[bytes], known: FineTune) -> FineTune:
    """The fine-tune that the messages describe. Of `known` only what is fixed beforehand is used: the base
    model, labels, task, lengths, and the shapes of a head. Raises DataError at messages that are damaged."""
    symbols, codebook, named = coder.decode(messages[0])
    if len(named) < NUMBERS or any(i >= len(menu) for i, menu in zip(named, MENUS, strict=False)):
        raise DataError(f"the message is corrupt: its choices {list(named)[:12]} are not known")
    kind, subspace, normalize, groups, head, precision = (
        menu[i] for i, menu in zip(named, MENUS, strict=False)
    )
    version, seed = named[len(MENUS) : NUMBERS]
    include, exclude = json.loads(bytes(named[NUMBERS:]) or b'[["*"],[]]')
    tensors = {"theta": _levels(symbols, codebook)}
    for (name, tensor), message in zip(_ordered(known)[1:], messages[1:], strict=True):
        tensors[name] = _levels(*coder.decode(message)[:2]).reshape(tensor.shape)
    return replace(
        known,
        subspace=replace(
            known.subspace, kind=subspace, normalize=normalize, groups=groups, head=head,
            include=tuple(include), exclude=tuple(exclude),
        ),
        projection=replace(known.projection, kind=kind, seed=seed),
        version=version + 1,
        precision=precision,
        tensors=tensors,
    )  # fmt: skip


def choices(found: FineTune) -> tuple[int, ...]:
    """What θ's message names, as integers; the usual choice is 0, the cheapest, in most places."""
    space = found.subspace
    picked = (found.projection.kind, space.kind, space.normalize, space.groups, space.head, found.precision)
    named = [menu.index(choice) for menu, choice in zip(MENUS, picked, strict=True)]
    named += [found.version - 1, found.seed]
    if space.include != ("*",) or space.exclude:
        named += json.dumps([space.include, space.exclude], separators=(",", ":")).encode()
    return tuple(named)


def _levels(symbols: NDArray[Any], codebook: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(codebook[symbols].astype(np.float32))


def _ordered(found: FineTune) -> list[tuple[str, torch.Tensor]]:
    """θ, then λ, then the head's tensors in their order."""
    names = ["theta", *(["lam"] if "lam" in found.tensors else [])]
    names += [f"head.{i}" for i in range(len(found.tensors) - len(names))]
    return [(name, found.tensors[name]) for name in names]
