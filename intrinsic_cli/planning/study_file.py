"""A study in a file: the words of `idim sweep` as YAML.

The file is read before the words of the command line, and one is written beside the runs of every sweep. Keys are
as on the command line, nested or dotted; a list is a list, and groups take their names:

    task: [mrpc, rte]
    model: roberta-base
    d: [300, 1000, 3000]
    train: {epochs: 5}
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from intrinsic_cli import __version__
from intrinsic_cli.errors import ConfigError, one_of
from intrinsic_cli.planning.letters import KEYS
from intrinsic_cli.planning.options import GROUPS, config_dir, file_of, of_own_rows, options
from intrinsic_cli.planning.words import FOLDER, LISTS, MAPPINGS, SEQUENCES, choice, setting, single, values
from intrinsic_cli.planning.yaml_file import sound_text

SUFFIXES = (".yaml", ".yml")
# Of groups, but calibrated: another version may have other ones.
RATES = ("subspace.lr_step", "subspace.default_lr", "adapter.lr_sqrt_d", "adapter.default_lr")
# What a file says of its choice of a group, and not of another one.
OF_A_CHOICE = {
    "model": ("name", "revision", "num_hidden_layers"),
    "task": ("name", "path", "config", "text", "label", "labels", "train", "validation", "revision"),
}
# Texts though they look like numbers: `1:30:00` is one to YAML.
LETTERS = (
    FOLDER,
    *(f"launcher.{key}" for key in ("time", "memory", "account", "partition", "qos", "constraint")),
)

OCTAL = re.compile(r"[-+]?0[0-9]+")  # in YAML 1.1, where 1:30 counts by sixties


def read(path: str | Path, given: Sequence[Override] = ()) -> list[Override]:
    """The words of a study file and `given` ones, which stand in place of the file's own for the same keys.

    A `defaults` list, as Hydra's own files have, chooses groups. Where a group is chosen anew, what the file says
    of its own choice falls away: the name of a model, the path of a task, what default rates are made of. Raises
    ConfigError where the file can't be read.
    """
    typed = {override.key_or_group for override in given}
    words = sound_text(Path(path))
    own = list(_overrides(_tree(path, words), yaml.load(words, _Letters)))
    if not own:
        raise ConfigError(f"{path} has no words of a study; write lines such as task: mrpc")
    keys = [override.key_or_group for override in own]
    typed |= {key for key in keys if key.startswith(RATES) and key.partition(".")[0] in typed}
    typed |= {f"{group}.{name}" for group, names in OF_A_CHOICE.items() if group in typed for name in names}
    found = [override for override in own if override.key_or_group not in typed]
    return [*found, *given]


def preset(given: Sequence[Override]) -> list[Override]:
    """`given` words with `study=NAME` among them as those of `configs/study/NAME.yaml`, less what they set anew.

    Raises ConfigError at a name that there is none of.
    """
    names = [override for override in given if override.key_or_group == "study"]
    if not names:
        return list(given)
    name = single(names[-1])
    if name not in options("study"):
        raise ConfigError(f"study={name}{one_of(name, options('study'))}")
    others = [override for override in given if override.key_or_group != "study"]
    return read(config_dir() / "study" / f"{name}.yaml", others)


class _Letters(yaml.SafeLoader):
    """Reads nothing as a number or a truth value, but each as its letters."""

    yaml_implicit_resolvers: ClassVar = {
        first: [each for each in some if each[0] == "tag:yaml.org,2002:null"]
        for first, some in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _tree(path: str | Path, text: str) -> dict[str, Any]:
    """The mapping of a file of this text, its `defaults` among the groups."""
    try:
        tree: Any = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except (OSError, RecursionError, yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {' '.join(str(error).split())}; mend the file") from error
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path} is no mapping of keys to values; write lines such as task: mrpc")
    defaults = tree.pop("defaults", [])
    chosen = [each for each in defaults if isinstance(each, dict)] if isinstance(defaults, list) else []
    return {key: value for each in chosen for key, value in each.items()} | tree


def _overrides(tree: Mapping[str, Any], letters: Mapping[str, Any], prefix: str = "") -> Iterator[Override]:
    """The words of a file's mapping; of keys that hold texts as `letters`, the same mapping, has them."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in MAPPINGS:
            yield from _overrides(value, letters.get(name, {}), f"{key}.")
            continue
        written = letters.get(name, value)
        value = written if key in KEYS or key in LETTERS else _as_written(value, written)
        if not isinstance(value, list) or _is_whole(key, value):
            yield setting(key, value)
        elif not value:
            raise ConfigError(f"{key}: [] is an empty list; give at least one value")
        else:
            yield choice(key, value)


