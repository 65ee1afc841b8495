"""From override strings to specs: Hydra composes, dataclasses check. The only module that imports hydra."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from intrinsic_cli.errors import ConfigError, ModelError
from intrinsic_cli.hub import fingerprint, local_path
from intrinsic_cli.spec import (
    BUILTIN_MODELS,
    TRACKERS,
    DataSpec,
    ModelSpec,
    ProjectionSpec,
    RunSpec,
    SubspaceSpec,
    TaskSpec,
    TrainSpec,
)

GROUPS = ("task", "model", "subspace", "projection", "search", "launcher")
LISTS = ("d", "seed", "lr")  # the keys of which a sweep takes a list
PARTS = {
    "model": ModelSpec,
    "task": TaskSpec,
    "subspace": SubspaceSpec,
    "projection": ProjectionSpec,
    "train": TrainSpec,
    "data": DataSpec,
}


def config_dir() -> Path:
    """The packaged `configs/` of a wheel, else the repository's own."""
    package = Path(__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "run.yaml").is_file():
            return folder
    raise ConfigError(
        f"no configs/ folder beside {package}; the installation is incomplete: install idim again"
    )


def options(group: str) -> list[str]:
    """The names that `group=` accepts, such as every task of `configs/task/`."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def describe(group: str) -> list[tuple[str, str]]:
    """Every option of a group and what it stands for, as one line."""
    lines = []
    for name in options(group):
        cfg: Any = OmegaConf.load(config_dir() / group / f"{name}.yaml")
        if group == "model":
            lines.append((name, cfg.name))
        elif group == "task":
            task = cfg.get("task", cfg)  # a file may set keys of other parts too
            own = OmegaConf.is_missing(task, "path")
            where = (
                "your own: task.path=FILE|FOLDER|HUB_ID" if own else task.path or "this Python installation"
            )
            lines.append((name, f"{task.metrics[0]:10} {where}"))
        else:
            lines.append((name, ""))
    return lines


def keys(name: str) -> list[str]:
    """Every key of `configs/NAME.yaml` with its default groups."""
    with initialize_config_dir(config_dir=str(config_dir()), version_base=None):
        return _keys(compose(config_name=name))


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def parse(overrides: Sequence[str]) -> list[Override]:
    """Hydra's reading of `key=value` words. Raises ConfigError with what is wrong with which word."""
    parser = OverridesParser.create()
    parsed = []
    for word in overrides:
        if "=" not in word and not word.startswith("~"):
            raise ConfigError(f"{word!r} is not an override; write key=value, for example task=mrpc")
        try:
            parsed.append(parser.parse_override(word))
        except HydraException as error:
            raise ConfigError(f"{word!r} can't be read: {str(error).splitlines()[0]}") from error
    return parsed


