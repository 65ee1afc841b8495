"""Full fine-tuning beside the runs of a sweep: its seeds, and as many learning rates as θ has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning.compose import compose_config
from intrinsic_cli.planning.specs import number, one_or_many
from intrinsic_cli.planning.words import setting, values

# Times the default rate of full fine-tuning, in the order in which they are added.
LADDER = (1.0, 0.3, 3.0, 0.1, 10.0)


def is_full(cfg: DictConfig) -> bool:
    """Whether a cell is full fine-tuning itself."""
    return cfg.subspace.kind == "full" and cfg.adapter.kind == "none"


def full_runs(
    cfg: DictConfig, cell: Sequence[Override], own: Path | None
) -> tuple[DictConfig, list[Any], list[Any]]:
    """The config, seeds and rates of full fine-tuning beside `cfg`, which `cell` makes; no seeds where it is not
    wanted. Raises ConfigError at words that leave nothing to run, or ask for what can't move."""
    if is_full(cfg):
        return cfg, one_or_many(cfg, "seed"), one_or_many(cfg, "lr")
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
    seeds = one_or_many(cfg, "seed" if cfg.baseline.seed is None else "baseline.seed")
    return full, seeds if cfg.baseline.run else [], _full_rates(cfg, full)


@contextmanager
def own_keys(cfg: DictConfig) -> Iterator[None]:
    """Have an error about a key of full fine-tuning that `baseline.` sets name that."""
    try:
        yield
    except ConfigError as error:
        key = str(error).partition("=")[0]
        if is_full(cfg) or cfg.baseline.get(key) is None:
            raise
        raise ConfigError(f"baseline.{error}") from error


def notes(overrides: Sequence[Override], cfg: DictConfig, full: DictConfig) -> tuple[str, ...]:
    """What may surprise in a plan: which rates full fine-tuning has."""
    given = {override.key_or_group for override in overrides}
    whole = any(each.key_or_group == "subspace" and "full" in values(each) for each in overrides)
    if full.baseline.run is False or (whole and cfg.adapter.kind == "none"):
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


def _tuned(cfg: DictConfig) -> int:
    """How many learning rates θ has at a d."""
    key = "lr"
    if one_or_many(cfg, key) == [None] and cfg.search.kind == "adaptive" and not is_full(cfg):
        key = "search.lr_multiples"
    return len({None if rate is None else number(key, rate, float) for rate in one_or_many(cfg, key)})


def _full_rates(cfg: DictConfig, full: DictConfig) -> list[Any]:
    """The rates of full fine-tuning: those that `baseline.lr` names, else as many as θ has, so that neither is the
    better tuned."""
    given, count = one_or_many(cfg, "baseline.lr"), _tuned(cfg)
    if given != [None] or count == 1:
        return given
    rate = number("subspace.default_lr", full.subspace.default_lr, float)
    odd = count + 1 - count % 2  # so that the default itself is among them
    steps = (
        sorted(LADDER[:count]) if count <= len(LADDER) else [100 ** (j / (odd - 1)) / 10 for j in range(odd)]
    )
    return [float(f"{rate * step:.3g}") for step in steps]
