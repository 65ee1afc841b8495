"""Which runs make a curve, and what it says of a d90, against records made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.curves import HARD, PLAIN, estimated, found, pruned_study, spread
from support.made_runs import result, save, scored, study

from intrinsic_cli.errors import StoreError
from intrinsic_cli.reports.cells import cell
from intrinsic_cli.reports.curves import estimates, few_seeds, group, levels_at
from intrinsic_cli.reports.notes import footnotes
from intrinsic_cli.reports.records import records
from intrinsic_cli.reports.tables import grid
from intrinsic_cli.spec import SubspaceSpec
from intrinsic_cli.statistics.estimate import Level
from intrinsic_cli.statistics.points import Point, rising
from intrinsic_cli.statistics.targets import Scale
from intrinsic_cli.study.ending import death, record_death


def test_keys_that_change_no_score_there_part_no_curve():
    """DID has no groups, and a head that is projected has no rate of its own."""
    other = {"subspace": {"groups": "tensor", "lam_lr": 0.5, "head_lr": 0.7}}
    small, large = study({100: 0.60}, 0.80), study({400: 0.84}, 0.80, changes=other)
    [curve] = group(small + [run for run in large if not run.spec.is_full])
    assert [run.d for run in curve.runs] == [100] * 3 + [400] * 3
    parted = group(
        study({100: 0.60}, 0.80, kind="said") + study({400: 0.84}, 0.80, kind="said", changes=other)
    )
    assert [{run.d for run in curve.runs} for curve in parted] == [{100}, {400}]


def test_a_torn_file_of_answers_takes_no_table_away(tmp_path, caplog):
    store = save(study({100: 0.60, 400: 0.84}, 0.80, n_eval=400), tmp_path)
    for run in store.results():
        right = np.arange(400) < round(400 * run.score)
        store.run(run.spec).keep_outcomes({"validation": {"label": right * 0, "prediction": right * 1 - 1}})
    [(_, whole)] = found(store.results())
    torn = store.run(store.results()[0].spec)
    torn.keep_outcomes({"validation": {"label": np.zeros(400, int), "prediction": np.zeros(399, int)}})
    [(_, value)] = found(store.results())
    assert (value.d_t, value.status) == (whole.d_t, "estimated")
    assert "prediction is no column of 400 numbers" in caplog.text
    for column in (np.zeros(400, int), np.zeros((400, 1), int), np.zeros(7, int), np.full(400, np.nan)):
        caplog.clear()
        torn.keep_outcomes({"validation": {"label": column, "prediction": column}})
        assert found(store.results())[0][1] == value
        assert "outcomes.npz is" in caplog.text
    (torn.path / "outcomes.npz").write_bytes(b"PK")
    assert found(store.results())[0][1].d_t == whole.d_t
    assert "is damaged" in caplog.text


def test_d_t_of_a_curve_by_hand():
    asked = found(PLAIN, thresholds=[0.8, 0.9])
    values = [each for curve, value in asked for each in curve.beside(value).values()]
    assert [(v.threshold, v.definition) for v in values] == [
        (0.8, "score"), (0.8, "chance"), (0.9, "score"), (0.9, "chance"),
    ]  # fmt: skip
    # d = 100 * 4 ** ((target - 0.60) / 0.24), rounded up, at the targets 0.64, 0.74, 0.72 and 0.77
    assert [v.d_t for v in values] == [126, 225, 200, 267]


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"revision": "step20"}},
        {"model": {"name": "other/minilm"}},
        {"model": {"fingerprint": "ab12"}},
        {"data": {"max_train": 7}},
        {"train": {"epochs": 9.0}},
        {"subspace": {"head": "trained"}},
        {"subspace": {"include": ["*bias"]}},
        {"projection": {"kind": "dense"}},
        {"projection": {"seed": 0}},
    ],
)
def test_no_curve_hides_another(change):
    other = [
        result(d, s, seed=seed, changes=change) for d, s in ((100, 0.6), (400, 0.84)) for seed in range(3)
    ]  # fmt: skip
    both = found(PLAIN + other)
    assert len({curve.name for curve, _ in both}) == 2
    header, rows = grid(both)
    own = [i for i, name in enumerate(header) if " DID" in name and not name.endswith(" chance")]
    assert len([row[i] for row in rows for i in own if row[i]]) == 2


def test_only_seeds_that_matter_are_counted():
    def curve(*runs: int) -> tuple[Level, ...]:
        fits = (0.5, 0.6, 0.84, 0.9)
        return tuple(Level(100 * 4**i, 0.1, f, f, n) for i, (f, n) in enumerate(zip(fits, runs, strict=True)))

    assert [level.d for level in levels_at(estimated(curve=curve(1, 3, 3, 1)))] == [400, 1600]
    assert not few_seeds(estimated(curve=curve(1, 3, 3, 1)))
    assert few_seeds(estimated(curve=curve(3, 2, 3, 3)))
    assert few_seeds(estimated(curve=curve(3, 3, 2, 3)))
    beyond = estimated(status="above_grid", d_t=None, target=0.95, curve=curve(1, 1, 1, 3))
    assert [level.d for level in levels_at(beyond)] == [6400]


def test_what_decides_beyond_the_grid_takes_part():
    """0.9 of 0.9 is 0.81: d=1000 is short of it, and what falls behind it, at another rate, has no part in that."""
    scores = {100: (0.60, 0.1), 1000: (0.72, 0.3), 10_000: (0.55, 0.7), None: (0.90, 1e-4)}
    for behind in (1, 3):
        seeds = {10_000: behind}
        runs = [result(d, s, seed=k, lr=lr) for d, (s, lr) in scores.items() for k in range(seeds.get(d, 3))]
        [(_, value)] = some = found(runs)
        assert (value.status, value.falls_at) == ("above_grid", 10_000)
        [record] = records(some)
        assert (record["lr"], record["rough"], record["grid_high"]) == (0.3, False, 1000)
        assert cell(value) == "> 1000"


def test_what_falls_at_the_target_has_not_reached_it():
    """The fit of a d beyond the fall is no part of the curve, though it be at the target."""
    levels = tuple(
        Level(d, lr, f, f, n) for d, lr, f, n in ((100, 0.1, 0.6, 3), (400, 0.2, 0.7, 3), (900, 9, 0.8, 1))
    )
    fallen = estimated(status="above_grid", d_t=None, target=0.75, curve=levels, falls_at=900)
    assert fallen.reached == ()
    assert [level.d for level in levels_at(fallen)] == [400]
    assert not few_seeds(fallen)


def test_runs_that_diverged_count_against_their_rate():
    fast = [r for r in spread({d: s + 0.05 for d, s in HARD.items()}, 0.80, lr=0.3) if r.spec.d]
    kept, lost = [r for r in fast if r.spec.seed < 2], [r.spec for r in fast if r.spec.seed == 2]
    runs = spread(HARD, 0.80)
    ((curve, alone),) = found(runs)
    ((_, lucky),) = found([*runs, *kept])
    ((curve, beside),) = estimates(group([*runs, *kept], lost))
    assert lucky.d_t < alone.d_t == beside.d_t
    assert {level.lr for level in beside.curve} == {0.1}
    assert f"{curve.name}: 5 subspace runs diverged" in "\n".join(footnotes([(curve, beside)]))


def test_the_outcomes_of_rows_reach_the_estimate(tmp_path):
    """Runs that err on the same rows: what they share cancels, and the interval is narrower."""
    import numpy as np

    hard = np.random.default_rng(0).permutation(872)
    store = save([scored(r, round(872 * r.score) / 872) for r in spread(HARD, 0.80)], tmp_path)
    ((_, unknown),) = found(store.results())
    for r in store.results():
        labels = np.arange(872) % 2
        kept = {"label": labels, "prediction": np.where(hard < round(872 * r.score), labels, 1 - labels)}
        store.run(r.spec).keep_outcomes({"validation": kept})
    ((_, known),) = found(store.results())
    assert known.d_t == unknown.d_t
    assert known.high / known.low < unknown.high / unknown.low


@pytest.mark.parametrize("changes", [{"chance": -3.0}, {"higher_is_better": False}])
def test_a_run_that_was_scored_otherwise_is_a_curve_of_its_own(changes, tmp_path):
    runs = study({100: 0.60, 400: 0.84}, 0.80)
    one = replace(runs[0], **changes)
    [(_, whole)] = found(runs[1:])
    parted = {len(curve.runs): value for curve, value in found([one, *runs[1:]])}
    assert parted[5] == whole
    assert parted[1].status == "undefined"  # full fine-tuning was not scored so


def test_truth_values_of_rows_have_a_negative():
    """A metric of which less is better, of answers that are right or wrong."""
    point = Point(None, 0, 0.1, 0.25, rows=np.array([True, False, False, False]))
    [turned] = rising([point], Scale(0.5, 4, "error", higher_is_better=False))
    assert (turned.score, turned.rows.tolist()) == (-0.25, [-1, 0, 0, 0])


def test_a_store_tells_diverged_runs_from_those_that_the_machine_ended(tmp_path):
    from intrinsic_cli.errors import RunError

    store = save(spread(HARD, 0.80), tmp_path)
    for d, error in ((77, RunError("the loss is nan: diverged at lr=9")), (88, MemoryError("no memory"))):
        spec = result(d, 0.5).spec
        store.run(spec).plan(spec)
        store.run(spec).fail(error)
    spec = result(99, 0.5).spec
    store.run(spec).plan(spec)
    record_death(store.run(spec), death(-9), attempts=2)
    assert store.run(spec).error()["message"].startswith("its process was killed by SIGKILL")
    assert [spec.d for spec in store.survey().diverged] == [77]


def test_a_space_of_which_every_run_diverged_has_a_line():
    did = spread(HARD, 0.80)
    said = [replace(run.spec, subspace=SubspaceSpec("said")) for run in did if run.spec.d]
    both, alone = group(did, said), group(did)
    assert [curve.kind for curve in both] == ["said", "did"]
    lost, sound = (curve.estimate() for curve in both)
    assert (lost.status, lost.reason) == ("undefined", "every subspace run failed or collapsed to chance")
    assert (lost.failed, lost.runs) == (len(said), len(said))
    assert sound == alone[0].estimate()
    assert [run.run_id for run in both[0].baseline] == [run.run_id for run in alone[0].baseline]
    # Without full fine-tuning nothing says what its scores would be.
    assert [curve.kind for curve in group([run for run in did if run.spec.d], said)] == ["did"]


def test_a_loss_is_no_score_to_reach_a_share_of():
    losses = [replace(run, higher_is_better=False) for run in study({100: 5.0, 1000: 2.1}, 2.0)]
    [(_, value)] = estimates(group(losses))
    assert value.status == "undefined"
    assert "lower is better" in value.reason


def test_a_size_that_pruning_takes_out_leaves_no_diverged_run_behind():
    curve = pruned_study()
    assert (curve.pruned, curve.diverged) == (1, ())
    assert curve.estimate().falls_at is None
    assert [level.d for level in curve.estimate().curve] == [10, 30, 100]


def test_a_folder_whose_runs_all_belong_to_pruned_ones_says_so():
    with pytest.raises(StoreError, match=r"others were pruned; sweep without search\.prune"):
        group(study({10: 0.6}, 0.9), [], [(result(10, 0.5, seed=7).spec, "behind")])