def compose_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """Hydra's composition of `configs/NAME.yaml` with `overrides`, keys and groups checked first."""
    parsed = parse(overrides)
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line!r} is several values; lists are for idim sweep")
        if override.key_or_group in GROUPS:
            choice = override.value()
            if not isinstance(choice, str):
                raise ConfigError(f"{override.input_line!r} is not one name of {override.key_or_group}")
            known = options(override.key_or_group)
            if choice not in known:
                key = override.key_or_group
                if len(known) > 5:
                    raise ConfigError(
                        f"{key}={choice} is not known{_near(choice, known)} (idim list {key}s shows all)"
                    )
                raise ConfigError(f"{key}={choice} is not known; use one of {', '.join(known)}")
    plain = [o.input_line or "" for o in parsed if o.key_or_group in GROUPS]
    with initialize_config_dir(config_dir=str(config_dir()), version_base=None):
        known_keys = _keys(compose(config_name=name, overrides=plain))
        for override in parsed:
            if override.key_or_group not in known_keys and not override.is_add():
                key = override.key_or_group
                raise ConfigError(
                    f"{key} is not a key{_near(key, [*known_keys, *GROUPS])} "
                    f"(idim {name} --cfg job shows all)"
                )
            if override.is_add() or override.is_delete():
                raise ConfigError(
                    f"{override.input_line!r}: keys can be set, not added or removed; write key=value"
                )
        try:
            return compose(config_name=name, overrides=list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(" ".join(str(error).split())) from error


def _keys(cfg: DictConfig, prefix: str = "") -> list[str]:
    found = []
    for key in cfg:
        name = prefix + str(key)
        found.append(name)
        value = OmegaConf.select(cfg, str(key))
        if isinstance(value, DictConfig):
            found += _keys(value, f"{name}.")
    return found


def _part(cfg: DictConfig, key: str) -> Any:
    """One part of the config as its dataclass, values converted and checked by OmegaConf."""
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{key}={cfg} is a group of keys, not a value; set one of them: {key}.KEY=VALUE")
    schema = OmegaConf.structured(PARTS[key])
    OmegaConf.set_readonly(schema, False)
    try:
        merged = OmegaConf.merge(schema, cfg)
        values: Any = OmegaConf.to_container(merged, throw_on_missing=True, resolve=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{key}.{error.full_key} has no default; add {key}.{error.full_key}=…") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}.{error.full_key}: {str(error).splitlines()[0]}") from error
    return PARTS[key](**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def number(key: str, value: Any, kind: type) -> Any:
    """`value` as a finite `kind` (int or float). Raises ConfigError, naming `key`, where it is something else."""
    finite = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not finite or (kind is int and value != int(value)):
        wanted, example = ("an integer", 500) if kind is int else ("a finite number", 0.1)
        raise ConfigError(f"{key}={value} is not {wanted}; write it as {key}={example}")
    return kind(value)


_fingerprint = cache(fingerprint)


def one_run(cfg: DictConfig, d: Any, seed: Any, lr: Any) -> RunSpec:
    """The spec of one run; a null `lr` becomes the calibrated default of the subspace."""
    if not cfg.output_dir:
        raise ConfigError("output_dir is empty; name a folder, as outputs")
    subspace = cfg.subspace.copy()
    OmegaConf.set_struct(subspace, False)
    lr_sqrt_d, default_lr = subspace.pop("lr_sqrt_d", None), subspace.pop("default_lr", None)
    space = _part(subspace, "subspace")
    d = None if space.kind == "full" or d is None else number("d", d, int)
    if d is None and space.kind != "full":
        raise ConfigError(f"subspace={space.kind} needs d, the number of trained parameters: add d=500")
    if d is not None and d < 1:
        raise ConfigError(f"d={d} must be at least 1")
    if lr is None:
        lr = default_lr if d is None else lr_sqrt_d[space.normalize] / math.sqrt(d)
        lr = float(f"{lr:.3g}")
    model, task = _part(cfg.model, "model"), _part(cfg.task, "task")
    if model.name not in BUILTIN_MODELS and (folder := local_path(model.name, "model.name", ModelError)):
        model = replace(model, fingerprint=_fingerprint(folder))
    if task.path is not None and (folder := local_path(task.path, "task.path")):
        # A folder of several data sets, such as GLUE's: only the one in use is this task's identity.
        own = folder / task.config if task.config and (folder / task.config).is_dir() else folder
        task = replace(task, fingerprint=_fingerprint(own))
    tracker = cfg.tracker or "none"
    if tracker in TRACKERS[1:] and find_spec(tracker) is None:
        raise ConfigError(f"tracker={tracker} is not installed; pip install 'idim[{tracker}]'")
    return RunSpec(
        model=model,
        task=task,
        subspace=space,
        projection=_part(cfg.projection, "projection"),
        train=_part(cfg.train, "train"),
        data=_part(cfg.data, "data"),
        d=d,
        seed=number("seed", seed, int),
        lr=number("lr", lr, float),
        tracker=tracker,
    )


def run_spec(cfg: DictConfig) -> RunSpec:
    """The spec of `idim run`. Raises ConfigError where a list stands in place of a number."""
    for key in LISTS:
        if OmegaConf.is_list(cfg[key]):
            raise ConfigError(f"{key}={cfg[key]} is not one number; lists are for idim sweep")
    return one_run(cfg, cfg.d, cfg.seed, cfg.lr)
