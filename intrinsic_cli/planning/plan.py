"""From the words of `idim sweep` to its runs: lists multiplied out, full fine-tuning added, each run once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning.compose import compose_config
from intrinsic_cli.planning.specs import look_again, number, one_run, output_dir, untrained
from intrinsic_cli.planning.words import check_number, expand, setting, values
from intrinsic_cli.render import flat
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.tasks.task import KINDS

if TYPE_CHECKING:
    from intrinsic_cli.statistics.adaptive import Search
    from intrinsic_cli.statistics.targets import Scale

ONE = {"output_dir": "folder", "launcher": "launcher", "search.prune": "rule"}  # of these a sweep has one


def _values(cfg: DictConfig, key: str) -> list[Any]:
    """A key's values, one or many. Raises ConfigError where there is none."""
    value = OmegaConf.select(cfg, key)
    values = list(value) if OmegaConf.is_list(value) else [value]
    if not values:
        raise ConfigError(f"{key}=[] is empty; give at least one value, or leave {key} out")
    return values


@dataclass(frozen=True)
class SearchPlan:
    """One curve to be found: how its runs are made, and between which bounds.

    `make(d, seed, lr)` gives a run's spec, full fine-tuning for d = None; `lrs(d)` the learning rates to try.
    `baseline` are the runs of full fine-tuning to start from, and that of the model before training where its
    score means something. The rest is as in `adaptive.Search`.
    """

    baseline: tuple[RunSpec, ...]
    make: Callable[[int | None, int, float], RunSpec]
    lrs: Callable[[int], Sequence[float]]
    d_min: int
    d_max: int
    seeds: tuple[int, ...]
    rel_width: float
    budget: int

    def ends(self) -> list[RunSpec]:
        """A run of the smallest and one of the largest d: what holds for both holds for all of the search."""
        return [self.make(d, self.seeds[0], self.lrs(d)[0]) for d in (self.d_min, self.d_max)]

    def search(self, scale: Scale) -> Search:
        """What is searched for, where `scale` says what scores mean. Raises ConfigError where it can't be."""
        from intrinsic_cli.statistics.adaptive import Search

        return Search(self.d_min, self.d_max, self.seeds, self.lrs, self.rel_width, self.budget, scale)


@dataclass(frozen=True)
class StudyPlan:
    """What `idim sweep` does: runs known beforehand, then searches that choose theirs as they go.

    `launcher` is the kind of launcher and its options; `notes` are lines that are worth saying first,
    `cells` the configurations that its words make, `prune` whether runs that can't matter are ended early.
    """

    specs: tuple[RunSpec, ...]
    searches: tuple[SearchPlan, ...]
    launcher: dict[str, Any]
    output_dir: str
    notes: tuple[str, ...] = ()
    cells: tuple[DictConfig, ...] = ()
    prune: bool = False


def sweep_plan(overrides: Sequence[Override], own: Path | None = None) -> StudyPlan:
    """The plan of `idim sweep`, each run once. An adaptive search starts from its baseline.

    `own` is a folder with more files of tasks and models.
    Raises ConfigError where the words can't be used, or make more runs than a sweep may have.
    """
    look_again()
    specs: dict[str, RunSpec] = {}
    searches: list[SearchPlan] = []
    cells: list[DictConfig] = []
    size = 0
    _refuse_lists(overrides)
    for cell in expand(overrides):
        cfg = compose_config("sweep", cell, own)
        cells.append(cfg)
        in_space = cfg.subspace.kind != "full"
        seeds, lrs, ds = (_values(cfg, key) for key in ("seed", "lr", "d"))
        full, full_seeds, full_lrs = _full_runs(cfg, cell, own)
        ds = ds if in_space else [None]  # the numbers of an adapter are as many as they are
        size += len(full_lrs) * len(full_seeds) + len(ds) * len(lrs) * len(seeds)
        check_number(size, "the lists of this sweep make")
        with _own_keys(cfg):
            runs = [one_run(full, None, seed, lr) for lr in full_lrs for seed in full_seeds]
        if not _is_full(cfg) and cfg.baseline.run:
            runs += [untrained(cfg)] if not KINDS[cfg.task.kind].fresh_head else []
        if in_space and cfg.search.kind == "adaptive":
            searches.append(_search(cfg, full, tuple(runs)))
        elif not _is_full(cfg):
            runs += [one_run(cfg, d, seed, lr) for d in ds for lr in lrs for seed in seeds]
        for spec in runs:
            _refuse_twins(spec, specs.setdefault(spec.run_id, spec))
    return StudyPlan(
        tuple(specs.values()),
        tuple(searches),
        dict(cfg.launcher),
        output_dir(cfg),
        (*_notes(overrides, cfg, full), *_guesses(cells)),
        tuple(cells),
        any([_pruned(cell) for cell in cells]),
    )


