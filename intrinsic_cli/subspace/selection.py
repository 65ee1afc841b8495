"""Which tensors of a model P moves, which are trained directly, and how many of d numbers are left for θ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.spec import SubspaceSpec, is_whole


def select(
    model: nn.Module, spec: SubspaceSpec, head: Sequence[str] = ()
) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The tensors that P moves and the head tensors trained directly, by name; all others stay as they are.

    Tied tensors appear once, under their first name; tensors with `requires_grad=False` never do.
    Raises ConfigError where a pattern matches no tensor, `head` names none, or nothing is left to move.
    """
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    if isinstance(head, str) or (unknown := sorted(set(head) - names)):
        what = f"head={head!r} is one text" if isinstance(head, str) else f"head names {unknown[0]!r}"
        raise ConfigError(f"{what}; it lists tensors of the model, such as {next(iter(sorted(names)), '')!r}")
    lazy = [n for n, p in model.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise ConfigError(
            f"{lazy[0]} has no shape yet; call the model once, so that its lazy modules are made"
        )
    named = {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and p.is_floating_point() and p.numel()
    }
    if not named:
        raise ConfigError(
            "the model has no real tensor that requires a gradient, so there is nothing to move"
        )
    for key, patterns in (("include", spec.include), ("exclude", spec.exclude)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in named):
                raise ConfigError(
                    f"subspace.{key}={pattern!r} matches no trainable tensor; "
                    f"names look like {next(iter(named), '')!r}"
                )
    moved, direct = {}, {}
    for name, p in named.items():
        if name in head and spec.head != "projected":
            if spec.head == "trained":
                direct[name] = p
            continue
        included = any(fnmatchcase(name, pattern) for pattern in spec.include)
        if included and not any(fnmatchcase(name, pattern) for pattern in spec.exclude):
            moved[name] = p
    if not moved:
        raise ConfigError(
            f"subspace.include={list(spec.include)} and subspace.exclude={list(spec.exclude)} "
            "leave no tensor to move"
        )
    return moved, direct


def group_of(name: str, groups: str, head: Sequence[str] = ()) -> str:
    """The group whose λ scales tensor `name`.

    `tensor`: the tensor alone. `module`: the module that owns it. `layer`: the transformer layer, that is
    the name up to its first number; outside the layers, the part of the model (`bert.embeddings`,
    `bert.pooler`), with the whole head as one group. RoBERTa-large has 26 by `layer`.
    """
    if groups == "tensor":
        return name
    if groups == "module":
        return name.rpartition(".")[0]
    if name in head:
        return "head"
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: i + 1])
    return ".".join(parts[:-1][:2])


def scale_names(moved: Iterable[str], spec: SubspaceSpec, head: Sequence[str] = ()) -> list[str]:
    """The groups that have a λ each: m names for SAID, none for DID."""
    if spec.kind != "said":
        return []
    return list(dict.fromkeys(group_of(name, spec.groups, head) for name in moved))


def free_dimensions(model: nn.Module, spec: SubspaceSpec, d: int, head: Sequence[str] = ()) -> int:
    """How many of d numbers are left for θ. Raises ConfigError where none is."""
    if not is_whole(d):
        raise ConfigError(f"d={d!r} is no whole number; d is how many numbers are trained")
    moved, direct = select(model, spec, head)
    m = len(scale_names(moved, spec, head))
    n_direct = sum(p.numel() for p in direct.values())
    if d <= m + n_direct:
        spent = [f"m={m} scales (subspace.groups={spec.groups})"] if m else []
        spent += [f"{n_direct} directly trained head weights"] if n_direct else []
        why = f", as {' and '.join(spent)} are counted in d" if spent else ""
        raise ConfigError(f"d={d} leaves nothing for θ{why}; use d > {m + n_direct}")
    D = sum(p.numel() for p in moved.values())
    if d - m - n_direct > D:
        raise ConfigError(
            f"d={d} is more than the D={D} weights it would move; use a smaller d or subspace=full"
        )
    return d - m - n_direct
