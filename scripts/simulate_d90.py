"""How far to trust an interval of d_t: synthetic studies from known curves, for docs/statistics.md.

    python scripts/simulate_d90.py estimate    coverage by family of truth and number of seeds
    python scripts/simulate_d90.py rows        shared rows, large validation sets, other options
    python scripts/simulate_d90.py grids       d's further and further apart
    python scripts/simulate_d90.py adaptive    the adaptive search with its default stop rule
    python scripts/simulate_d90.py difference  paired intervals of two d_t's ratio against unpaired ones

A study is a known curve (the family), a grid of d's that holds its d_t, learning rates, seeds, and rows of a
validation set that are equally hard for all runs to a degree rho. No family was fitted to the estimator.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import ndtri

from intrinsic_cli.statistics.adaptive import Search, propose
from intrinsic_cli.statistics.difference import Difference, difference
from intrinsic_cli.statistics.estimate import Estimate, Measured, estimate
from intrinsic_cli.statistics.points import Point
from intrinsic_cli.statistics.targets import Scale

Array = np.ndarray
Curve = Callable[[Array], Array]  # natural log of d -> expected score, both (K,)

# Rows of the validation set: share of the majority class (RTE, MRPC, SST-2, QNLI, QQP).
TASKS = {277: 0.527, 408: 0.684, 872: 0.509, 5463: 0.505, 40000: 0.632}
SMALL = (277, 408, 872)
SMOOTH = ("logistic", "gompertz", "exponential", "power", "kink", "double")
HARD = ("step", "stairs", "hump", "collapse_full", "collapse_both", "heteroscedastic")
FAMILIES = (*SMOOTH, *HARD, "noisy_full", "decline", "dip", "steep", "plateau")
RESAMPLES = 500


@dataclass(frozen=True)
class Truth:
    """One study's truth: curve of the best rate in ln d, target, d_t, and the range of d to try."""

    family: str
    curve: Curve
    chance: float
    full: float
    d_t: float
    d_min: int
    d_max: int


@dataclass(frozen=True)
class World:
    """How runs come out. lr_off (L,) in decades from the best rate; lr_cost the share of the rise lost per
    decade squared; drift moves the best rate in decades per ln d; seed_sd the standard deviation of a run's
    expected score, at each d times 2 ** (wobble * normal), of full fine-tuning times full_noise; rho the
    correlation of rows between runs; collapse the shares of full and of subspace runs that end at chance, exactly
    there where `constant`; unstable multiplies seed_sd at the
    highest rate of θ, which then loses."""

    truth: Truth
    n_eval: int
    lr_off: Array
    lr_cost: float
    drift: float
    seed_sd: float
    wobble: float
    full_noise: float
    rho: float
    collapse: tuple[float, float]
    constant: bool
    key: int
    hardness: tuple[Array, Array] = field(repr=False, default=(np.empty(0), np.empty(0)))
    unstable: float = 1.0

    def expected(self, d: int | None) -> Array:
        """Expected scores (L,) of healthy runs at each rate; d is None for full fine-tuning."""
        truth = self.truth
        if d is None:
            top, off = truth.full, self.lr_off - self.lr_off[np.argmin(np.abs(self.lr_off))]
        else:
            u = math.log(d) - math.log(truth.d_min * truth.d_max) / 2
            top = float(truth.curve(np.array([math.log(d)]))[0])
            off = self.lr_off - self.drift * u
            off = off - off[np.argmin(np.abs(off))]
        return truth.chance + (top - truth.chance) * np.clip(1 - self.lr_cost * off**2, 0, 1)

    def run(self, d: int | None, seed: int, column: int, rng: np.random.Generator) -> tuple[Point, Array]:
        """One run at learning rate 3 ** column, and which rows it got right (n_eval,)."""
        sd = self.seed_sd * (self.full_noise if d is None else 1)
        if d is not None and column == self.lr_off.size - 1:
            sd *= self.unstable
        if self.wobble:
            sd *= 2 ** (self.wobble * np.random.default_rng([self.key, d or 0]).standard_normal())
        q = np.clip(self.expected(d)[column] + sd * rng.standard_normal(), 0.001, 0.999)
        fell = rng.random() < self.collapse[d is not None]
        right = []
        for hard in self.hardness:
            own = rng.standard_normal(hard.size)
            if fell and self.constant:
                right.append(np.arange(hard.size) < round(self.truth.chance * hard.size))
            else:
                at = math.sqrt(self.rho) * hard + math.sqrt(1 - self.rho) * own
                right.append(at < ndtri(self.truth.chance if fell else q))
        score, held = (float(np.mean(r)) for r in right)
        return Point(d, seed, 3.0**column, score, held), right[0]

    def grid(
        self, ds: Iterable[int | None], seeds: int, rng: np.random.Generator
    ) -> list[tuple[Point, Array]]:
        """Every d x learning rate x seed."""
        return [self.run(d, s, j, rng) for d in ds for j in range(self.lr_off.size) for s in range(seeds)]