def _pruned(cfg: DictConfig) -> bool:
    """Whether its runs may be ended early. Raises ConfigError where nothing could tell."""
    if not isinstance(cfg.search.prune, bool):
        raise ConfigError(f"search.prune={cfg.search.prune} is neither true nor false; use one of them")
    if cfg.search.prune and cfg.train.evals == 1:
        raise ConfigError(
            "search.prune=true goes by evaluations before a run's end, and train.evals=1 has none; "
            "add train.evals=5, say"
        )
    return cfg.search.prune


def _notes(overrides: Sequence[Override], cfg: DictConfig, full: DictConfig) -> tuple[str, ...]:
    """What may surprise in a plan: which rates full fine-tuning has."""
    given = {override.key_or_group for override in overrides}
    if full.baseline.run is False or any(
        each.key_or_group == "subspace" and "full" in values(each) for each in overrides
    ):
        return ()
    own, full_own = _tuned(cfg), len(_full_rates(cfg, full))
    if "baseline.lr" in given and full_own < own:
        return (
            f"full fine-tuning has {full_own} of the {own} learning rates that θ has: more could raise its score",
        )
    if own > 1 and "baseline.lr" not in given:
        return (f"full fine-tuning tries {full_own} learning rates, as θ does (baseline.lr=… sets them)",)
    if "lr" in given and "baseline.lr" not in given:
        rate = full.subspace.default_lr
        return (
            f"lr is the rate of the subspace runs; full fine-tuning keeps {rate:g} (baseline.lr=… sets it)",
        )
    return ()


# docs/calibration.md, docs/spaces.md
CALIBRATED = {("none", "global"), ("none", "tensor"), ("lora", "global")}


def _guesses(cells: Sequence[DictConfig]) -> tuple[str, ...]:
    """A word on default rates that no calibration stands behind."""
    guessed = {
        cfg.adapter.kind
        for cfg in cells
        if cfg.subspace.kind != "full"
        and (cfg.adapter.kind, cfg.subspace.normalize) not in CALIBRATED
        and _values(cfg, "lr") == [None]
    }
    if not guessed:
        return ()
    names = ", ".join(sorted(guessed))
    return (f"the default rate of θ over adapter={names} is an estimate: try several, as lr=0.03,0.1,0.3",)


LADDER = (
    1.0,
    0.3,
    3.0,
    0.1,
    10.0,
)  # times the default rate of full fine-tuning, in the order in which they are added


def _tuned(cfg: DictConfig) -> int:
    """How many learning rates θ has at a d."""
    lrs = _values(cfg, "lr")
    if lrs == [None] and cfg.search.kind == "adaptive" and not _is_full(cfg):
        return len(_values(cfg, "search.lr_multiples"))
    return len(set(map(str, lrs)))


def _full_rates(cfg: DictConfig, full: DictConfig) -> list[Any]:
    """The rates of full fine-tuning: those that `baseline.lr` names, else as many as θ has, so that neither is the
    better tuned."""
    given, count = _values(cfg, "baseline.lr"), _tuned(cfg)
    if given != [None] or count == 1:
        return given
    rate = number("subspace.default_lr", full.subspace.default_lr, float)
    odd = count + 1 - count % 2  # so that the default itself is among them
    steps = (
        sorted(LADDER[:count]) if count <= len(LADDER) else [100 ** (j / (odd - 1)) / 10 for j in range(odd)]
    )
    return [float(f"{rate * step:.3g}") for step in steps]


