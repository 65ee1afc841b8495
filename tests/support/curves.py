"""Studies made by hand, and their curves."""

from __future__ import annotations

from support.made_runs import result, scored, study

from intrinsic_cli.render import render
from intrinsic_cli.reports.curves import estimates, group
from intrinsic_cli.reports.tables import answer
from intrinsic_cli.statistics.estimate import Estimate, Level

# Halfway between 0.60 and 0.84 lies 90 % of 0.80; halfway between 100 and 400, on a log axis, 200.
PLAIN = study({100: 0.60, 400: 0.84}, 0.80)


def found(results, **options):
    return estimates(group(results), **options)


def text(some, form="table", reference=None):
    return render(answer(some, reference), form)


def estimated(**changes) -> Estimate:
    curve = (Level(100, 0.1, 0.6, 0.6, 3), Level(400, 0.1, 0.84, 0.84, 3))
    values = {"d_t": 200, "low": 150, "high": 260, "target": 0.72, "full_score": 0.8, "full_runs": 3}
    return Estimate(
        **{
            "status": "estimated", "reason": "", "threshold": 0.9, "confidence": 0.95,
            "selection": "validation", "definition": "score", "chance": 0.5, "runs": 6,
            "curve": curve, **values, **changes,
        }
    )  # fmt: skip


def losses(scores, full, chance=2.0, **options):
    """Runs as `study` makes them, of a loss: lower is better."""
    runs = study(scores, full, chance=chance, **options)
    return [scored(run, run.score, "loss", higher_is_better=False) for run in runs]


# At d=100, lr 0.2 wins on validation (0.64 against 0.60), lr 0.1 on the held-out rows; at 400, 0.1 on both.
TUNED = [
    result(d, score, lr=lr, seed=seed, holdout=holdout)
    for d, lr, score, holdout in (
        (100, 0.1, 0.60, 0.7), (100, 0.2, 0.64, 0.6), (400, 0.1, 0.84, 0.8), (400, 0.2, 0.70, 0.7),
        (None, 0.1, 0.80, 0.8),
    )
    for seed in range(3)
]  # fmt: skip


HARD = {16: 0.55, 64: 0.62, 256: 0.70, 1024: 0.76, 4096: 0.79}


def spread(scores, full, **options):
    """Three seeds a point apart."""
    each = [(d, s) for d, s in [*scores.items(), (None, full)]]
    return [
        result(d, s + 0.01 * (seed - 1), seed=seed, n_eval=872, **options)
        for d, s in each
        for seed in range(3)
    ]


def pruned_study():
    """d = 300 was above and only its highest rate had begun, which diverged; full fine-tuning 0.9."""
    finished = study({10: 0.6, 30: 0.7, 100: 0.88}, 0.9)
    at = result(300, 0.5, lr=1.0).spec
    [curve] = group(finished, [at], [(result(300, 0.5).spec, "above")])
    return curve