def _smooth(family: str, rng: np.random.Generator, chance: float, top: float) -> Curve:
    a, b = rng.uniform(0.5, 1.5), rng.uniform(0.15, 0.85)
    gap = rng.uniform(2, 5)

    def share(u: Array) -> Array:
        if family == "gompertz":
            return np.exp(-np.exp(-a * u))
        if family == "exponential":
            return 1 - np.exp(-np.exp(a * u))
        if family == "power":  # 1 - d^-p above a smooth start
            return np.exp(-np.exp(-0.4 * a * u)) * (1 - 0.1 / (1 + np.exp(u)))
        if family == "kink":
            return 0.95 * np.clip(0.5 + a * u / 4, 0, 1) + 0.05 / (1 + np.exp(-u))
        if family == "double":
            return b / (1 + np.exp(-2 * a * u)) + (1 - b) / (1 + np.exp(-2 * a * (u - gap)))
        if family == "steep":  # from a tenth to nine tenths of the rise in 1.4 to 4.2 octaves
            return 1 / (1 + np.exp(-3 * a * u))
        return 1 / (1 + np.exp(-a * u))

    return lambda u: chance + (top - chance) * share(u)


def _hard(family: str, rng: np.random.Generator, chance: float, top: float, target: float) -> Curve:
    """Curves about u = 0 (their d_t is near it)."""
    if family == "step":
        low = chance + rng.uniform(0, 0.9) * max(target - 0.02 - chance, 0)
        return lambda u: np.where(u < 0, low, top)
    if family == "stairs":
        count = int(rng.integers(2, 5))
        at = np.sort(rng.uniform(-3, 3, count))
        rise = rng.dirichlet(np.full(count, 2.0)) * (top - chance)
        return lambda u: chance + (u[:, None] >= at) @ rise
    a, fall_at = rng.uniform(0.8, 2.0), rng.uniform(1.0, 3.0)
    if family == "decline":
        slope = rng.uniform(0.02, 0.06) / math.log(2)  # 2 to 6 points an octave
        return lambda u: np.maximum(
            chance + (top - chance) / (1 + np.exp(-a * (u + 2))) - slope * np.maximum(u - fall_at, 0), chance
        )
    if family == "dip":  # behind the crossing, an octave or two wide
        depth, narrow = rng.uniform(0.06, 0.25), rng.uniform(0.3, 0.8)
        return lambda u: (
            chance
            + (top - chance) / (1 + np.exp(-a * (u + 2)))
            - depth * np.exp(-(((u - fall_at) / narrow) ** 2))
        )
    fall, b = rng.uniform(0.06, 0.2), rng.uniform(1.0, 3.0)
    return lambda u: (
        chance + (top - chance) / (1 + np.exp(-a * (u + 2))) - fall / (1 + np.exp(-b * (u - fall_at)))
    )


