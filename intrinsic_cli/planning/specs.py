"""From a config to the spec of a run, whose dataclasses check it, and from a spec back to words."""

from __future__ import annotations

import math
import sys
from dataclasses import fields, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from intrinsic_cli import paths
from intrinsic_cli.errors import ConfigError, ModelError, to_install
from intrinsic_cli.paths import fingerprint, local_path
from intrinsic_cli.planning.compose import compose_config
from intrinsic_cli.planning.options import model_ids, options
from intrinsic_cli.planning.sizes import parameters
from intrinsic_cli.planning.words import LISTS, setting
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
from intrinsic_cli.tasks.task import KINDS, task_of

PARTS = {
    "model": ModelSpec,
    "task": TaskSpec,
    "adapter": AdapterSpec,
    "subspace": SubspaceSpec,
    "projection": ProjectionSpec,
    "train": TrainSpec,
    "data": DataSpec,
}
# A step of Adam moves the weights by about lr · sqrt(d), and the best such length grows by this power of D/d, from
# that of full fine-tuning at d = D (docs/calibration.md).
GROWTH = 0.2
Rates = dict[str, Any]  # the keys default_lr, lr_sqrt_d and lr_step of a group
_fingerprint = cache(fingerprint)


def run_spec(cfg: DictConfig) -> RunSpec:
    """The spec of `idim run`. Raises ConfigError where a list stands in place of a number."""
    look_again()
    for key in LISTS:
        if OmegaConf.is_list(cfg[key]):
            raise ConfigError(f"{key}={cfg[key]} is not one number; lists are for idim sweep")
    return one_run(cfg, cfg.d, cfg.seed, cfg.lr)


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


def words_of(spec: RunSpec, output_dir: Path | None = None) -> list[str]:
    """The fewest words of `idim run` that make `spec` again, in `output_dir` where one is given, the learning rate
    always among them."""
    chosen = {
        "task": spec.task.name if spec.task.name in options("task") else "custom",
        "model": model_ids().get(spec.model.name.lower(), "minilm"),
        **({"adapter": spec.adapter.kind} if spec.adapter else {}),
        "subspace": "did" if spec.d == 0 else spec.subspace.kind,
        "projection": spec.projection.kind,
    }
    cfg = compose_config("run", [setting(group, choice) for group, choice in chosen.items()])
    usual: Any = OmegaConf.to_container(cfg)
    if usual["task"]["regression"]:
        usual["task"]["kind"] = "regression"
    words = [f"{group}={choice}" for group, choice in chosen.items()]
    for part, tree in spec.to_dict().items():
        if part in PARTS:
            words += [
                str(setting(f"{part}.{key}", value).input_line)
                for key, value in tree.items()
                if key in usual[part] and usual[part][key] != value and not _told(part, key, value)
            ]
        elif tree is not None and (part == "lr" or usual[part] != tree):  # the default rate depends on d
            words.append(f"{part}={tree}")
    if output_dir not in (None, Path(usual["output_dir"])):
        words.append(str(setting("output_dir", str(output_dir)).input_line))
    return words


def _told(part: str, key: str, value: Any) -> bool:
    """Whether another word says it: the name of a group its kind, and `task.kind` that a task is a regression."""
    return key == "kind" if part != "task" else (key, value) == ("regression", True)


def output_dir(cfg: DictConfig) -> str:
    """Where the runs go. Raises ConfigError where it is no folder's name."""
    name = text("output_dir", cfg.output_dir, "outputs")
    try:
        return str(Path(name).expanduser()) if name.startswith("~") else name
    except RuntimeError as error:
        raise ConfigError(f"output_dir={name} is no folder ({error}); write its whole path") from error


def look_again() -> None:
    """Forget what files held: each plan sees them as they are now, and as they are then until its end."""
    _fingerprint.cache_clear()


def number(key: str, value: Any, kind: type) -> Any:
    """`value` as a finite `kind` (int or float). Raises ConfigError, naming `key`, where it is something else."""
    value = count(value)
    limit = LARGEST if kind is int else sys.float_info.max
    if isinstance(value, (int, float)) and limit < value < math.inf:
        raise ConfigError(f"{key}={value} is too large; the most is {limit}")
    finite = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= limit
    if not finite or (kind is int and value != int(value)):
        wanted, example = ("an integer", 500) if kind is int else ("a finite number", 0.1)
        raise ConfigError(f"{key}={value!r} is not {wanted}; write it as in {key}={example}")
    return kind(value)


def one_or_many(cfg: DictConfig, key: str) -> list[Any]:
    """A key's values, one or many. Raises ConfigError where there is none."""
    value = OmegaConf.select(cfg, key)
    values = list(value) if OmegaConf.is_list(value) else [value]
    if not values:
        raise ConfigError(f"{key}=[] is empty; give at least one value, or leave {key} out")
    return values


def text(key: str, value: Any, example: str) -> str:
    """`value`, which must be a text that is not empty. Raises ConfigError that names `key`."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{key}={value} is not a text; write it as {key}={example}")
    return value


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
    try:
        paths.check_model(folder, model)
    except OSError as error:
        raise ModelError(
            f"model.name={model.name} can't be read ({error.strerror}); give a folder that you may read"
        ) from error
    _check_outside(output, folder, f"model.name={model.name}")
    return replace(model, name=_named(model.name, folder), fingerprint=_fingerprint(folder))


def _task(cfg: DictConfig, output: str) -> TaskSpec:
    task = _part(cfg, "task")
    # Here and not in the record, as folders of earlier versions may hold them.
    if task.per_token and task.kind != "choice":
        raise ConfigError(f"task.per_token=true has no meaning with task.kind={task.kind}; leave it out")
    if task.chat and task.kind == "lm" and task.answer is None:
        raise ConfigError(
            "task.chat=true makes a turn of a prompt, and whole texts have none; set task.answer"
        )
    task_of(task)  # which refuses metrics that the kind does not have
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
