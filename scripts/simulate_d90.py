"""How far to trust an interval of d_t: synthetic studies from known curves, for docs/statistics.md.

    python scripts/simulate_d90.py estimate    coverage, error, censoring
    python scripts/simulate_d90.py adaptive    adaptive search against a full grid

The estimator and the search were made on curves of the family `tune` (logistic); the tables come from the
family `report` (three other shapes) with other random numbers.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from intrinsic_cli.statistics.adaptive import Search, propose
from intrinsic_cli.statistics.estimate import Estimate, estimate
from intrinsic_cli.statistics.points import Point

# Share of the way from chance to the top at u = ln(d / middle), for a steepness a.
SHAPES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "logistic": lambda u, a: 1 / (1 + np.exp(-a * u)),
    "gompertz": lambda u, a: np.exp(-np.exp(-a * u)),
    "exponential": lambda u, a: 1 - np.exp(-np.exp(a * u)),
    "kink": lambda u, a: 0.95 * np.clip(0.5 + a * u / 4, 0, 1) + 0.05 / (1 + np.exp(-u)),
}
FAMILIES = {"tune": ("logistic",), "report": ("gompertz", "exponential", "kink")}
# Rows of the validation set: share of the majority class (MRPC, SST-2).
TASKS = {408: 0.684, 872: 0.509}
RESAMPLES = 500


@dataclass(frozen=True)
class World:
    """The truth behind one study: expected scores, and how a run's score scatters around them.

    middle is in ln d; lr_off (L,) in decades from the best learning rate at the middle; lr_cost is the share
    of the rise lost per decade squared; drift moves the best learning rate, in decades per unit of ln d;
    seed_sd is the standard deviation of a run's expected score; `shared` is the share of the rows whose
    difficulty is the same for every run (0: every run's score is an independent binomial).
    """

    shape: str
    steepness: float
    middle: float
    chance: float
    full: float
    top: float
    n_eval: int
    lr_off: np.ndarray
    lr_cost: float
    drift: float
    seed_sd: float
    shared: float
    rows_seed: int

    def expected(self, d: np.ndarray) -> np.ndarray:
        """Expected scores (K, L) at d's (K,)."""
        u = np.log(d)[:, None] - self.middle
        kept = np.clip(1 - self.lr_cost * (self.lr_off - self.drift * u) ** 2, 0, 1)
        return self.chance + (self.top - self.chance) * SHAPES[self.shape](u, self.steepness) * kept

    def expected_full(self) -> np.ndarray:
        """Expected scores (L,) of full fine-tuning; the best is `full`."""
        off = self.lr_off - self.lr_off[np.argmin(np.abs(self.lr_off))]
        return self.chance + (self.full - self.chance) * np.clip(1 - self.lr_cost * off**2, 0, 1)

    def true_d(self, threshold: float = 0.9, normalised: bool = False) -> float:
        """The smallest d whose best expected score reaches the target; inf where none does."""
        base = self.chance if normalised else 0.0
        d = np.geomspace(1, 1e8, 3000)
        reached = self.expected(d).max(axis=1) >= base + threshold * (self.full - base)
        return float(d[np.argmax(reached)]) if reached.any() else math.inf

    def draw(self, mean: np.ndarray, rng: np.random.Generator, split: int = 0) -> np.ndarray:
        """Scores of runs with these expected scores, on the validation set (split 0) or the holdout (1)."""
        q = np.clip(mean + self.seed_sd * rng.standard_normal(mean.shape), 0, 1)
        same = round(self.shared * self.n_eval)
        difficulty = np.sort(np.random.default_rng([self.rows_seed, split]).random(same))
        return (rng.binomial(self.n_eval - same, q) + np.searchsorted(difficulty, q)) / self.n_eval

    def run(self, d: int | None, seed: int, column: int, rng: np.random.Generator) -> Point:
        """One run, at learning rate 3 ** column."""
        means = self.expected_full() if d is None else self.expected(np.array([d]))[0]
        score, held = (float(self.draw(means[column : column + 1], rng, split)[0]) for split in (0, 1))
        return Point(d, seed, 3.0**column, score, held)

    def grid(self, ds: np.ndarray | None, seeds: int, rng: np.random.Generator) -> list[Point]:
        """Every d x learning rate x seed; full fine-tuning where ds is None."""
        means = self.expected_full()[None] if ds is None else self.expected(ds)
        each = np.repeat(means[..., None], seeds, axis=-1)
        score, held = self.draw(each, rng, 0), self.draw(each, rng, 1)
        return [
            Point(None if ds is None else int(ds[k]), s, 3.0**j, float(score[k, j, s]), float(held[k, j, s]))
            for k, j, s in np.ndindex(*each.shape)
        ]


def draw_world(
    rng: np.random.Generator, family: str, rates: int, full: tuple[float, float] = (0.8, 0.92)
) -> World:
    """A task like MRPC or SST-2, full fine-tuning's score, a curve, and learning rates in steps of 3."""
    n_eval = int(rng.choice(list(TASKS)))
    score = rng.uniform(*full)
    return World(
        shape=str(rng.choice(FAMILIES[family])),
        steepness=rng.uniform(0.5, 1.5),
        middle=rng.uniform(math.log(100), math.log(5000)),
        chance=TASKS[n_eval],
        full=score,
        top=score * rng.uniform(0.97, 1.02),
        n_eval=n_eval,
        lr_off=(np.arange(rates) - rng.uniform(0, rates - 1)) * math.log10(3),
        lr_cost=rng.uniform(0.1, 0.6),
        drift=rng.uniform(-0.05, 0.05) if rates > 1 else 0.0,
        seed_sd=rng.uniform(0.003, 0.02),
        shared=float(rng.choice([0.0, 0.6])),
        rows_seed=int(rng.integers(2**32)),
    )


@dataclass(frozen=True)
class Study:
    world: World
    truth: float
    d_min: int
    d_max: int
    rates: int
    seeds: int


def draw_study(
    rng: np.random.Generator, family: str, where: str = "inside", *, threshold: float = 0.9,
    normalised: bool = False, rates: int | None = None, seeds: int | None = None,
) -> Study:  # fmt: skip
    """A world and a range of 5 to 9 octaves of d that holds its d_t, or misses it by 1 to 4 octaves."""
    while True:
        columns = rates or int(rng.choice([1, 3, 4]))
        world = draw_world(rng, family, columns)
        truth = world.true_d(threshold, normalised)
        octaves = rng.uniform(5, 9)
        at = {"inside": (0, octaves), "below_grid": (-4, -1), "above_grid": (octaves + 1, octaves + 4)}[where]
        low = math.log2(truth) - rng.uniform(*at) if math.isfinite(truth) else 0.0
        # A target at chance is no d90, and a grid needs room for its points.
        defined = normalised or threshold * world.full > world.chance + 0.01
        if defined and low >= 2 and low + octaves < 22:
            return Study(
                world,
                truth,
                round(2**low),
                round(2 ** (low + octaves)),
                columns,
                seeds or int(rng.integers(2, 6)),
            )


def ask(study: Study, subspace: list[Point], baseline: list[Point], **options: object) -> Estimate:
    known = {"chance": study.world.chance, "n_eval": study.world.n_eval, "resamples": RESAMPLES}
    return estimate(subspace, baseline, **(known | options))  # type: ignore[arg-type]


def studies(
    count: int, seed: int, family: str = "report", where: str = "inside", *, rates: int | None = None,
    seeds: int | None = None, **options: object,
) -> list[tuple[Study, Estimate]]:  # fmt: skip
    """Studies on grids of 6 to 10 d's, 1, 3 or 4 learning rates and 2 to 5 seeds, and their estimates."""
    rng = np.random.default_rng(seed)
    aim = {k: v for k, v in options.items() if k in ("threshold", "normalised")}
    done = []
    for _ in range(count):
        study = draw_study(rng, family, where, rates=rates, seeds=seeds, **aim)  # type: ignore[arg-type]
        ds = np.unique(np.geomspace(study.d_min, study.d_max, int(rng.integers(6, 11))).round().astype(int))
        subspace, baseline = study.world.grid(ds, study.seeds, rng), study.world.grid(None, study.seeds, rng)
        done.append((study, ask(study, subspace, baseline, **options)))
    return done


def undefined_studies(count: int, seed: int, family: str = "report") -> list[Estimate]:
    """MRPC-like studies whose target truly lies 0.01 or more under chance."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        world = draw_world(rng, family, int(rng.choice([1, 3, 4])), (0.68, 0.75))
        if 0.9 * world.full <= world.chance - 0.01:
            ds, seeds = np.geomspace(50, 20_000, 8).astype(int), int(rng.integers(2, 6))
            subspace, baseline = world.grid(ds, seeds, rng), world.grid(None, seeds, rng)
            found.append(
                estimate(subspace, baseline, chance=world.chance, n_eval=world.n_eval, resamples=RESAMPLES)
            )
    return found


def holds(truth: float, found: Estimate) -> bool:
    """Whether the interval holds the truth; an end that is not there counts as open."""
    return (found.low or 0) <= truth <= (found.high or math.inf)


def error(truth: float, found: Estimate) -> float | None:
    """log2 of estimate / truth; None where there is no estimate."""
    return None if found.d_t is None else math.log2(found.d_t / truth)


def width(found: Estimate) -> float:
    """Octaves between the ends of the interval; inf where one is open."""
    return math.log2(found.high / found.low) if found.low and found.high else math.inf


def search_adaptively(
    study: Study,
    baseline: list[Point],
    budget: int,
    rng: np.random.Generator,
    rel_width: float = 1e-9,
    slots: int = 4,
) -> tuple[list[Point], list[Point], str]:
    """Subspace runs, full fine-tuning's, and why it stopped; `budget` counts runs beyond the baseline's."""
    world, columns = study.world, range(study.rates)
    search = Search(
        study.d_min, study.d_max, tuple(range(40)), lambda d: [3.0**j for j in columns], rel_width,
        budget + len(baseline), world.chance, n_eval=world.n_eval, resamples=200,
    )  # fmt: skip
    subspace, full = [], list(baseline)
    while not (plan := propose(subspace, full, search, slots=slots)).finished:
        for run in plan.runs:
            point = world.run(run.d, run.seed, round(math.log(run.lr, 3)), rng)
            (full if run.d is None else subspace).append(point)
    return subspace, full, plan.reason


def duels(count: int, seed: int, *, seeds: int, full_seeds: int, family: str = "report") -> Iterator[tuple]:
    """Studies, their estimates from a grid (100 d's x 4 rates x seeds), and from adaptive runs."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        study = draw_study(rng, family, rates=4, seeds=seeds)
        ds = np.unique(np.geomspace(study.d_min, study.d_max, 100).round().astype(int))
        baseline = study.world.grid(None, full_seeds, rng)
        by_grid = ask(study, study.world.grid(ds, seeds, rng), baseline)
        subspace, full, _ = search_adaptively(study, baseline, 40 * seeds, rng)
        yield study, by_grid, ask(study, subspace, full), len(subspace) + len(full) - len(baseline)


def table(head: str, rows: list[str]) -> None:
    print(f"\n| {head} |\n|{'---|' * (head.count('|') + 1)}")
    print("\n".join(f"| {row} |" for row in rows), flush=True)


def summary(done: list[tuple[Study, Estimate]]) -> str:
    errors = [e for study, found in done if (e := error(study.truth, found)) is not None]
    cover = np.mean([holds(study.truth, found) for study, found in done])
    closed = [width(found) for _, found in done if math.isfinite(width(found))]
    return (
        f"{len(done)} | {cover:.1%} | {np.median(np.abs(errors)):.2f} | {np.mean(errors):+.2f} | "
        f"{len(errors) / len(done):.1%} | {np.median(closed):.1f} | {1 - len(closed) / len(done):.0%}"
    )


COLUMNS = "studies | holds the truth | median error | bias | has a number | median width | an open end"


def estimate_tables(n: int) -> None:
    rows = []
    for selection in ("validation", "holdout"):
        done = studies(n, 301, selection=selection)
        rows.append(f"{selection} | all | {summary(done)}")
        for what, keep in (
            ("408 rows", lambda s: s.world.n_eval == 408), ("872 rows", lambda s: s.world.n_eval == 872),
            ("independent noise", lambda s: not s.world.shared), ("shared rows", lambda s: s.world.shared),
            ("1 learning rate", lambda s: s.rates == 1), ("3 or 4 learning rates", lambda s: s.rates > 1),
            ("2 seeds", lambda s: s.seeds == 2), ("5 seeds", lambda s: s.seeds == 5),
        ):  # fmt: skip
            rows.append(f"{selection} | {what} | {summary([pair for pair in done if keep(pair[0])])}")
    flat = [found.flattery for study, found in done if study.rates > 1]
    print(f"\nflattery, 3 or 4 learning rates: mean {100 * np.mean(flat):.2f} points of score")
    table(f"selection | of them | {COLUMNS}", rows)

    options = {
        "t = 0.8": {"threshold": 0.8}, "t = 0.95": {"threshold": 0.95},
        "t = 0.9, normalised": {"normalised": True}, "t = 0.9, n_eval unknown": {"n_eval": None},
    }  # fmt: skip
    table(f"asked | {COLUMNS}", [f"{k} | {summary(studies(n, 302, **v))}" for k, v in options.items()])

    called = {
        w: [found.status == w for _, found in studies(n, 303, where=w)] for w in ("below_grid", "above_grid")
    }
    called["undefined"] = [found.status == "undefined" for found in undefined_studies(n, 304)]
    table("truth | studies | called so", [f"{k} | {len(v)} | {np.mean(v):.1%}" for k, v in called.items()])


def adaptive_table(n: int) -> None:
    rows = []
    for seeds, full_seeds, count in ((1, 1, n // 4), (1, 3, n // 2), (1, 5, n // 4), (3, 3, n // 20)):
        done = list(duels(count, 305, seeds=seeds, full_seeds=full_seeds))
        wide = [np.array([width(d[i]) for d in done]) for i in (1, 2)]
        both = np.isfinite(wide[0]) & np.isfinite(wide[1])
        cells = [f"{np.median(w):.2f}" for w in wide]
        cells += [
            f"{np.median(wide[1]) / np.median(wide[0]):.2f}",
            f"{np.median(wide[1][both] / wide[0][both]):.2f}",
        ]
        cells += [f"{np.mean(wide[1] <= 1.25 * wide[0]):.0%}"]
        cells += [f"{np.mean([holds(d[0].truth, d[i]) for d in done]):.1%}" for i in (1, 2)]
        for i in (1, 2):
            cells.append(
                f"{np.median([abs(e) for d in done if (e := error(d[0].truth, d[i])) is not None]):.2f}"
            )
        runs = f"{400 * seeds} | {np.mean([d[3] for d in done]):.0f}"
        rows.append(f"{full_seeds} | {len(done)} | {runs} | " + " | ".join(cells))
    table(
        "seeds of full | studies | grid's runs | adaptive's | grid's width | adaptive's | ratio | "
        "paired ratio | within 1.25 | grid holds | adaptive holds | grid's error | adaptive's",
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("estimate", "adaptive"))
    parser.add_argument("--studies", type=int, default=1000)
    chosen = parser.parse_args()
    (estimate_tables if chosen.what == "estimate" else adaptive_table)(chosen.studies)


if __name__ == "__main__":
    main()