def draw_truth(
    rng: np.random.Generator, family: str, n_eval: int, where: str, threshold: float, definition: str,
    octaves: float | None = None,
) -> Truth:  # fmt: skip
    """A curve and a range of so many octaves of d, else 5 to 9, that holds its d_t, or misses it by 1 to 4."""
    fine = np.linspace(-12, 22, 6801)
    while True:
        chance, full = TASKS[n_eval], rng.uniform(0.8, 0.92)
        base = chance if definition == "chance" else 0.0
        target = base + threshold * (full - base)
        top = full * rng.uniform(0.97, 1.02)
        span = octaves or rng.uniform(5, 9)
        if family in ("step", "stairs", "hump", "decline", "dip"):
            curve = _hard(family, rng, chance, top, target)
        else:
            shape = family if family in (*SMOOTH, "steep") else str(rng.choice(SMOOTH))
            if family == "plateau":
                top = target - rng.uniform(0.01, 0.03)
            curve = _smooth(shape, rng, chance, top)
        reached = curve(fine) >= target
        if family == "plateau":
            at = float(fine[np.argmax(curve(fine) >= chance + 0.97 * (top - chance))])
            low = at / math.log(2) - rng.uniform(0.2, 0.7) * span
        elif not reached.any() or reached[0]:
            continue
        else:
            at = _first(curve, target, fine[np.argmax(reached) - 1], fine[np.argmax(reached)])
            inside = (1, span - 2) if family in ("hump", "decline", "dip") else (0, span)
            place = {"inside": inside, "below_grid": (-4, -1), "above_grid": (span + 1, span + 4)}[where]
            low = at / math.log(2) - rng.uniform(*place)
        # A target at chance is no d90.
        if target <= chance + 0.01:
            continue
        shift = rng.uniform(3, 8) - low  # octaves to move all by, so that d_min lies between 8 and 256
        ends = [round(2 ** (low + shift + more)) for more in (0, span)]
        d_t = math.inf if family == "plateau" else math.exp(at + shift * math.log(2))
        return Truth(family, _moved(curve, shift * math.log(2)), chance, full, d_t, *ends)


def _first(curve: Curve, target: float, below: float, above: float) -> float:
    """Where the curve reaches its target, which it does at `above` and not at `below`."""
    for _ in range(40):
        middle = (below + above) / 2
        below, above = (below, middle) if curve(np.array([middle]))[0] >= target else (middle, above)
    return float(above)


def _moved(curve: Curve, by: float) -> Curve:
    return lambda u: curve(u - by)


@dataclass(frozen=True)
class Study:
    world: World
    rates: int
    seeds: int

    @property
    def truth(self) -> float:
        return self.world.truth.d_t

    @property
    def d_min(self) -> int:
        return self.world.truth.d_min

    @property
    def d_max(self) -> int:
        return self.world.truth.d_max


def draw_study(
    rng: np.random.Generator, family: str = "logistic", where: str = "inside", *, threshold: float = 0.9,
    definition: str = "score", rates: int | None = None, seeds: int | None = None,
    n_eval: int | Sequence[int] = SMALL, rho: float | None = None, unstable: float = 1.0,
    octaves: float | None = None,
) -> Study:  # fmt: skip
    n = n_eval if isinstance(n_eval, int) else int(rng.choice(n_eval))
    truth = draw_truth(rng, family, n, where, threshold, definition, octaves)
    columns = rates or int(rng.choice([1, 3]))
    fell = rng.uniform(0.15, 0.3)
    hetero = family == "heteroscedastic"
    world = World(
        truth=truth,
        n_eval=n,
        lr_off=(np.arange(columns) - rng.uniform(0, columns - 1 - (unstable > 1))) * math.log10(3),
        lr_cost=rng.uniform(0.1, 0.6) if unstable == 1 else rng.uniform(0.6, 2),
        drift=rng.uniform(-0.05, 0.05) if columns > 1 else 0.0,
        seed_sd=rng.uniform(0.01, 0.03) if hetero else rng.uniform(0.003, 0.02),
        wobble=1.0 if hetero else 0.0,
        full_noise=3.0 if family == "noisy_full" else 1.0,
        rho=float(rng.choice([0.0, 0.6, 0.9])) if rho is None else rho,
        collapse={"collapse_full": (fell, 0.0), "collapse_both": (fell, fell)}.get(family, (0.0, 0.0)),
        constant=bool(rng.random() < 0.5),
        key=int(rng.integers(2**32)),
        hardness=(rng.standard_normal(n), rng.standard_normal(n)),
        unstable=unstable,
    )
    return Study(world, columns, seeds or int(rng.integers(1, 6)))


