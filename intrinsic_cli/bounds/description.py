"""A fine-tune as one message that a decoder with the base model turns back into it: what a bound has to pay for.

The message begins with what the search was free to choose and the decoder has to know (`choices`): P's kind,
version and seed (the drawn head's too), DID or SAID, normalisation, groups, the head's treatment, the precision
and the tensors that move. Then come θ, λ and the tensors of a trained head, each as coder.py writes it. All is
self-delimiting, so no message begins another. Not named, since fixed before any label was seen: a `Setting`.
Not named, since no decoder needs them: learning rates, epochs, batches and every other choice of training.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from intrinsic_cli.bounds import coder
from intrinsic_cli.bounds.coder import Reader, delta, fixed
from intrinsic_cli.bounds.quantise import quantise
from intrinsic_cli.errors import DataError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.projections import KINDS, versions
from intrinsic_cli.spec import (
    GROUPS,
    HEADS,
    NORMALIZE,
    PRECISIONS,
    SUBSPACES,
    ModelSpec,
    ProjectionSpec,
    SubspaceSpec,
)

# The usual choice comes first, where it costs one bit; bf16 is the first precision by name.
MENUS: Mapping[str, tuple[str, ...]] = {
    "projection": tuple(KINDS), "kind": SUBSPACES[1:], "normalize": NORMALIZE, "groups": GROUPS, "head": HEADS,
    "precision": tuple(sorted(PRECISIONS[1:])),
}  # fmt: skip
ALL = (("*",), ())  # of `include` and `exclude`


@dataclass(frozen=True)
class Setting:
    """What is fixed before any label is seen, and a decoder therefore has: base model, lengths, names.

    `head` holds the shapes of the tensors that are drawn and not pre-trained.
    """

    model: ModelSpec
    weights_hash: str
    max_length: int
    labels: tuple[str, ...]
    kind: str
    task: str
    metric: str
    head: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Description:
    """The message, and its length in bits by part: `choices`, `codebook`, `d`, `symbols`."""

    message: bytes
    bits: dict[str, int]

    @property
    def total(self) -> int:
        """Bits of the message, without its padding to whole bytes."""
        return sum(self.bits.values())


def describe(found: FineTune, levels: int, *, mirrored: bool = False) -> Description:
    """The message of `found` with every tensor at no more than K = `levels` levels, θ's `mirrored` or free."""
    parts = [("choices", choices(found))]
    for name in _names(found):
        # P has no side, so θ has none; λ lives near 1 and a head's bias may be anywhere.
        symbols, codebook = quantise(
            found.tensors[name].reshape(-1).numpy(), levels, mirrored=mirrored and name == "theta"
        )
        parts += coder.write(symbols, codebook).items()
    bits = Counter[str]()
    for part, text in parts:
        bits[part] += len(text)
    return Description(coder.packed("".join(text for _, text in parts)), dict(bits))


def decode(message: bytes, setting: Setting) -> FineTune:
    """The fine-tune that the message describes, of it and the setting alone. Raises DataError at damage."""
    reader = Reader(message)
    projection, kind, normalize, groups, head, precision = (
        _picked(menu, reader.number()) for menu in MENUS.values()
    )
    version = versions(projection)[-1] - reader.number()
    seed = reader.number()
    include, exclude = _read_patterns(reader) if reader.take(1) else ALL
    tensors = {"theta": _levels(reader)}
    if kind == "said":
        tensors["lam"] = _levels(reader)
    for i, shape in enumerate(setting.head if head == "trained" else ()):
        flat = _levels(reader)
        if flat.numel() != prod(shape):
            raise DataError(f"the message is corrupt: {flat.numel()} numbers for a tensor of shape {shape}")
        tensors[f"head.{i}"] = flat.reshape(shape)
    reader.finish()
    return FineTune(
        model=setting.model, weights_hash=setting.weights_hash, head_hash=None,
        subspace=SubspaceSpec(kind, normalize, groups, include, exclude, head),
        projection=ProjectionSpec(projection, seed=seed), version=version, precision=precision,
        max_length=setting.max_length, labels=setting.labels, kind=setting.kind, task=setting.task,
        metric=setting.metric, score=None, n_eval=None, tensors=tensors,
    )  # fmt: skip


def choices(found: FineTune) -> str:
    """The bits before θ: where each choice stands in its menu, how many versions ago P's was, the seed."""
    space = found.subspace
    picked = {key: getattr(space, key, None) for key in MENUS}
    picked |= {"projection": found.projection.kind, "precision": found.precision}
    named = [menu.index(picked[key]) for key, menu in MENUS.items()]
    named += [versions(found.projection.kind)[-1] - found.version, found.seed]
    patterns = (space.include, space.exclude)
    return "".join(map(delta, named)) + ("0" if patterns == ALL else "1" + _patterns(patterns))


def _patterns(patterns: tuple[tuple[str, ...], ...]) -> str:
    told = json.dumps(patterns, separators=(",", ":")).encode()
    return delta(len(told)) + "".join(fixed(byte, 8) for byte in told)


def _read_patterns(reader: Reader) -> tuple[tuple[str, ...], tuple[str, ...]]:
    told = bytes(reader.take(8) for _ in range(reader.number()))
    try:
        include, exclude = json.loads(told)
        return tuple(map(str, include)), tuple(map(str, exclude))
    except (ValueError, TypeError) as error:
        raise DataError(f"the message is corrupt: {told[:40]!r} names no tensors") from error


def _picked(menu: tuple[str, ...], i: int) -> str:
    if i >= len(menu):
        raise DataError(f"the message is corrupt: choice {i} of {', '.join(menu)}")
    return menu[i]


def _levels(reader: Reader) -> torch.Tensor:
    symbols, codebook = coder.read(reader)
    return torch.from_numpy(codebook[symbols].astype(np.float32))


def _names(found: FineTune) -> list[str]:
    """θ, then λ, then the head's tensors in their order."""
    names = ["theta", *(["lam"] if "lam" in found.tensors else [])]
    return names + [f"head.{i}" for i in range(len(found.tensors) - len(names))]
