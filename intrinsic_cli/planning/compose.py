"""From override strings to specs: Hydra composes, dataclasses check."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from intrinsic_cli import paths
from intrinsic_cli.errors import ConfigError, ModelError, near, one_of, to_install
from intrinsic_cli.paths import fingerprint, local_path
from intrinsic_cli.planning.sizes import parameters
from intrinsic_cli.planning.words import LISTS, put, resolve, setting, single
from intrinsic_cli.planning.yaml_file import sound_text
from intrinsic_cli.record import count, record
from intrinsic_cli.spec import (
    BUILTIN_MODELS,
    LARGEST,
    NORMALIZE,
    TRACKERS,
    AdapterSpec,
    DataSpec,
    ModelSpec,
    ProjectionSpec,
    RunSpec,
    SubspaceSpec,
    TaskSpec,
    TrainSpec,
)
from intrinsic_cli.tasks.task import KINDS

MODELS = "models"  # the folder of models that were fetched, in the current one
GROUPS = ("task", "model", "adapter", "subspace", "projection", "search", "launcher")
PARTS = {
    "model": ModelSpec,
    "task": TaskSpec,
    "adapter": AdapterSpec,
    "subspace": SubspaceSpec,
    "projection": ProjectionSpec,
    "train": TrainSpec,
    "data": DataSpec,
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
        cfg: Any = _option(group, name, own)
        if group == "model":
            lines.append((name, _fetched(name) or cfg.name))
        elif group == "task":
            task = cfg.get("task", cfg)  # a file may set keys of other parts too
            is_own = OmegaConf.is_missing(task, "path")
            where = (
                "your own: task.path=FILE|FOLDER|HUB_ID"
                if is_own
                else task.path or "this Python installation"
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


def _option(group: str, name: str, own: Path | None) -> DictConfig:
    """The file of one option."""
    path = _path(group, name, own)
    try:
        cfg = OmegaConf.create(sound_text(path))
    except AssertionError:  # a lone number
        cfg = None
    except (OSError, OmegaConfBaseException, YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{path} is no list of keys; see idim run --cfg job for those of a {group}")
    return cfg


def keys(name: str) -> list[str]:
    """Every key of `configs/NAME.yaml` with its default groups."""
    return list(_composed(name, (), None)[1])


def compose_config(name: str, overrides: Sequence[Override], own: Path | None = None) -> DictConfig:
    """The config of `configs/NAME.yaml` with its groups and keys set by `overrides`, interpolations resolved.

    `own` is a folder with more `task/` and `model/` files. Hydra composes the groups; the other keys are then
    set one by one, as Hydra would. Raises ConfigError.
    """
    overrides = [each for override in overrides for each in _meant(override, own)]
    chosen = [override for override in overrides if override.key_or_group in GROUPS]
    for override in chosen:
        _check_option(override, own)
    choices = {override.key_or_group: override.value() for override in chosen}
    composed, known_keys = _composed(name, tuple(choices.items()), own)
    cfg = copy.deepcopy(composed)
    others = [override for override in overrides if override.key_or_group not in GROUPS]
    for override in others:
        key, word = override.key_or_group, override.input_line
        if key not in known_keys:
            elsewhere = name != "sweep" and key in keys("sweep")
            hint = " here, but one of idim sweep" if elsewhere else near(key, [*known_keys, *GROUPS])
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


def _meant(override: Override, own: Path | None) -> list[Override]:
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
    if key == "model" and name.lower() in _ids():
        return _meant(setting("model", _ids()[name.lower()]), own)
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


@cache
def _ids() -> dict[str, str]:
    """The option of each hub id of a model, with its owner and without, in lower case."""
    found: dict[str, str] = {}
    for option in options("model"):
        name = str(_option("model", option, None).name).lower()
        found |= {name: option, name.rpartition("/")[2]: option}
    return found


@cache
def _data_sets() -> dict[str, str]:
    """The task of each name, and of each data set of the hub that belongs to one task, without its owner, in lower
    case. An id with its owner stands for the data set alone."""
    options_of: dict[str, list[str]] = {}
    for option in options("task"):
        cfg: Any = _option("task", option, None)
        path = OmegaConf.to_container(cfg.get("task", cfg)).get("path")  # type: ignore[union-attr]
        options_of.setdefault(str(path).rpartition("/")[2].lower(), []).append(option)
    alone = {name: found[0] for name, found in options_of.items() if len(found) == 1}
    return alone | {option.lower(): option for option in options("task")}


def _fetched(name: str) -> str | None:
    """The folder of a model of `configs/model/` that lies here, as `scripts/fetch-smollm2` leaves it; else None."""
    return f"./{MODELS}/{name}" if Path(MODELS, name, "config.json").is_file() else None


ELSEWHERE = {  # what is typed for something that configs/ has no file of
    "model": "a folder or an id of the hub is model.name=",
    "task": "a file, a folder or a data set of the hub is task=custom task.path=",
}


def _check_option(override: Override, own: Path | None) -> None:
    """Raise ConfigError where `task=…`, `model=…` and so on name nothing that there is."""
    key, choice = override.key_or_group, single(override)
    if not isinstance(choice, str):
        raise ConfigError(f"{override.input_line!r} is not one name of {key}")
    known = options(key, own)
    if choice in known:
        path = _path(key, choice, own)
        text = sound_text(path)
        if own is not None and path.is_relative_to(own) and key in ELSEWHERE and "@package" not in text:
            names = [f.name for f in fields(PARTS[key]) if f.name != "fingerprint"]
            _check_keys(path, _option(key, choice, own), names)
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
    """One part of the config as its dataclass. Raises ConfigError at a value that is missing or of another type."""
    tree: Any = _values_of(cfg, key) if isinstance(cfg, DictConfig) else cfg
    if missing := [name for name, value in tree.items() if value == "???"] if tree is not cfg else ():
        raise ConfigError(f"{key}.{missing[0]} has no default; add {key}.{missing[0]}=…")
    return record(PARTS[key], tree, key, typed=True)


def _values_of(cfg: DictConfig, key: str) -> dict[str, Any]:
    """The values of a group, less those that only its other values refer to, as `${task.round}`."""
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    if own := tree.keys() - {f.name for f in fields(PARTS[key])}:
        written = str(OmegaConf.to_container(cfg))
        own = {name for name in own if f"${{{key}.{name}}}" in written}
    return {name: value for name, value in tree.items() if name not in own}


def number(key: str, value: Any, kind: type) -> Any:
    """`value` as a finite `kind` (int or float). Raises ConfigError, naming `key`, where it is something else."""
    value = count(value)
    limit = LARGEST if kind is int else sys.float_info.max
    finite = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= limit
    if not finite or (kind is int and value != int(value)):
        wanted, example = ("an integer", 500) if kind is int else ("a finite number", 0.1)
        raise ConfigError(f"{key}={value} is not {wanted}; write it as {key}={example}")
    return kind(value)


def text(key: str, value: Any, example: str) -> str:
    """`value`, which must be a text that is not empty. Raises ConfigError that names `key`."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{key}={value} is not a text; write it as {key}={example}")
    return value