def ask(study: Study, subspace: list[Point], baseline: list[Point], **options: object) -> Estimate:
    known = {"chance": study.world.truth.chance, "n_eval": study.world.n_eval, "resamples": RESAMPLES}
    return estimate(subspace, baseline, **(known | options))  # type: ignore[arg-type]


def studies(
    count: int, seed: int, family: str = "logistic", where: str = "inside", *, draw: dict | None = None,
    rows: bool = False, ds: int | None = None, **options: object,
) -> list[tuple[Study, Estimate]]:  # fmt: skip
    """Studies on grids of `ds` d's, else 6 to 10, and their estimates. `draw`: options of draw_study; with `rows`,
    every run says which rows it got right."""
    aim = {k: v for k, v in options.items() if k in ("threshold", "definition")}
    done = []
    for i in range(count):
        rng = np.random.default_rng([seed, i, *family.encode()])
        study = draw_study(rng, family, where, **aim, **(draw or {}))  # type: ignore[arg-type]
        grid = np.geomspace(study.d_min, study.d_max, ds or int(rng.integers(6, 11)))
        subspace, baseline = (
            [replace(p, rows=right) if rows else p for p, right in study.world.grid(part, study.seeds, rng)]
            for part in (map(int, np.unique(grid.round().astype(int))), [None])
        )
        done.append((study, ask(study, subspace, baseline, **options)))
    return done


def holds(truth: float, found: Estimate) -> bool:
    """Whether the interval holds the truth; an end that is not there counts as open."""
    if math.isinf(truth):
        return found.high is None
    return (found.low or 0) <= truth <= (found.high or math.inf)


def error(truth: float, found: Estimate) -> float | None:
    """log2 of estimate / truth; None where there is no estimate, or no true d_t."""
    return None if found.d_t is None or math.isinf(truth) else math.log2(found.d_t / truth)


def width(found: Estimate) -> float:
    """Octaves between the ends of the interval; inf where one is open."""
    return math.log2(found.high / found.low) if found.low and found.high else math.inf


def undefined_studies(count: int, seed: int) -> list[Estimate]:
    """MRPC-like studies whose target truly lies 0.01 or more under chance."""
    found = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        study = draw_study(rng, "logistic", n_eval=408)
        truth = replace(study.world.truth, full=rng.uniform(0.68, 0.748))
        study = replace(study, world=replace(study.world, truth=truth))
        ds = np.geomspace(study.d_min, study.d_max, 8).round().astype(int)
        parts = ([p for p, _ in study.world.grid(of, study.seeds, rng)] for of in (map(int, ds), [None]))
        found.append(ask(study, *parts))
    return found


def search_adaptively(study: Study, rng: np.random.Generator, **changes: object) -> tuple[Estimate, int, str]:
    """The estimate of an adaptive search as `idim sweep search=adaptive` makes it by default, the number of
    its runs, full fine-tuning's included, and why it stopped."""
    world = study.world
    options = {"rel_width": 1.0, "budget": 40, "seeds": tuple(range(8))}
    search = Search(
        d_min=study.d_min, d_max=study.d_max, lrs=lambda d: [3.0**j for j in range(study.rates)],
        scale=Scale(world.truth.chance, world.n_eval), **(options | changes),
    )  # type: ignore[arg-type]  # fmt: skip
    subspace, full = [], [replace(p, rows=right) for p, right in world.grid([None], 1, rng)]
    while not (plan := propose(subspace, full, search, slots=4)).finished:
        for run in plan.runs:
            point, right = world.run(run.size, run.seed, round(math.log(run.lr, 3)), rng)
            (full if run.size is None else subspace).append(replace(point, rows=right))
    return ask(study, subspace, full), len(subspace) + len(full), plan.reason


Asked = tuple[Study, Estimate]


def table(head: str, rows: Iterable[str]) -> None:
    print(f"\n| {head} |\n|{'---|' * (head.count('|') + 1)}")
    for row in rows:
        print(f"| {row} |", flush=True)


