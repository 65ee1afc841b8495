"""The checkpoints of a trajectory, as ordinary overrides of a sweep."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence

from hydra.core.override_parser.types import ChoiceSweep, Override

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning.words import parse
from intrinsic_cli.spec import step_of


def overrides(words: Sequence[str]) -> list[str]:
    """`revisions=a,b` as `model.revision=a,b`, and each pattern in `model.name` as the folders that it matches.

    The folders of a pattern are in the order of the steps at the end of their names. Raises ConfigError where
    a pattern matches none, and where the words give fewer than two checkpoints.
    """
    out, checkpoints = [], 1
    for word, override in zip(words, parse(words), strict=True):
        key = override.key_or_group
        if key == "revisions":
            word = f"model.revision={word.partition('=')[2]}"
        if key in ("model", "model.name", "model.revision", "revisions"):
            values = _values(override)
            if key == "model.name":
                values = [folder for name in values for folder in _matches(name)]
                word = f"{key}={','.join(map(_quoted, values))}"
            checkpoints *= len(values)
        out.append(word)
    if checkpoints < 2:
        raise ConfigError(
            "a trajectory needs at least two checkpoints; give revisions=step0,step1000 "
            "or folders by model.name='checkpoints/step-*'"
        )
    return out


def _values(override: Override) -> list[str]:
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [str(getattr(each, "text", each)) for each in value.list]
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [str(value)]


def _matches(name: str) -> list[str]:
    if not glob.has_magic(name):
        return [name]
    found = glob.glob(os.path.expanduser(name))
    if not found:
        raise ConfigError(f"model.name={name} matches no folder")
    # `./a/b` is a folder where `a/b` could be a hub id.
    local = (folder if folder.startswith(("/", ".")) else f"./{folder}" for folder in found)
    return sorted(local, key=lambda folder: (step_of(folder) or 0, folder))


def _quoted(text: str) -> str:
    """`text` in Hydra's syntax."""
    return text if re.fullmatch(r"[\w./@+-]+", text) else "'" + text.replace("'", r"\'") + "'"
