"""What stands under a table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.curves import HARD, PLAIN, TUNED, found, pruned_study, spread, text
from support.made_runs import result, scored, study

from intrinsic_cli.reports.curves import estimates, group
from intrinsic_cli.reports.notes import footnotes, notes_on
from intrinsic_cli.reports.page import verdict
from intrinsic_cli.reports.tables import grid


def test_two_seeds_are_marked_and_explained():
    shown = text(found(study({100: 0.60, 400: 0.84}, 0.80, seeds=2)))
    assert "200* [" in shown
    assert "* fewer than 3 seeds" in shown
    assert "*" not in text(found(PLAIN))


@pytest.mark.parametrize(("ds", "told"), [((100, 400), False), ((100, 500), True), ((100, 1000), True)])
def test_a_crossing_between_ds_far_apart_is_told(ds, told):
    [(curve, value)] = found(study(dict(zip(ds, (0.60, 0.84), strict=True)), 0.80))
    notes = [note for note in notes_on(curve, value) if f"lies between d={ds[0]} and d={ds[1]}" in note]
    assert len(notes) == told


def test_an_undefined_d90_says_why():
    both = found(study({100: 0.5, 400: 0.5}, 0.51, chance=0.684))
    assert grid(both)[1] == [["minilm", "0.510", "—", "—"]]
    [reason] = [line for line in footnotes(both) if line.startswith("—")]  # the same by both definitions
    assert reason.startswith("— minilm sst2 DID: full fine-tuning (0.51) is not")


def test_selection_and_how_much_it_flatters():
    ((_, honest),) = found(TUNED, selection="holdout")
    ((_, paper),) = found(TUNED)
    assert honest.d_t == 200
    assert paper.d_t == 175  # 100 * 4 ** (0.08 / 0.20) = 174.1
    said = "by 0.0200 on average, 0.0200 at most (minilm sst2 DID)"  # 0.04 at one of two d's
    assert f"on the validation rows that give the score, which flatters it {said}" in text(found(TUNED))
    assert f"would have flattered the scores {said}" in text(found(TUNED, selection="holdout"))
    assert "flatter" not in text(found(PLAIN))
    without = [replace(r, holdout_metrics=None) for r in TUNED]
    assert "data.holdout above 0 can tell by how much" in text(found(without))


def test_what_happened_to_runs_is_said_under_the_table():
    runs = spread(HARD, 0.80)
    fell = [scored(r, 0.5) if r.spec.d is None and r.spec.seed == 2 else r
            for r in runs]  # fmt: skip
    shown = text(found(fell))
    assert "0 of 15 subspace runs and 1 of 3 of full fine-tuning collapsed to chance" in shown
    shown = text(found(spread({**HARD, 20_000: 0.60}, 0.80)))
    assert "falls at d=20000, from which on no d takes part" in shown
    assert "a rate too high? Try lr=" in shown
    # Where there is no d90 the fall of the curve is nobody's.
    shown = text(found(spread({**HARD, 20_000: 0.60}, 0.55)))
    assert "not clearly above chance" in shown
    assert "falls at" not in shown


def test_a_gain_that_is_none_says_so():
    runs = [*study({100: 0.84, 1000: 0.85, 10000: 0.852}, 0.85), result(0, 0.85)]
    found = estimates(group(runs))
    header, [row] = grid(found)
    assert dict(zip(header, row, strict=True))["sst2 DID gain"] == "—"
    assert any(
        "gain" in line and "not clearly above the model before training" in line for line in footnotes(found)
    )


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({10: 0.45, 30: 0.7, 100: 0.45}, False),  # a collapse, which has a note of its own
        ({10: 0.45, 30: 0.46, 100: 0.5}, True),
        ({10: 0.45, 30: 0.6, 100: 0.7}, False),  # on its way
        ({10: 0.45, 30: 0.46, 100: 0.9}, False),  # reaches the target
    ],
)
def test_a_largest_d_at_chance_is_no_matter_of_numbers_alone(scores, told):
    [curve] = group(study(scores, 0.9))
    value = curve.estimate()
    notes = [note for note in notes_on(curve, value) if "does not clearly beat chance" in note]
    assert len(notes) == told
    if value.status == "above_grid":
        assert ("before larger ones" in verdict(curve, value)) == told
    for note in notes:
        assert f"at d=100, the largest, the score ({scores[100]:.3f})" in note
        assert "chance (0.500): > 100 may" in note


@pytest.mark.parametrize(
    ("threshold", "selection", "told"),
    [
        (0.9, "validation", ""),
        (0.95, "validation", "--threshold 0.95"),
        (0.9, "holdout", "--selection holdout"),
    ],
)
def test_what_pruning_did_not_keep_is_said(threshold, selection, told):
    held = [replace(run, holdout_metrics={"accuracy": run.score}) for run in pruned_study().runs]
    full = [replace(run, holdout_metrics={"accuracy": run.score}) for run in pruned_study().baseline]
    [curve] = group([*held, *full], [], [(result(300, 0.5).spec, "above")])
    curve = replace(curve, selection=selection)
    notes = "\n".join(notes_on(curve, curve.estimate(threshold)))
    assert "1 runs were pruned" in notes
    assert ("sweep again without search.prune" in notes) == bool(told)
    assert told in notes