def summary(done: Sequence[Asked]) -> str:
    errors = [abs(e) for s, f in done if (e := error(s.truth, f)) is not None]
    closed = [w for _, f in done if math.isfinite(w := width(f))]
    said = [np.mean([f.status == status for _, f in done]) for status in ("estimated", "above_grid")]
    cells = [f"{np.mean([holds(s.truth, f) for s, f in done]):.1%}"]
    cells += [f"{np.median(part):.2f}" if part else "—" for part in (errors, closed)]
    return " | ".join([*cells, f"{1 - len(closed) / len(done):.0%}", *(f"{share:.0%}" for share in said)])


SUMMARY = "holds the truth | median error | median width | an open end | a number | above the grid"


def estimate_table(n: int) -> None:
    rows = (
        f"{family} | {seeds} | {summary(studies(n, 301, family, draw={'seeds': seeds}))}"
        for family in FAMILIES
        for seeds in (1, 2, 3, 5)
    )
    table(f"truth | seeds | {SUMMARY}", rows)


def rows_table(n: int) -> None:
    """What is known of the rows, and how far runs share them."""
    kinds = [
        *((rho, seeds, known) for rho in (0.0, 0.6, 0.9) for seeds in (1, 3, 5) for known in (False, True))
    ]

    def pooled(families: Sequence[str], **options: object) -> str:
        each = -(-n // len(families))
        return summary([pair for f in families for pair in studies(each, 302, f, **options)])  # type: ignore[arg-type]

    table(
        f"rows' correlation | seeds | outcomes of rows | {SUMMARY}",
        (
            f"{rho} | {seeds} | {'kept' if known else 'unknown'} | "
            f"{pooled(SMOOTH, draw={'rho': rho, 'seeds': seeds}, rows=known)}"
            for rho, seeds, known in kinds
        ),
    )
    table(
        f"rows of validation | seeds | outcomes of rows | {SUMMARY}",
        (
            f"{rows:,} | 1 | {'kept' if known else 'unknown'} | "
            f"{pooled(SMOOTH, draw={'n_eval': rows, 'seeds': 1}, rows=known)}"
            for rows in (5463, 40000)
            for known in (False, True)
        ),
    )
    options = {
        "t = 0.8": {"threshold": 0.8}, "t = 0.95": {"threshold": 0.95}, "chance": {"definition": "chance"},
        "selection = holdout": {"selection": "holdout"}, "n_eval unknown": {"n_eval": None},
        **{
            f"{seeds} seeds, the highest of three rates scatters {times} times as much":
            {"draw": {"rates": 3, "seeds": seeds, "unstable": times}} for times in (1, 10) for seeds in (2, 3, 5)
        },
    }  # fmt: skip
    table(f"asked | {SUMMARY}", (f"{name} | {pooled(SMOOTH, **o)}" for name, o in options.items()))
    called = {w: [f.status == w for _, f in studies(n, 303, where=w)] for w in ("below_grid", "above_grid")}
    called["undefined"] = [found.status == "undefined" for found in undefined_studies(n, 304)]
    table("truth | called so", (f"{name} | {np.mean(v):.1%}" for name, v in called.items()))


def grids_table(n: int) -> None:
    """Six d's of one factor, counted from chance."""

    def row(factor: int, seeds: int, families: Sequence[str]) -> str:
        drawn = {"octaves": 5 * math.log2(factor), "seeds": seeds, "n_eval": (872, 5463)}
        each = -(-n // len(families))
        done = [
            pair for f in families for pair in studies(each, 307, f, draw=drawn, ds=6, definition="chance")
        ]
        high = np.median([e for s, f in done if (e := error(s.truth, f)) is not None])
        name = "smooth" if families is SMOOTH else families[0]
        return f"{factor} | {name} | {seeds} | {summary(done)} | {high:z.2f}"

    factors = [(factor, families) for factor in (2, 3, 4, 5, 8, 10) for families in (SMOOTH, ("steep",))]
    table(
        f"a factor of | truth | seeds | {SUMMARY} | too high by",
        (row(factor, seeds, families) for factor, families in factors for seeds in (3, 5)),
    )


def adaptive_table(n: int) -> None:
    def row(family: str) -> str:
        done, runs, narrow = [], [], []
        for i in range(n):
            rng = np.random.default_rng([305, i, *family.encode()])
            study = draw_study(rng, family, rates=3, seeds=1)
            found, used, reason = search_adaptively(study, rng)
            done.append((study, found))
            runs.append(used)
            narrow.append("narrower" in reason)
        return f"{family} | {summary(done)} | {np.median(runs):.0f} | {np.mean(narrow):.0%}"

    table(f"truth | {SUMMARY} | median runs | narrow enough", map(row, FAMILIES))


def two_studies(rng: np.random.Generator, family: str, seeds: int, kind: str) -> tuple[list[Measured], float]:
    """Two curves on the same rows, the second moved by up to two octaves, and log2 of the ratio of their true d_t.

    kind: two `spaces` of one model share full fine-tuning; two `models` have their own. Rows are equally hard for
    all runs with a correlation of 0.6.
    """
    study = draw_study(rng, family, seeds=seeds, rates=1, rho=0.6)
    by = rng.uniform(-2, 2) * math.log(2)
    moved = replace(
        study.world.truth, curve=_moved(study.world.truth.curve, by), d_t=study.truth * math.exp(by)
    )
    worlds = study.world, replace(study.world, truth=moved, key=int(rng.integers(2**32)))
    full = worlds[0].grid([None], seeds, rng)
    sides = []
    for world in worlds:
        # Each its own grid, of 6 to 10 d's, that holds its d_t.
        ends = (math.exp(by) if world.truth is moved else 1.0) * np.array([study.d_min, study.d_max])
        ds = np.unique(np.geomspace(*ends.clip(4), int(rng.integers(6, 11))).round().astype(int))
        own = full if kind == "spaces" else world.grid([None], seeds, rng)
        runs, baseline = (
            [replace(p, rows=right) for p, right in part]
            for part in (world.grid(map(int, ds), seeds, rng), own)
        )
        scale = Scale(world.truth.chance, world.n_eval)
        sides.append(Measured(runs, baseline, scale, resamples=RESAMPLES))
    return sides, -by / math.log(2)


def difference_table(n: int) -> None:
    def row(kind: str, families: Sequence[str], seeds: int) -> str:
        held: dict[bool, list[bool]] = {True: [], False: []}
        shares: list[float] = []
        for i in range(n):
            family = families[i % len(families)]
            sides, truth = two_studies(np.random.default_rng([306, i, seeds]), family, seeds, kind)
            found = {p: difference(*sides, same_full=p and kind == "spaces", same_rows=p) for p in held}
            if found[True].reason:
                continue
            for paired, each in found.items():
                held[paired].append(holds_ratio(truth, each))
            widths = [octaves(found[p]) for p in (True, False)]
            if all(map(math.isfinite, widths)):
                shares.append(widths[0] / widths[1])
        closed = len(shares) / len(held[True])
        return (
            f"{kind} | {'smooth' if families is SMOOTH else 'hard'} | {seeds} | {np.mean(held[True]):.1%} | "
            f"{np.mean(held[False]):.1%} | {1 - np.median(shares):z.0%} | {1 - closed:.0%}"
        )

    kinds = [(kind, families) for kind in ("spaces", "models") for families in (SMOOTH, HARD)]
    table(
        "two | truth | seeds | holds the truth, paired | unpaired | narrower by | an open end",
        (row(kind, families, seeds) for kind, families in kinds for seeds in (1, 3, 5)),
    )


def holds_ratio(truth: float, found: Difference) -> bool:
    """Whether the interval holds the true log2 ratio; an end that is not there counts as open."""
    low = -math.inf if found.low is None else found.low
    return low <= truth <= (math.inf if found.high is None else found.high)


def octaves(found: Difference) -> float:
    """Between the ends of the interval; inf where one is open."""
    return math.inf if found.low is None or found.high is None else found.high - found.low


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tables = {
        "estimate": estimate_table,
        "rows": rows_table,
        "grids": grids_table,
        "adaptive": adaptive_table,
        "difference": difference_table,
    }
    parser.add_argument("what", choices=tables)
    parser.add_argument("--studies", type=int, default=200, help="of each row of a table")
    chosen = parser.parse_args()
    tables[chosen.what](chosen.studies)


if __name__ == "__main__":
    main()
