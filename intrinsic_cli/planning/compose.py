"""From override strings to a config: Hydra composes the groups, the other keys are set one by one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from intrinsic_cli.errors import ConfigError, near
from intrinsic_cli.planning.options import GROUPS, check_option, config_dir, meant, of_own_rows
from intrinsic_cli.planning.words import put, resolve

OF_SWEEPS = ("search", "launcher", "baseline")  # what a study has and one run has not


def keys(name: str) -> list[str]:
    """Every key of `configs/NAME.yaml` with its default groups."""
    return list(_composed(name, (), None)[1])


def compose_config(name: str, overrides: Sequence[Override], own: Path | None = None) -> DictConfig:
    """The config of `configs/NAME.yaml` with its groups and keys set by `overrides`, interpolations resolved.

    `own` is a folder with more `task/` and `model/` files. Hydra composes the groups; the other keys are then
    set one by one, as Hydra would. Raises ConfigError.
    """
    overrides = [each for override in of_own_rows(overrides) for each in meant(override, own)]
    for override in overrides:
        key = override.key_or_group
        if name != "sweep" and key.partition(".")[0] in OF_SWEEPS:
            raise ConfigError(
                f"{key} is not a key here, but one of idim sweep (idim {name} --cfg job shows all)"
            )
    chosen = [override for override in overrides if override.key_or_group in GROUPS]
    for override in chosen:
        check_option(override, own)
    choices = {override.key_or_group: override.value() for override in chosen}
    composed, known_keys = _composed(name, tuple(choices.items()), own)
    cfg = copy.deepcopy(composed)
    others = [override for override in overrides if override.key_or_group not in GROUPS]
    for override in others:
        key, word = override.key_or_group, override.input_line
        if key not in known_keys:
            hint = near(key, [*known_keys, *GROUPS])
            raise ConfigError(f"{key or word} is not a key{hint} (idim {name} --cfg job shows all)")
        put(cfg, override)
    for override in reversed(others):  # of two words for one key, the last one counts
        resolve(cfg, override)
    return cfg


@cache
def _composed(
    name: str, groups: tuple[tuple[str, str], ...], own: Path | None
) -> tuple[DictConfig, tuple[str, ...]]:
    """The config with these groups chosen, not to be changed, and all its keys."""
    words = [f"{group}={choice}" for group, choice in groups]
    if own is not None:
        place = str(own.absolute()).replace("\\", "\\\\").replace("'", "\\'")
        words.append(f"hydra.searchpath=['file://{place}']")
    with initialize_config_dir(config_dir=str(config_dir()), version_base=None):
        try:
            cfg = compose(config_name=name, overrides=words)
        except (HydraException, OmegaConfBaseException, YAMLError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{' '.join(words)} can't be composed: {reason}; mend the file") from error
        return cfg, tuple(_keys(cfg))


def _keys(cfg: DictConfig, prefix: str = "") -> list[str]:
    found = []
    for key in cfg:
        name = prefix + str(key)
        found.append(name)
        value = OmegaConf.select(cfg, str(key))
        if isinstance(value, DictConfig):
            found += _keys(value, f"{name}.")
    return found