_fingerprint = cache(fingerprint)


def one_run(cfg: DictConfig, d: Any, seed: Any, lr: Any) -> RunSpec:
    """The spec of one run; a null `lr` becomes the calibrated default of the space. With d = 0 it is that of
    the model before training, whatever the space."""
    adapter, adapter_rates = _adapter(cfg.adapter)
    space, rate = _subspace(cfg.subspace, adapter_rates)
    d = None if space.kind == "full" or d is None else number("d", d, int)
    if d == 0:
        return untrained(cfg)
    if d is None and space.kind != "full":
        raise ConfigError(f"subspace={space.kind} needs d, the number of trained parameters: add d=500")
    if d is not None and d < 1:
        raise ConfigError(f"d={d} must be at least 1")
    model = _model(cfg.model, output_dir(cfg))
    if lr is None:
        # Of an adapter's numbers a plan knows no size.
        growth = 1.0 if d is None or adapter_rates else max(1.0, parameters(model) / d) ** GROWTH
        lr = float(f"{rate * growth / math.sqrt(d or 1):.3g}")
    return _spec(
        cfg, seed, model=model, adapter=adapter, subspace=space,
        projection=_part(cfg.projection, "projection"), d=d, lr=number("lr", lr, float),
    )  # fmt: skip


def untrained(cfg: DictConfig) -> RunSpec:
    """The spec of the run that trains nothing. Raises ConfigError where its score would be that of a drawn head."""
    model = _model(cfg.model, output_dir(cfg))
    spec = _spec(cfg, 0, model=model, subspace=SubspaceSpec("none"), d=0, lr=0.0)
    if KINDS[spec.task.kind].fresh_head:
        raise ConfigError(
            f"d=0 says nothing with task.kind={spec.task.kind}, whose head is drawn anew; d must be at least 1"
        )
    return spec


