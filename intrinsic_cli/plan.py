"""From the words of `idim sweep` to its runs: lists multiplied out, full fine-tuning added, each run once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from intrinsic_cli.config import LISTS, compose_config, number, one_run, parse
from intrinsic_cli.errors import ConfigError
from intrinsic_cli.search import Study
from intrinsic_cli.spec import RunSpec


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The product of all lists `key=a,b` into single-valued overrides, `d`, `seed` and `lr` kept whole."""
    choices = []
    for word, override in zip(overrides, parse(overrides), strict=True):
        if not override.is_sweep_override():
            choices.append([word])
            continue
        key = override.get_key_element()
        values = list(override.sweep_string_iterator())
        whole = override.key_or_group in LISTS or override.key_or_group.startswith("baseline.")
        choices.append([f"{key}=[{','.join(values)}]"] if whole else [f"{key}={v}" for v in values])
    return [list(combination) for combination in itertools.product(*choices)]


def _values(cfg: DictConfig, key: str) -> list[Any]:
    """A key's values, one or many. Raises ConfigError where there is none."""
    value = OmegaConf.select(cfg, key)
    values = list(value) if OmegaConf.is_list(value) else [value]
    if not values:
        raise ConfigError(f"{key}=[] is empty; give at least one value, or leave {key} out")
    return values


@dataclass(frozen=True)
class StudyPlan:
    """What `idim sweep` does: runs known beforehand, then searches that choose theirs as they go.

    `launcher` is the kind of launcher and its options.
    """

    specs: tuple[RunSpec, ...]
    searches: tuple[Study, ...]
    launcher: dict[str, Any]
    output_dir: str


def sweep_plan(overrides: Sequence[str]) -> StudyPlan:
    """The plan of `idim sweep`, each run once. An adaptive search starts from its baseline."""
    specs: dict[str, RunSpec] = {}
    searches: list[Study] = []
    output_dir, launcher = "", {}
    for words in expand(overrides):
        cfg = compose_config("sweep", words)
        output_dir, launcher = cfg.output_dir, cfg.launcher
        adaptive = cfg.search.kind == "adaptive" and cfg.subspace.kind != "full"
        seeds, lrs = _values(cfg, "seed"), _values(cfg, "lr")
        full, full_seeds, full_lrs = _full_runs(cfg, words)
        runs = [one_run(full, None, seed, lr) for lr in full_lrs for seed in full_seeds]
        if adaptive:
            searches.append(_study(cfg, full, tuple(runs)))
        elif cfg.subspace.kind != "full":
            runs += [one_run(cfg, d, seed, lr) for d in _values(cfg, "d") for lr in lrs for seed in seeds]
        specs |= {spec.run_id: spec for spec in runs}
    return StudyPlan(tuple(specs.values()), tuple(searches), dict(launcher), output_dir)


def _full_runs(cfg: DictConfig, words: Sequence[str]) -> tuple[DictConfig, list[Any], list[Any]]:
    """The config, seeds and rates of full fine-tuning beside `cfg`; no seeds where it is not wanted."""
    if cfg.subspace.kind == "full":
        return cfg, _values(cfg, "seed"), _values(cfg, "lr")
    others = [word for word in words if not word.startswith(("subspace", "projection"))]
    full = compose_config("sweep", [*others, "subspace=full"])
    seeds = _values(cfg, "seed" if cfg.baseline.seed is None else "baseline.seed")
    return full, seeds if cfg.baseline.run else [], _values(cfg, "baseline.lr")


def _study(cfg: DictConfig, full: DictConfig, baseline: tuple[RunSpec, ...]) -> Study:
    ds, lrs = [number("d", d, int) for d in _values(cfg, "d")], _values(cfg, "lr")

    def make(d: int | None, seed: int, lr: float) -> RunSpec:
        return one_run(full if d is None else cfg, d, seed, lr)

    def rates(d: int) -> tuple[float, ...]:
        if lrs != [None]:
            return tuple(number("lr", lr, float) for lr in lrs)
        middle = make(d, 0, None).lr  # type: ignore[arg-type]
        return tuple(float(f"{middle * multiple:.3g}") for multiple in cfg.search.lr_multiples)

    return Study(
        baseline=baseline,
        make=make,
        lrs=rates,
        d_min=min(ds),
        d_max=max(ds),
        seeds=tuple(number("search.seeds", seed, int) for seed in cfg.search.seeds),
        rel_width=number("search.rel_width", cfg.search.rel_width, float),
        budget=number("search.budget", cfg.search.budget, int),
    )