def _refuse_lists(overrides: Sequence[Override]) -> None:
    """Raise ConfigError at several values of what a sweep has one of."""
    for override in overrides:
        key = override.key_or_group
        one = ONE.get(key, ONE.get(key.partition(".")[0]))
        if one is not None and override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: a sweep has one {one}; give {key} one value")


def _refuse_twins(spec: RunSpec, twin: RunSpec) -> None:
    """Raise ConfigError where two values of a list make one run, of which only one could be done."""
    if spec == twin:
        return
    one, other = flat(spec.to_dict()), flat(twin.to_dict())
    key = next(key for key in one if one[key] != other.get(key))
    raise ConfigError(
        f"{key}={other.get(key)},{one[key]} make one and the same run, as {key} can't change a score; "
        f"give {key} one value"
    )


def _is_full(cfg: DictConfig) -> bool:
    """Whether a cell is full fine-tuning itself."""
    return cfg.subspace.kind == "full" and cfg.adapter.kind == "none"


def _full_runs(
    cfg: DictConfig, cell: Sequence[Override], own: Path | None
) -> tuple[DictConfig, list[Any], list[Any]]:
    """The config, seeds and rates of full fine-tuning beside `cfg`; no seeds where it is not wanted."""
    if _is_full(cfg):
        return cfg, _values(cfg, "seed"), _values(cfg, "lr")
    if not isinstance(cfg.baseline.run, bool):
        raise ConfigError(f"baseline.run={cfg.baseline.run} is neither true nor false; use one of them")
    if cfg.model.quantize and cfg.adapter.kind != "none" and cfg.baseline.run:
        raise ConfigError(
            f"model.quantize={cfg.model.quantize}: full fine-tuning, which a d90 is of, moves the weights, and "
            "quantized ones can't; add baseline.run=false for curves without a d90, or leave model.quantize out"
        )
    space = ("adapter", "subspace", "projection")
    others = [each for each in cell if each.key_or_group.partition(".")[0] not in space]
    full = compose_config("sweep", [*others, setting("subspace", "full")], own)
    seeds = _values(cfg, "seed" if cfg.baseline.seed is None else "baseline.seed")
    return full, seeds if cfg.baseline.run else [], _full_rates(cfg, full)


@contextmanager
def _own_keys(cfg: DictConfig) -> Iterator[None]:
    """Have an error about a key of full fine-tuning that `baseline.` sets name that."""
    try:
        yield
    except ConfigError as error:
        key = str(error).partition("=")[0]
        if _is_full(cfg) or cfg.baseline.get(key) is None:
            raise
        raise ConfigError(f"baseline.{error}") from error


def _search(cfg: DictConfig, full: DictConfig, baseline: tuple[RunSpec, ...]) -> SearchPlan:
    from intrinsic_cli.statistics.targets import Scale

    ds, lrs = [number("d", d, int) for d in _values(cfg, "d")], _values(cfg, "lr")
    multiples = [number("search.lr_multiples", x, float) for x in _values(cfg, "search.lr_multiples")]

    def make(d: int | None, seed: int, lr: float) -> RunSpec:
        return one_run(full if d is None else cfg, d, seed, lr)

    def rates(d: int) -> tuple[float, ...]:
        if lrs != [None]:
            return tuple(number("lr", lr, float) for lr in lrs)
        middle = make(d, 0, None).lr  # type: ignore[arg-type]
        return tuple(float(f"{middle * multiple:.3g}") for multiple in multiples)

    search = SearchPlan(
        baseline=baseline,
        make=make,
        lrs=rates,
        d_min=min(ds),
        d_max=max(ds),
        seeds=tuple(number("search.seeds", seed, int) for seed in _values(cfg, "search.seeds")),
        rel_width=number("search.rel_width", cfg.search.rel_width, float),
        budget=number("search.budget", cfg.search.budget, int),
    )
    # What scores mean is known once there are some; the rest is refused now.
    search.search(Scale(0.0))
    check_number(search.budget, "search.budget allows")
    for d in (search.d_min, search.d_max):  # every value that a run of the search can have is checked now
        for seed, lr in itertools.zip_longest(search.seeds, search.lrs(d)):
            make(d, search.seeds[0] if seed is None else seed, search.lrs(d)[0] if lr is None else lr)
    return search