def _spec(cfg: DictConfig, seed: Any, **space: Any) -> RunSpec:
    """A spec of what `cfg` says beside the model, the space, d and rate."""
    tracker = text("tracker", cfg.tracker or "none", "none")
    if tracker in TRACKERS[1:] and find_spec(tracker) is None:
        raise ConfigError(f"tracker={tracker} is not installed; {to_install(tracker)}")
    return RunSpec(
        task=_task(cfg.task, output_dir(cfg)),
        train=_part(cfg.train, "train"),
        data=_part(cfg.data, "data"),
        seed=number("seed", seed, int),
        tracker=tracker,
        **space,
    )


def output_dir(cfg: DictConfig) -> str:
    """Where the runs go. Raises ConfigError where it is no folder's name."""
    name = text("output_dir", cfg.output_dir, "outputs")
    try:
        return str(Path(name).expanduser()) if name.startswith("~") else name
    except RuntimeError as error:
        raise ConfigError(f"output_dir={name} is no folder ({error}); write its whole path") from error


# A step of Adam moves the weights by about lr · sqrt(d), and the best such length grows by this power of D/d, from
# that of full fine-tuning at d = D (docs/calibration.md).
GROWTH = 0.2
Rates = dict[str, Any]  # the keys default_lr, lr_sqrt_d and lr_step of a group


def _apart(cfg: DictConfig) -> tuple[DictConfig, Rates]:
    """A group without its default learning rates, and those that are not null."""
    own = cfg.copy()
    OmegaConf.set_struct(own, False)
    rates = {key: own.pop(key, None) for key in ("default_lr", "lr_sqrt_d", "lr_step")}
    return own, {key: rate for key, rate in rates.items() if rate is not None}


def _adapter(cfg: DictConfig) -> tuple[AdapterSpec, Rates]:
    """The adapter, and the default learning rates that it brings."""
    if not isinstance(cfg, DictConfig):
        return _part(cfg, "adapter"), {}
    own, rates = _apart(cfg)
    adapter = _part(own, "adapter")
    if adapter and adapter.kind != "bitfit" and find_spec("peft") is None:
        raise ConfigError(f"adapter={adapter.kind} needs peft, which is not installed; {to_install('peft')}")
    return adapter, rates


def _subspace(cfg: DictConfig, instead: Rates) -> tuple[SubspaceSpec, float]:
    """The subspace, and what its default learning rate is made of: the rate itself (full), or the length of a step,
    rate · sqrt(d), at any d (over an adapter, which has one `instead`) or at d = D."""
    if not isinstance(cfg, DictConfig):
        return _part(cfg, "subspace"), 0.0
    own, given = _apart(cfg)
    space = _part(own, "subspace")
    length = "lr_sqrt_d" if instead else "lr_step"
    key = "default_lr" if space.kind == "full" else length
    whose = "adapter" if key in instead else "subspace"
    rate = {**given, **instead}.get(key)
    if space.kind == "full":
        return space, number(f"{whose}.{key}", rate, float)
    if not isinstance(rate, DictConfig):
        raise ConfigError(f"{whose}.{key}={rate} is not a number for each of {', '.join(NORMALIZE)}")
    return space, number(f"{whose}.{key}.{space.normalize}", rate[space.normalize], float)