def _as_written(value: Any, letters: Any) -> Any:
    """A value, with the letters of each number that YAML 1.1 reads otherwise than people do."""
    if isinstance(value, list) and isinstance(letters, list):
        return [_as_written(*pair) for pair in zip(value, letters, strict=True)]
    if isinstance(value, dict) and isinstance(letters, dict):
        return {key: _as_written(each, letters.get(str(key), each)) for key, each in value.items()}
    if not isinstance(value, int | float) or not isinstance(letters, str):
        return value
    octal = OCTAL.fullmatch(letters) and int(letters) != value
    return letters if octal or ":" in letters else value


def _is_whole(key: str, value: list[Any]) -> bool:
    """Whether a list is one value of its key, and not several."""
    if key in SEQUENCES:
        return not any(isinstance(each, list) for each in value)
    return key in LISTS or key.startswith("baseline.")


def text(overrides: Sequence[Override], cells: Sequence[DictConfig]) -> str:
    """The study of these words as a file that makes it again, whatever the defaults of another version are, but for
    the rate of full fine-tuning beside other runs.

    `cells` are the configurations that the words make: what all of them share and no group's file decides is
    written with its value, and so is what default learning rates are made of.
    """
    groups = _default_groups()
    tree: dict[str, Any] = {**groups, **{k: OmegaConf.select(cells[0], k) for k in _common(cells)}}
    for override in of_own_rows(overrides):
        key, several = override.key_or_group, values(override)
        if override.is_sweep_override() and key in SEQUENCES:  # of which a plain list would be one value
            several = [each if isinstance(each, list) else [each] for each in several]
        others = () if key in groups else tree.keys() - groups.keys() - {key}
        if any(f"{other}.".startswith(f"{key}.") or key.startswith(f"{other}.") for other in others):
            tree.pop(key, None)  # of `a={b: 1} a.b=2` what is said last stands last
        tree[key] = several if override.is_sweep_override() else several[0]
    plain = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in tree.items()}
    head = f"# idim {__version__}: `idim sweep` with this file repeats the study.\n"
    return head + yaml.safe_dump(
        plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )


def _default_groups() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in ("run", "sweep"):
        cfg = OmegaConf.load(config_dir() / f"{file}.yaml")
        entries: Any = OmegaConf.to_container(cfg.defaults)
        found |= {k: v for entry in entries if isinstance(entry, dict) for k, v in entry.items()}
    return found


def _common(cells: Sequence[DictConfig]) -> list[str]:
    """The keys outside the groups, and of default learning rates, that have one value in all cells."""
    leaves = [
        key for key in _leaves(cells[0]) if key.partition(".")[0] not in GROUPS or key.startswith(RATES)
    ]
    others = _decided()
    leaves = [key for key in leaves if key not in others]
    return [k for k in leaves if all(OmegaConf.select(c, k) == OmegaConf.select(cells[0], k) for c in cells)]


def _decided() -> set[str]:
    """The keys of other parts that files of tasks set, as `data.max_train`."""
    files = [file_of("task", name, None) for name in options("task")]
    return {key for file in files if "task" in file for key in _leaves(file)}


def _leaves(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    for name, value in cfg.items():
        key = f"{prefix}{name!s}"
        if isinstance(value, DictConfig):
            yield from _leaves(value, f"{key}.")
        else:
            yield key
