"""The checkpoints of a trajectory, as ordinary overrides of a sweep."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning.words import choice, values
from intrinsic_cli.spec import step_of


def overrides(given: Sequence[Override]) -> list[Override]:
    """`revisions=a,b` as `model.revision=a,b`, and each pattern in `model.name` as the folders that it matches.

    The folders of a pattern are in the order of the steps in their names, each once. Raises ConfigError where a
    pattern matches none.
    """
    out = []
    for override in given:
        if override.key_or_group == "model.name":
            found = [folder for name in values(override) for folder in _matches(str(name))]
            override = choice("model.name", found)
        elif override.key_or_group == "revisions":
            override = choice("model.revision", values(override))
        out.append(override)
    return out


def in_order(given: Sequence[Override]) -> bool:
    """Whether somebody put the checkpoints into their order: no name is a pattern."""
    names = [str(name) for each in given if each.key_or_group == "model.name" for name in values(each)]
    return not any(_pattern(name) for name in names)


def _matches(name: str) -> list[str]:
    if (pattern := _pattern(name)) is None:
        return [name]
    place, rest = pattern
    found = [place / match for match in glob.glob(rest, root_dir=place) if os.path.isdir(place / match)]
    if not found:
        raise ConfigError(f"model.name={name} matches no folder")
    steps = {folder: step_of(folder.name) for folder in found}
    # What only links to another of them, as `latest` may, is that one, and the first is one with a step.
    once: dict[str, str] = {}
    for folder in sorted(found, key=lambda each: (steps[each] is None, steps[each] or 0, each)):
        once.setdefault(os.path.realpath(folder), str(folder))
    # `./a/b` is a folder where `a/b` could be a hub id.
    return [each if each.startswith(("/", ".")) else f"./{each}" for each in once.values()]


def _pattern(name: str) -> tuple[Path, str] | None:
    """The folder in which a pattern is looked for, and what is left of it there; None where `name` is no pattern.
    What is there is itself, whatever its name would match."""
    path = Path(os.path.expanduser(name))
    if not glob.has_magic(name) or os.path.isdir(path):
        return None
    place = next(parent for parent in path.parents if os.path.isdir(parent))
    rest = str(path.relative_to(place))
    return (place, rest) if glob.has_magic(rest) else None