def _model(cfg: DictConfig, output: str) -> ModelSpec:
    model = _part(cfg, "model")
    if model.name in BUILTIN_MODELS:
        return model
    folder = local_path(model.name, "model.name", ModelError)
    if folder is None:
        return model
    paths.check_model(folder, model)
    _check_outside(output, folder, f"model.name={model.name}")
    return replace(model, name=_named(model.name, folder), fingerprint=_fingerprint(folder))


def _task(cfg: DictConfig, output: str) -> TaskSpec:
    task = _part(cfg, "task")
    folder = None if task.path is None else local_path(task.path, "task.path")
    if folder is None:
        return task
    root = paths.data_root(folder, task.config)
    _check_outside(output, root, f"task.path={task.path}")
    paths.data_files(root, str(task.path))
    return replace(task, path=_named(str(task.path), folder), fingerprint=_fingerprint(root))


def _named(typed: str, folder: Path) -> str:
    """`typed`, or the whole path of `folder` where it does not end in a name: `.`, `..`, `~`."""
    last = typed.rstrip("/").rpartition("/")[2]
    return str(folder.resolve()) if last in ("", ".", "..") or typed.startswith("~") else typed


def _check_outside(output: str, folder: Path, whose: str) -> None:
    """Raise ConfigError where runs would be written among the files that they are made of."""
    try:
        inside = Path(output).expanduser().resolve().relative_to(folder.resolve()).parts
    except (ValueError, OSError, RuntimeError):  # elsewhere, or no path, which is said where it is written
        return
    if folder.is_dir() and not any(part.startswith(".") for part in inside):
        raise ConfigError(
            f"output_dir={output} lies in {whose}, whose files it would change; choose another folder"
        )


def look_again() -> None:
    """Forget what files held: each plan sees them as they are now, and as they are then until its end."""
    _fingerprint.cache_clear()


def words_of(spec: RunSpec, output_dir: Path | None = None) -> list[str]:
    """The fewest words of `idim run` that make `spec` again, in `output_dir` where one is given, the learning rate
    always among them."""
    chosen = {
        "task": spec.task.name if spec.task.name in options("task") else "custom",
        "model": _ids().get(spec.model.name.lower(), "minilm"),
        **({"adapter": spec.adapter.kind} if spec.adapter else {}),
        "subspace": "did" if spec.d == 0 else spec.subspace.kind,
        "projection": spec.projection.kind,
    }
    cfg = compose_config("run", [setting(group, choice) for group, choice in chosen.items()])
    usual: Any = OmegaConf.to_container(cfg)
    words = [f"{group}={choice}" for group, choice in chosen.items()]
    for part, tree in spec.to_dict().items():
        if part in PARTS:
            words += [
                str(setting(f"{part}.{key}", value).input_line)
                for key, value in tree.items()
                if key in usual[part] and key != "kind" and usual[part][key] != value
            ]
        elif tree is not None and (part == "lr" or usual[part] != tree):  # the default rate depends on d
            words.append(f"{part}={tree}")
    if output_dir not in (None, Path(usual["output_dir"])):
        words.append(str(setting("output_dir", str(output_dir)).input_line))
    return words


def run_spec(cfg: DictConfig) -> RunSpec:
    """The spec of `idim run`. Raises ConfigError where a list stands in place of a number."""
    look_again()
    for key in LISTS:
        if OmegaConf.is_list(cfg[key]):
            raise ConfigError(f"{key}={cfg[key]} is not one number; lists are for idim sweep")
    return one_run(cfg, cfg.d, cfg.seed, cfg.lr)
