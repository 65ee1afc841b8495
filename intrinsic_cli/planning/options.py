"""What the groups of a command offer: files of `configs/`, a user's own, and ids and paths that stand for one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from intrinsic_cli import paths
from intrinsic_cli.errors import ConfigError, near, one_of
from intrinsic_cli.planning.words import setting, single, values
from intrinsic_cli.planning.yaml_file import sound_text
from intrinsic_cli.spec import ModelSpec, TaskSpec

MODELS = "models"  # the folder of models that were fetched, in the current one
GROUPS = ("task", "model", "adapter", "subspace", "projection", "search", "launcher")
OWN = {"model": ModelSpec, "task": TaskSpec}  # groups that a user may add files to, and their keys
ELSEWHERE = {  # what is typed for something that configs/ has no file of
    "model": "a folder or an id of the hub is model.name=",
    "task": "a file, a folder or a data set of the hub is task=custom task.path=",
}


def config_dir() -> Path:
    """The packaged `configs/` of a wheel, else the repository's own."""
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "run.yaml").is_file():
            return folder
    raise ConfigError(
        f"no configs/ folder beside {package}; the installation is incomplete: install idim again"
    )


def options(group: str, own: Path | None = None) -> list[str]:
    """The names that `group=` accepts, such as every task of `configs/task/` and of the folder `own`."""
    folders = [config_dir() / group, *([own / group] if own else [])]
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})


def describe(group: str, own: Path | None = None) -> list[tuple[str, str]]:
    """Every option of a group and what it stands for, as one line."""
    lines = []
    for name in options(group, own):
        cfg: Any = file_of(group, name, own)
        if group == "model":
            lines.append((name, _fetched(name) or cfg.name))
        elif group == "task":
            task = cfg.get("task", cfg)  # a file may set keys of other parts too
            is_own = OmegaConf.is_missing(task, "path")
            where = (
                "your own: task.path=FILE|FOLDER|HUB_ID" if is_own else task.path or "made here, of no file"
            )
            lines.append((name, f"{task.metrics[0]:10} {where}"))
        else:
            lines.append((name, _first_comment(group, name)))
    return lines


def _first_comment(group: str, name: str) -> str:
    """What the first line of an option's file says of it, if it is a comment."""
    first = _path(group, name, None).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") else ""


def _path(group: str, name: str, own: Path | None) -> Path:
    path = config_dir() / group / f"{name}.yaml"
    return own / group / f"{name}.yaml" if own is not None and not path.is_file() else path


def file_of(group: str, name: str, own: Path | None) -> DictConfig:
    """The file of one option."""
    path = _path(group, name, own)
    return _parsed(path, sound_text(path), group)


def _parsed(path: Path, text: str, group: str) -> DictConfig:
    """What the text of an option's file says."""
    try:
        cfg = OmegaConf.create(text)
    except AssertionError:  # a lone number
        cfg = None
    except (OmegaConfBaseException, YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{path} is no list of keys; see idim run --cfg job for those of a {group}")
    return cfg


def _fetched(name: str) -> str | None:
    """The folder of a model of `configs/model/` that lies here, as `scripts/fetch-smollm2` leaves it; else None."""
    return f"./{MODELS}/{name}" if os.path.isfile(f"{MODELS}/{name}/config.json") else None


@cache
def model_ids() -> dict[str, str]:
    """The option of each hub id of a model, with its owner and without, in lower case."""
    found: dict[str, str] = {}
    for option in options("model"):
        name = str(file_of("model", option, None).name).lower()
        found |= {name: option, name.rpartition("/")[2]: option}
    return found


@cache
def _data_sets() -> dict[str, str]:
    """The task of each name, and of each data set of the hub that belongs to one task, without its owner, in lower
    case. An id with its owner stands for the data set alone."""
    options_of: dict[str, list[str]] = {}
    for option in options("task"):
        cfg: Any = file_of("task", option, None)
        path = OmegaConf.to_container(cfg.get("task", cfg)).get("path")  # type: ignore[union-attr]
        options_of.setdefault(str(path).rpartition("/")[2].lower(), []).append(option)
    alone = {name: found[0] for name, found in options_of.items() if len(found) == 1}
    return alone | {option.lower(): option for option in options("task")}


def meant(override: Override, own: Path | None) -> list[Override]:
    """`override`; where it is `model=` or `task=` with a path or an id, what that stands for.

    The id of a model of `configs/model/` is that model, as `bert-base-uncased` is `bert-base`, and a folder
    `models/NAME` here stands for the model NAME. A data set of `configs/task/` is that task by its id without its
    owner too, as `yelp_polarity`, in any case.
    """
    key, name = override.key_or_group, override.value()
    if key not in ("model", "task") or not isinstance(name, str):
        return [override]
    if name in options(key, own):
        here = _fetched(name) if key == "model" else None
        return [override, *([setting("model.name", here)] if here else [])]
    if key == "model" and name.lower() in model_ids():
        return meant(setting("model", model_ids()[name.lower()]), own)
    if key == "task" and name.lower() in _data_sets():
        return [setting("task", _data_sets()[name.lower()])]
    is_file = key == "task" and name.lower().endswith(paths.DATA_SUFFIXES)
    if not (is_file or "/" in name or name.startswith((".", "~"))):
        return [override]
    return (
        [setting("model.name", name)]
        if key == "model"
        else [setting("task", "custom"), setting("task.path", name)]
    )


def of_own_rows(overrides: Sequence[Override]) -> list[Override]:
    """`overrides`, with `task=custom` where they give a `task.path` and no task: somebody's own rows are none of
    the default task's, whose file names them and takes only a part."""
    given = {override.key_or_group for override in overrides}
    paths_given = [override for override in overrides if override.key_or_group == "task.path"]
    own = "task" not in given and any(values(override) != [None] for override in paths_given)
    return [*([setting("task", "custom")] if own else []), *overrides]


def check_option(override: Override, own: Path | None) -> None:
    """Raise ConfigError where `task=…`, `model=…` and so on name nothing that there is."""
    key, choice = override.key_or_group, single(override)
    if not isinstance(choice, str):
        raise ConfigError(f"{override.input_line!r} is not one name of {key}")
    known = options(key, own)
    if choice in known:
        path = _path(key, choice, own)
        text = sound_text(path)
        if own is not None and path.is_relative_to(own) and key in OWN and "@package" not in text:
            names = [f.name for f in fields(OWN[key]) if f.name != "fingerprint"]
            _check_keys(path, _parsed(path, text, key), names)
        return
    if key in ELSEWHERE:
        raise ConfigError(
            f"{key}={choice} is not known{near(choice, known)} "
            f"(idim list {key}s shows all; {ELSEWHERE[key]}{choice})"
        )
    raise ConfigError(f"{key}={choice}{one_of(choice, known)}")


def _check_keys(path: Path, cfg: DictConfig, known: Sequence[str]) -> None:
    """Raise ConfigError where a user's own file has a key that its part doesn't have."""
    for key in map(str, cfg):
        if key not in (*known, "defaults"):
            raise ConfigError(f"{path}: {key}{one_of(key, known)}")
