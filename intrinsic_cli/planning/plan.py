"""From the words of `idim sweep` to its runs: lists multiplied out, full fine-tuning added, each run once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning.baseline import full_runs, is_full, notes, own_keys
from intrinsic_cli.planning.compose import compose_config
from intrinsic_cli.planning.specs import look_again, number, one_or_many, one_run, output_dir, untrained
from intrinsic_cli.planning.words import check_number, expand
from intrinsic_cli.settings import flat
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.tasks.task import KINDS

if TYPE_CHECKING:
    from intrinsic_cli.statistics.adaptive import Search
    from intrinsic_cli.statistics.targets import Scale

ONE = {"output_dir": "folder", "launcher": "launcher", "search.prune": "rule"}  # of these a sweep has one


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

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for searches that do the same runs."""
        ends = tuple(spec.run_id for spec in self.ends())
        return ends, self.lrs(self.d_min), self.seeds, self.rel_width, self.budget

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


def sweep_plan(
    overrides: Sequence[Override], own: Path | None = None, typed: AbstractSet[str] | None = None
) -> StudyPlan:
    """The plan of `idim sweep`, each run once. An adaptive search starts from its baseline.

    `own` is a folder with more files of tasks and models. `typed` are the keys that were asked for now, None all:
    one that no run goes by is refused, unless a study's file has both it and what makes it so: files of earlier
    versions do.
    Raises ConfigError where the words can't be used, or make more runs than a sweep may have.
    """
    look_again()
    specs: dict[str, RunSpec] = {}
    searches: dict[tuple[object, ...], SearchPlan] = {}
    twins: list[tuple[RunSpec, RunSpec]] = []
    cells: list[DictConfig] = []
    size = 0
    _refuse_lists(overrides)
    for cell in expand(overrides):
        cfg = compose_config("sweep", cell, own)
        cells.append(cfg)
        in_space = cfg.subspace.kind != "full"
        seeds, lrs, ds = (one_or_many(cfg, key) for key in ("seed", "lr", "d"))
        full, full_seeds, full_lrs = full_runs(cfg, cell, own)
        ds = ds if in_space else [None]  # the numbers of an adapter are as many as they are
        size += len(full_lrs) * len(full_seeds) + (0 if is_full(cfg) else len(ds) * len(lrs) * len(seeds))
        check_number(size, "the lists of this sweep make")
        with own_keys(cfg):
            runs = [one_run(full, None, seed, lr) for lr in full_lrs for seed in full_seeds]
        if not is_full(cfg) and cfg.baseline.run:
            runs += [untrained(cfg)] if not KINDS[cfg.task.kind].fresh_head else []
        if in_space and cfg.search.kind == "adaptive":
            search = _search(cfg, full, tuple(runs))
            twins += zip(search.ends(), searches.setdefault(search.key, search).ends(), strict=True)
        elif not is_full(cfg):
            runs += [one_run(cfg, d, seed, lr) for d in ds for lr in lrs for seed in seeds]
        twins += [(spec, specs.setdefault(spec.run_id, spec)) for spec in runs]
    if len({str(cell.output_dir) for cell in cells}) > 1:
        raise ConfigError(
            f"output_dir={cells[0].output_dir} and {cells[-1].output_dir} are of one sweep, which has one folder; "
            "give it one value"
        )
    _refuse_idle(cells, {each.key_or_group for each in overrides} if typed is None else typed)
    _refuse_twins(twins)
    return StudyPlan(
        tuple(specs.values()),
        tuple(searches.values()),
        dict(cfg.launcher),
        output_dir(cfg),
        (*notes(overrides, cfg, full), *_guesses(cells)),
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


# docs/calibration.md, docs/spaces.md
CALIBRATED = {("none", "global"), ("none", "tensor"), ("lora", "global")}


def _guesses(cells: Sequence[DictConfig]) -> tuple[str, ...]:
    """A word on default rates that no calibration stands behind."""
    guessed = {
        cfg.adapter.kind
        for cfg in cells
        if cfg.subspace.kind != "full"
        and (cfg.adapter.kind, cfg.subspace.normalize) not in CALIBRATED
        and one_or_many(cfg, "lr") == [None]
    }
    if not guessed:
        return ()
    names = ", ".join(sorted(guessed))
    return (f"the default rate of θ over adapter={names} is an estimate: try several, as lr=0.03,0.1,0.3",)


def _refuse_lists(overrides: Sequence[Override]) -> None:
    """Raise ConfigError at several values of what a sweep has one of."""
    for override in overrides:
        key = override.key_or_group
        one = ONE.get(key, ONE.get(key.partition(".")[0]))
        if one is not None and override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: a sweep has one {one}; give {key} one value")


def _refuse_idle(cells: Sequence[DictConfig], typed: AbstractSet[str]) -> None:
    """Raise ConfigError at a key that no run of these cells goes by, unless its value is the usual one, where it or
    what makes it so is `typed`."""
    first, usual = cells[0], compose_config("sweep", [])
    if all(map(is_full, cells)):
        for key in ("lr", "seed"):
            own = f"baseline.{key}"
            if {own, "subspace", "adapter"} & typed and (some := one_or_many(first, own)) != one_or_many(
                usual, own
            ):
                told = ",".join(map(str, some))
                raise ConfigError(
                    f"{own}={told} is for full fine-tuning beside other runs, and subspace=full has no "
                    f"others; write {key}={told} and leave it out (baseline.{key}=null)"
                )
    some = one_or_many(first, "seed")
    searched = all(cfg.search.kind == "adaptive" and cfg.subspace.kind != "full" for cfg in cells)
    if searched and {"seed", "search"} & typed and some != one_or_many(usual, "seed"):
        told = ",".join(map(str, some))
        raise ConfigError(
            f"seed={told} is not what search=adaptive goes by; write search.seeds=[{told}] for its runs, and "
            f"baseline.seed={told} for full fine-tuning to start with"
        )


def _refuse_twins(twins: Sequence[tuple[RunSpec, RunSpec]]) -> None:
    """Raise ConfigError where two values of a list make one run, and no two: of each pair the second alone is done.

    One run of several values is no mistake where others of the sweep need them: said has groups, and did none.
    """
    if not any(spec != twin for spec, twin in twins):
        return
    # Full fine-tuning takes no word of a space, so that its values would be others.
    done = {twin.run_id: flat(twin.to_dict()) for _, twin in twins if twin.in_space}
    for spec, twin in twins:
        one, other = flat(spec.to_dict()), flat(twin.to_dict())
        for key in one:
            if one[key] != other.get(key) and len({tree.get(key) for tree in done.values()}) < 2:
                raise ConfigError(
                    f"{key}={other.get(key)},{one[key]} make one and the same run, as {key} can't change a score; "
                    f"give {key} one value"
                )


def _search(cfg: DictConfig, full: DictConfig, baseline: tuple[RunSpec, ...]) -> SearchPlan:
    from intrinsic_cli.statistics.targets import Scale

    ds, lrs = [number("d", d, int) for d in one_or_many(cfg, "d")], one_or_many(cfg, "lr")
    multiples = dict.fromkeys(
        number("search.lr_multiples", x, float) for x in one_or_many(cfg, "search.lr_multiples")
    )

    def make(d: int | None, seed: int, lr: float) -> RunSpec:
        return one_run(full if d is None else cfg, d, seed, lr)

    def rates(d: int) -> tuple[float, ...]:
        if lrs != [None]:
            return tuple(dict.fromkeys(number("lr", lr, float) for lr in lrs))
        middle = make(d, 0, None).lr  # type: ignore[arg-type]
        return tuple(float(f"{middle * multiple:.3g}") for multiple in multiples)

    search = SearchPlan(
        baseline=baseline,
        make=make,
        lrs=rates,
        d_min=min(ds),
        d_max=max(ds),
        seeds=tuple(number("search.seeds", seed, int) for seed in one_or_many(cfg, "search.seeds")),
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
