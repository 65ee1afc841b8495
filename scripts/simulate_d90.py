"""Does the interval of `estimate` hold the true d_t? Synthetic studies from known curves, and the adaptive search.

    python scripts/simulate_d90.py estimate     the tables on coverage, error and censoring
    python scripts/simulate_d90.py adaptive     the table on adaptive search against a full grid

Curves of the family `logistic` were used while the estimator was being made; the tables come from the family
`report`, three other shapes, with other seeds. One core, a few minutes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from intrinsic_cli.estimate import Point, estimate

SHAPES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    # Share of the way from chance to the top at u = ln(d / middle), steepness a.
    "logistic": lambda u, a: 1 / (1 + np.exp(-a * u)),
    "gompertz": lambda u, a: np.exp(-np.exp(-a * u)),
    "exponential": lambda u, a: 1 - np.exp(-np.exp(a * u)),
    "kink": lambda u, a: np.clip(0.5 + a * u / 4, 0, 1) * 0.95 + 0.05 / (1 + np.exp(-u)),
}
FAMILIES = {"tune": ("logistic",), "report": ("gompertz", "exponential", "kink")}
TASKS = {408: 0.684, 872: 0.509}  # MRPC and SST-2: rows of the validation set and share of the majority class


@dataclass(frozen=True)
class World:
    """The truth behind one study: expected scores, and how a run's score scatters around them."""

    shape: str
    steepness: float
    middle: float  # ln d
    chance: float
    full: float
    top: float
    n_eval: int
    lr_offsets: np.ndarray  # (L,) decades from the best learning rate at the middle
    lr_cost: float  # share of the rise lost per decade squared
    drift: float  # decades by which the best learning rate moves per unit of ln d
    seed_sd: float
    shared: float  # share of the validation rows whose difficulty is the same for every run

    def expected(self, d: np.ndarray) -> np.ndarray:
        """(K,) d's -> (K, L) expected scores."""
        u = np.log(d) - self.middle
        rise = SHAPES[self.shape](u, self.steepness)[:, None]
        off = self.lr_offsets - self.drift * u[:, None]
        return self.chance + (self.top - self.chance) * rise * np.clip(1 - self.lr_cost * off**2, 0, 1)

    def expected_full(self) -> np.ndarray:
        """(L,) expected scores of full fine-tuning over its learning rates; the best is `full`."""
        off = self.lr_offsets - self.lr_offsets[np.argmin(np.abs(self.lr_offsets))]
        return self.chance + (self.full - self.chance) * np.clip(1 - self.lr_cost * off**2, 0, 1)

    def true_d(self, threshold: float = 0.9, normalised: bool = False) -> float:
        """Smallest d at which the best expected score reaches the target; inf where it never does."""
        target = self.chance * normalised + threshold * (self.full - self.chance * normalised)
        d = np.exp(np.linspace(0, math.log(1e8), 20_000))
        reached = self.expected(d).max(axis=1) >= target
        return float(d[np.argmax(reached)]) if reached.any() else math.inf

    def draw(self, mean: np.ndarray, rng: np.random.Generator, rows: np.random.Generator | None = None) -> np.ndarray:
        """Scores of runs with the given expected scores (any shape) on one validation set."""
        q = np.clip(mean + self.seed_sd * rng.standard_normal(mean.shape), 0, 1)
        n_same = round(self.shared * self.n_eval)
        score = rng.binomial(self.n_eval - n_same, q).astype(float)
        if n_same:
            difficulty = np.sort((rows or rng).random(n_same))
            score += np.searchsorted(difficulty, q)
        return score / self.n_eval


def draw_world(rng: np.random.Generator, family: str, *, rates: int, shared: float = 0.0, normalised: bool = False) -> World:
    """A task (MRPC- or SST-2-like), a model's full score on it, a curve, and a learning-rate grid of x3 steps."""
    n_eval = int(rng.choice(list(TASKS)))
    chance = TASKS[n_eval]
    full = rng.uniform(0.80, 0.92) if n_eval == 408 else rng.uniform(0.80, 0.95)
    return World(
        shape=str(rng.choice(FAMILIES[family])),
        steepness=rng.uniform(0.5, 1.5),
        middle=rng.uniform(math.log(100), math.log(5000)),
        chance=chance,
        full=full,
        top=full * rng.uniform(0.97, 1.02),
        n_eval=n_eval,
        lr_offsets=(np.arange(rates) - rng.uniform(0, rates - 1)) * math.log10(3) if rates > 1 else np.zeros(1),
        lr_cost=rng.uniform(0.1, 0.6),
        drift=rng.uniform(-0.05, 0.05) if rates > 1 else 0.0,
        seed_sd=rng.uniform(0.003, 0.02),
        shared=shared,
    )


def draw_grid(rng: np.random.Generator, truth: float, where: str) -> np.ndarray:
    """6 to 10 d's, log-spaced over 5 to 9 octaves, with the truth inside, or 1 to 4 octaves outside."""
    points, octaves = int(rng.integers(6, 11)), rng.uniform(5, 9)
    at = {"inside": rng.uniform(0, octaves), "below": -rng.uniform(1, 4), "above": octaves + rng.uniform(1, 4)}[where]
    first = math.log2(truth) - at
    return np.unique(np.round(2 ** np.linspace(first, first + octaves, points)).astype(int))


@dataclass(frozen=True)
class Study:
    world: World
    truth: float
    subspace: list[Point]
    baseline: list[Point]


def run_grid(world: World, d: np.ndarray, seeds: int, rng: np.random.Generator) -> tuple[list[Point], list[Point]]:
    """Every d x learning rate x seed, and the baseline's learning rates x seeds; all with holdout scores."""
    mean, full = world.expected(d), world.expected_full()
    # One random state for all draws of a split: shared rows are the same rows for every run.
    split = [int(s) for s in rng.integers(2**32, size=2)]
    held = [world.draw(np.repeat(m[..., None], seeds, -1), rng, np.random.default_rng(split[0])) for m in (mean, full)]
    seen = [world.draw(np.repeat(m[..., None], seeds, -1), rng, np.random.default_rng(split[1])) for m in (mean, full)]
    lrs = 10.0 ** np.arange(full.size)
    subspace = [
        Point(int(d[k]), s, float(lrs[j]), float(seen[0][k, j, s]), float(held[0][k, j, s]))
        for k in range(d.size) for j in range(lrs.size) for s in range(seeds)
    ]
    baseline = [
        Point(None, s, float(lrs[j]), float(seen[1][j, s]), float(held[1][j, s]))
        for j in range(lrs.size) for s in range(seeds)
    ]
    return subspace, baseline


def draw_study(rng: np.random.Generator, family: str, *, where: str = "inside", rates: int, seeds: int,
               shared: float = 0.0, normalised: bool = False) -> Study:
    while True:
        world = draw_world(rng, family, rates=rates, shared=shared)
        truth = world.true_d(normalised=normalised)
        # A grid needs room: at least 2 parameters at its low end, and a curve that does reach the target.
        if not 40 <= truth <= 1e6 or 0.9 * world.full <= world.chance + 0.01:
            continue
        d = draw_grid(rng, truth, where)
        if d[0] >= 2 and d.size >= 6:
            return Study(world, truth, *run_grid(world, d, seeds, rng))
