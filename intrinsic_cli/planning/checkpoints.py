"""The checkpoints of a trajectory, as ordinary overrides of a sweep."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning.words import choice, values
from intrinsic_cli.spec import step_of


def overrides(given: Sequence[Override]) -> list[Override]:
    """`revisions=a,b` as `model.revision=a,b`, and each pattern in `model.name` as the folders that it matches.

    The folders of a pattern are in the order of the steps at the end of their names, each once. Raises ConfigError
    where a pattern matches none, and where the words give fewer than two checkpoints.
    """
    out, checkpoints = [], 1
    for override in given:
        key = override.key_or_group
        if key in ("model", "model.name", "model.revision", "revisions"):
            found = values(override)
            if key == "model.name":
                found = [folder for name in found for folder in _matches(str(name))]
            elif key == "revisions":
                key = "model.revision"
            checkpoints *= len(found)
            override = choice(key, found)
        out.append(override)
    if checkpoints < 2:
        raise ConfigError(
            "a trajectory needs at least two checkpoints; give revisions=step0,step1000 "
            "or folders by model.name='checkpoints/step-*'"
        )
    return out


def _matches(name: str) -> list[str]:
    if not glob.has_magic(name):
        return [name]
    found = glob.glob(os.path.expanduser(name))
    if not found:
        raise ConfigError(f"model.name={name} matches no folder")
    # A link to one of the folders, such as `latest`, is no further checkpoint: the folder's own name stays.
    found.sort(key=lambda folder: not os.path.islink(folder.rstrip("/")))
    unique = {os.path.realpath(folder): folder for folder in found}.values()
    # `./a/b` is a folder where `a/b` could be a hub id.
    local = (folder if folder.startswith(("/", ".")) else f"./{folder}" for folder in unique)
    return sorted(local, key=lambda folder: (step_of(folder) or 0, folder))
