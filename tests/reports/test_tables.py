"""Curves and tables against records made by hand."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from support.made_runs import result, save, scored, study

from intrinsic_cli.cli.main import main
from intrinsic_cli.errors import ConfigError, StoreError
from intrinsic_cli.render import natural, render
from intrinsic_cli.reports.cells import cell
from intrinsic_cli.reports.curves import estimates, few_seeds, group, levels_at
from intrinsic_cli.reports.notes import footnotes, notes_on
from intrinsic_cli.reports.page import verdict
from intrinsic_cli.reports.records import KEYS, records
from intrinsic_cli.reports.tables import answer, grid
from intrinsic_cli.statistics.estimate import Estimate, Level
from intrinsic_cli.statistics.points import Point, rising
from intrinsic_cli.statistics.targets import Scale

# Halfway between 0.60 and 0.84 lies 90 % of 0.80; halfway between 100 and 400, on a log axis, 200.
PLAIN = study({100: 0.60, 400: 0.84}, 0.80)


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


def test_d_t_of_a_curve_by_hand():
    asked = found(PLAIN, thresholds=[0.8, 0.9])
    values = [each for curve, value in asked for each in curve.beside(value).values()]
    assert [(v.threshold, v.definition) for v in values] == [
        (0.8, "score"), (0.8, "chance"), (0.9, "score"), (0.9, "chance"),
    ]  # fmt: skip
    # d = 100 * 4 ** ((target - 0.60) / 0.24), rounded up, at the targets 0.64, 0.74, 0.72 and 0.77
    assert [v.d_t for v in values] == [126, 225, 200, 267]


OLD_KEYS = (
    "model", "revision", "task", "subspace", "projection", "normalize", "metric", "full_score", "target",
    "threshold", "d90", "d90_low", "d90_high", "status", "runs",
)  # fmt: skip


def test_json_has_the_keys_that_scripts_rely_on():
    (record,) = json.loads(text(found(PLAIN), "json"))
    assert list(record) == list(KEYS)
    assert KEYS[: len(OLD_KEYS)] == OLD_KEYS
    assert record["d90"] == record["d"] == 200
    assert record["d90_low"] < 200 < record["d90_high"]
    assert (record["model"], record["task"], record["subspace"]) == ("minilm", "sst2", "did")
    assert (record["full_score"], record["threshold"], record["target"]) == (0.8, 0.9, 0.72)
    assert (record["status"], record["runs"], record["seeds"], record["rough"]) == ("estimated", 6, 3, False)
    assert (record["lr"], record["full_lr"], record["full_runs"]) == (0.1, 0.1, 3)
    assert (record["D"], record["n_train"], record["n_eval"]) == (1000, 4000, 1_000_000)
    assert (record["grid_low"], record["grid_high"]) == (100, 400)
    assert (record["low_status"], record["high_status"]) == ("estimated", "estimated")
    assert (record["definition"], record["settings"], record["reason"]) == ("score", "", "")


def test_records_say_which_end_is_open_and_why_there_is_no_number():
    (below,) = json.loads(text(found(study({100: 0.79, 400: 0.8}, 0.80, n_eval=872)), "json"))
    assert (below["d"], below["status"], below["low_status"]) == (None, "below_grid", "below_grid")
    (none,) = json.loads(text(found([r for r in PLAIN if r.spec.d]), "json"))
    assert (none["status"], none["low_status"], none["high_status"]) == ("undefined", "unknown", "unknown")
    assert (
        none["reason"]
        == "no run of full fine-tuning on the same rows and weights, trained alike, has finished"
    )
    assert (none["lr"], none["grid_low"], none["grid_high"]) == (None, 100, 400)


def test_records_of_several_studies_in_one_folder_have_keys_of_their_own():
    runs = []
    for changes in ({}, {"data": {"max_train": 7}}, {"subspace": {"normalize": "tensor"}}):
        runs += study({100: 0.60, 400: 0.84}, 0.80, changes=changes)
    told = json.loads(text(found(runs), "json"))
    assert sorted(record["settings"] for record in told) == [
        "data.max_train=7 normalize=global", "data.max_train=null normalize=global",
        "data.max_train=null normalize=tensor",
    ]  # fmt: skip
    assert len({record["study"] for record in told}) == 2


def test_both_definitions_stand_side_by_side():
    (record,) = json.loads(text(found(PLAIN), "json"))
    assert (record["d90_score"], record["d90_chance"]) == (record["d90"], 267) == (200, 267)
    assert (record["target_score"], record["target_chance"]) == (0.72, 0.77)
    assert record["d90_chance_low"] < 267 < record["d90_chance_high"]
    assert record["status_chance"] == "estimated"
    header, rows = grid(found(PLAIN))
    assert header == ["model", "sst2 full accuracy", "sst2 DID", "sst2 DID chance"]
    assert (rows[0][2].split()[0], rows[0][3].split()[0]) == ("200", "267")
    told = text(found(PLAIN))
    assert (
        "chance: the d at which the score has gone 90 % of the way from chance to full fine-tuning's." in told
    )
    # A correlation has no chance to start from: one column says all.
    assert grid(found(study({100: 0.60, 400: 0.84}, 0.80, chance=0.0)))[0] == [
        "model", "sst2 full accuracy", "sst2 DID",
    ]  # fmt: skip


def test_one_definition_may_have_a_number_where_the_other_has_none():
    # 90 % of 0.74 lies under a chance of 0.684, and 0.684 + 90 % of 0.056 = 0.7344 does not.
    some = found(study({100: 0.69, 400: 0.74}, 0.74, chance=0.684))
    ((_, score, own, other),) = grid(some)[1]
    assert (score, own) == ("0.740", "—")
    assert other.startswith(f"{math.ceil(100 * 4 ** (0.0444 / 0.05))} [")
    assert "— minilm sst2 DID: the target (0.666) is not clearly above chance (0.684)." in footnotes(some)


def losses(scores, full, chance=2.0, **options):
    """Runs as `study` makes them, of a loss: lower is better."""
    runs = study(scores, full, chance=chance, **options)
    return [scored(run, run.score, "loss", higher_is_better=False) for run in runs]


def test_a_record_is_there_once_where_the_first_is_the_normalised_one():
    """Of a loss without d=0, the share counts from chance anyway."""
    runs = losses({100: 1.8, 400: 1.1}, 1.0)
    flat = records(found(runs, thresholds=(0.8, 0.9)), normalised=True)
    assert [(r["threshold"], r["definition"], r["normalised"]) for r in flat] == [
        (0.8, "chance", True), (0.9, "chance", True),
    ]  # fmt: skip
    whole = [*runs, *losses({0: 1.9}, 1.0, seeds=1)]
    flat = records(found(whole), normalised=True)
    assert [(r["definition"], r["normalised"]) for r in flat] == [("gain", False), ("chance", True)]


def test_a_loss_of_nothing_has_no_sign_and_each_definition_is_named_once():
    some = found(losses({100: 0.0, 400: 0.0}, 0.0, chance=0.0), thresholds=(0.8, 0.9))
    assert {str(record["full_score"]) for record in records(some)} == {"0.0"}
    [line] = [line for line in footnotes(some) if line.startswith("—")]
    assert line.startswith("— minilm sst2 DID chance: full fine-tuning (0) is not clearly below chance (0)")


def test_seeds_are_no_number_without_a_curve():
    [record] = records(found([run for run in PLAIN if not run.spec.is_full]))
    assert (record["status"], record["seeds"], record["full_runs"]) == ("undefined", None, 0)


def test_normalised_json_has_a_record_of_each():
    flat = json.loads(render(answer(found(PLAIN), normalised=True), "json"))
    assert [(r["normalised"], r["definition"], r["d90"]) for r in flat] == [
        (False, "score", 200), (True, "chance", 267),
    ]  # fmt: skip


def test_csv_says_what_json_says():
    both = found(PLAIN + study({100: 0.1}, 0.3, task="rte"), thresholds=[0.8, 0.9])
    rows = list(csv.DictReader(io.StringIO(text(both, "csv"))))
    flat = json.loads(text(both, "json"))
    assert [(r["task"], r["threshold"], r["d90"], r["status"]) for r in rows] == [
        ("rte", "0.8", "", "undefined"), ("sst2", "0.8", "126", "estimated"),
        ("rte", "0.9", "", "undefined"), ("sst2", "0.9", "200", "estimated"),
    ]  # fmt: skip
    for row, record in zip(rows, flat, strict=True):
        assert row == {key: "" if value is None else str(value) for key, value in record.items()}


def test_markdown_parses_back():
    lines = text(found(PLAIN + study({100: 0.6}, 0.8, kind="said")), "md").splitlines()
    rows = [[word.strip() for word in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == [
        "model", "sst2 full accuracy", "sst2 SAID", "sst2 SAID chance", "sst2 DID", "sst2 DID chance",
    ]  # fmt: skip
    assert set("".join(rows[1])) == {"-"}
    assert [row[:4] for row in rows[2:]] == [["minilm", "0.800", "> 100", "> 100"]]
    assert re.fullmatch(r"200 \[1\d\d, [234]\d\d\]", rows[2][4])


def test_latex_is_whole_and_escaped():
    runs = PLAIN + study({100: 0.6, 400: 0.7}, 0.8, model="a_b & c%")
    told = text(found(runs, thresholds=[0.8, 0.9]), "tex")
    assert told.isascii()
    bodies = [line for line in told.splitlines() if not line.startswith("%")]
    assert bodies.count(r"\begin{tabular}{llll}") == bodies.count(r"\end{tabular}") == 2
    rows = [line.removesuffix(r"\\") for line in bodies if line.endswith(r"\\")]
    assert [len(re.split(r"(?<!\\)&", row)) for row in rows] == [4] * 6
    assert any(row.startswith(r"a\_b \& c\% & 0.800 & $>$ 400") for row in rows)  # 0.7 is under 0.72


def test_many_columns_become_a_row_a_curve():
    tasks = [f"task{i}" for i in range(5)]
    runs = [r for task in tasks for r in study({100: 0.60, 400: 0.84}, 0.80, task=task)]
    runs += study({100: 0.60, 400: 0.84}, 0.80, task="task9", chance=0.0)
    lines = text(found(runs), "md").splitlines()
    rows = [[word.strip() for word in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == ["model", "task", "subspace", "metric", "full", "d90", "d90 chance"]
    assert [row[:5] for row in rows[2:]] == [
        ["minilm", task, "DID", "accuracy", "0.800"] for task in (*tasks, "task9")
    ]
    assert all(row[5].startswith("200 [") for row in rows[2:])
    assert [row[6].partition(" ")[0] for row in rows[2:]] == ["267"] * 5 + [""]


def test_every_threshold_is_a_table_of_its_own():
    shown = text(found(PLAIN, thresholds=[0.8, 0.9]))
    before, _, after = shown.partition("d90:")
    assert before.startswith("d80:")
    assert "126 [" in before
    assert "200 [" in after


def test_studies_of_other_sizes_are_rows_and_subspaces_are_columns():
    runs = []
    for size in (10_000, 400):
        for normalize in ("tensor", "global"):
            runs += [
                result(
                    d,
                    s,
                    seed=seed,
                    changes={"data": {"max_train": size}, "subspace": {"normalize": normalize}},
                )
                for d, s in ((100, 0.6), (400, 0.84))
                for seed in range(3)
            ]
        runs += [result(None, 0.8, seed=seed, changes={"data": {"max_train": size}}) for seed in range(3)]
    random.Random(0).shuffle(runs)
    header, rows = grid(found(runs))
    assert header == [
        "model", "sst2 full accuracy", "sst2 DID normalize=global", "sst2 DID normalize=global chance",
        "sst2 DID normalize=tensor", "sst2 DID normalize=tensor chance",
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["minilm data.max_train=400", "minilm data.max_train=10000"]
    assert all(
        row[1] == "0.800" and row[2].startswith("200 [") and row[4].startswith("200 [") for row in rows
    )


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


def test_the_order_does_not_depend_on_the_order_of_runs():
    runs = PLAIN + [
        r for t in ("rte", "mrpc") for k in ("said", "did") for r in study({100: 0.7}, 0.8, task=t, kind=k)
    ]
    shuffled = random.Random(1).sample(runs, len(runs))
    assert text(found(shuffled)) == text(found(runs))
    assert grid(found(runs))[0] == [
        "model", "mrpc full accuracy", "mrpc SAID", "mrpc SAID chance", "mrpc DID", "mrpc DID chance",
        "rte full accuracy", "rte SAID", "rte SAID chance", "rte DID", "rte DID chance",
        "sst2 full accuracy", "sst2 DID", "sst2 DID chance",
    ]  # fmt: skip


def test_natural_order():
    assert sorted(["step100", "step20", "null", "x=0.1", "x=0.05"], key=natural) == [
        "null", "step20", "step100", "x=0.05", "x=0.1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "200 [150, 260]"),
        ({"low": None, "high": None}, "200"),
        ({"low": None, "low_open": True}, "200 [≤ 100, 260]"),
        ({"high": None, "high_open": True}, "200 [150, > 400]"),
        ({"full_runs": 2}, "200* [150, 260]"),
        ({"status": "undefined"}, "—"),
        (
            {"status": "below_grid", "d_t": None, "low": None, "low_open": True, "target": 0.5},
            "≤ 100 [≤ 100, 260]",
        ),
        (
            {"status": "below_grid", "d_t": None, "low": None, "low_open": True, "high": 100, "target": 0.5},
            "≤ 100",
        ),
        (
            {"status": "above_grid", "d_t": None, "high": None, "high_open": True, "target": 0.9},
            "> 400 [150, > 400]",
        ),
        (
            {"status": "above_grid", "d_t": None, "low": 400, "high": None, "high_open": True, "target": 0.9},
            "> 400",
        ),
    ],
)
def test_cell(changes, shown):
    assert cell(estimated(**changes)) == shown


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


def test_two_seeds_are_marked_and_explained():
    shown = text(found(study({100: 0.60, 400: 0.84}, 0.80, seeds=2)))
    assert "200* [" in shown
    assert "* fewer than 3 seeds" in shown
    assert "*" not in text(found(PLAIN))


def test_a_hash_names_a_row_where_nothing_else_does():
    """Label columns of one file are other rows, by their hash too; the name of the column says as much."""
    runs = [
        replace(run, data_hash=hash_ * 64)
        for label, hash_ in (("stars", "a"), ("helpful", "b"))
        for run in study({100: 0.60, 400: 0.84}, 0.80, changes={"task": {"label": label}})
    ]
    assert [row[0] for row in grid(found(runs))[1]] == [
        "minilm task.label=helpful",
        "minilm task.label=stars",
    ]
    again = [replace(run, data_hash="c" * 64) for run in runs[:9]]
    names = [row[0] for row in grid(found([*runs, *again]))[1]]
    assert names[0] == "minilm data_hash=aaaaaaaa task.label=stars"
    assert len(names) == 3


def test_an_undefined_d90_says_why():
    both = found(study({100: 0.5, 400: 0.5}, 0.51, chance=0.684))
    assert grid(both)[1] == [["minilm", "0.510", "—", "—"]]
    [reason] = [line for line in footnotes(both) if line.startswith("—")]  # the same by both definitions
    assert reason.startswith("— minilm sst2 DID: full fine-tuning (0.51) is not")


# At d=100, lr 0.2 wins on validation (0.64 against 0.60), lr 0.1 on the held-out rows; at 400, 0.1 on both.
TUNED = [
    result(d, score, lr=lr, seed=seed, holdout=holdout)
    for d, lr, score, holdout in (
        (100, 0.1, 0.60, 0.7), (100, 0.2, 0.64, 0.6), (400, 0.1, 0.84, 0.8), (400, 0.2, 0.70, 0.7),
        (None, 0.1, 0.80, 0.8),
    )
    for seed in range(3)
]  # fmt: skip


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


def test_the_papers_numbers_stand_below_the_same_model():
    runs = PLAIN + study({100: 0.60, 400: 0.84}, 0.80, model="bert-base-uncased", task="mrpc", kind="said")
    header, rows = grid(found(runs), paper=True)
    by_name = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert [row[0] for row in rows] == [
        "bert-base-uncased", "BERT-Base (paper)", "minilm", "BERT-Large (paper)", "RoBERTa-Base (paper)",
        "RoBERTa-Large (paper)",
    ]  # fmt: skip
    assert by_name["BERT-Base (paper)"]["mrpc SAID"] == "1608"
    assert by_name["RoBERTa-Large (paper)"]["mrpc DID"] == "322"
    assert not any("qqp" in name for name in header)  # nobody ran it
    assert by_name["bert-base-uncased"]["mrpc SAID"].startswith("200 [")
    assert "2012.13255" in text(found(runs), reference="paper")
    flat = json.loads(text(found(runs), "json", "paper"))
    assert {tuple(record) for record in flat} == {KEYS}
    assert [r["d90"] for r in flat if r["model"].endswith("(paper)")] == [
        1608, 1861, 1037, 2493, 896, 1000, 207, 322,
    ]  # fmt: skip


def test_the_paper_says_nothing_of_other_tasks():
    told = text(found(PLAIN), reference="paper")
    assert "BERT" not in told
    assert "2012.13255), Table 1 has none of these tasks." in told
    assert len(json.loads(text(found(PLAIN), "json", "paper"))) == 1


def test_what_can_not_be_shown():
    with pytest.raises(ConfigError, match="--format html is not known; use one of table, md, csv, tex, json"):
        text(found(PLAIN), "html")
    with pytest.raises(ConfigError, match="--reference mine is not known; use one of paper"):
        text(found(PLAIN), reference="mine")
    with pytest.raises(StoreError, match="no finished subspace run here"):
        group([result(None, 0.8)])


def test_summarize_from_a_folder(tmp_path, capsys):
    save(TUNED, tmp_path)
    assert (
        main(
            [
                "summarize",
                str(tmp_path),
                "--threshold",
                "0.8,0.9",
                "--selection",
                "holdout",
                "--format",
                "json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert [(record["threshold"], record["d90"], record["full_score"]) for record in told] == [
        (0.8, 126, 0.8), (0.9, 200, 0.8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threshold", "1.5"], "threshold=1.5 must lie between 0 and 1"),
        (["--selection", "test"], "selection='test' is not known; use one of validation, holdout"),
        (["--selection", "holdout"], "selection=holdout: the run d=100"),
    ],
)
def test_a_bad_option_is_one_line(tmp_path, capsys, words, message):
    save(PLAIN, tmp_path)
    assert main(["summarize", str(tmp_path), *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert told.err.count("\n") == 1


def test_a_threshold_that_is_no_number(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["summarize", str(tmp_path), "--threshold", "0.8,high"])
    assert stop.value.code == 2
    assert "'0.8,high' is not a list of numbers such as 0.8,0.9" in capsys.readouterr().err


HARD = {16: 0.55, 64: 0.62, 256: 0.70, 1024: 0.76, 4096: 0.79}


def spread(scores, full, **options):
    """Three seeds a point apart."""
    each = [(d, s) for d, s in [*scores.items(), (None, full)]]
    return [
        result(d, s + 0.01 * (seed - 1), seed=seed, n_eval=872, **options)
        for d, s in each
        for seed in range(3)
    ]


def test_what_happened_to_runs_is_said_under_the_table():
    runs = spread(HARD, 0.80)
    fell = [scored(r, 0.5) if r.spec.d is None and r.spec.seed == 2 else r
            for r in runs]  # fmt: skip
    shown = text(found(fell))
    assert "0 of 15 subspace runs and 1 of 3 of full fine-tuning collapsed to chance" in shown
    shown = text(found(spread({**HARD, 20_000: 0.60}, 0.80)))
    assert "falls from d=20000 on" in shown
    assert "a rate too high? Try lr=" in shown
    # Where there is no d90 the fall of the curve is nobody's.
    shown = text(found(spread({**HARD, 20_000: 0.60}, 0.55)))
    assert "not clearly above chance" in shown
    assert "falls from" not in shown


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
    assert [spec.d for spec in store.survey().diverged] == [77]


def test_the_gain_stands_beside_the_share_of_the_score():
    runs = [*study({100: 0.72, 1000: 0.79, 10000: 0.80}, 0.80), result(0, 0.70)]
    found = estimates(group(runs))
    header, [row] = grid(found)
    # 0.9 of 0.80 is 0.72; from 0.70 it is 0.79, and from chance 0.77.
    at = dict(zip(header, row, strict=True))
    assert at["sst2 DID"].startswith(("100", "≤ 100"))
    assert at["sst2 DID gain"].startswith("1000")
    [record] = records(found)
    assert (record["untrained_score"], record["status_gain"], record["d90_gain"]) == (0.70, "estimated", 1000)
    assert (record["definition"], record["target_gain"]) == ("score", pytest.approx(0.79))
    notes = "\n".join(footnotes(found))
    assert "gain: the d at which the score has gone 90 % of the way from the model before training" in notes
    [record] = records(estimates(group(runs[:-1])))
    assert (record["untrained_score"], record["d90_gain"], record["status_gain"]) == (None, None, "undefined")


def test_a_gain_that_is_none_says_so():
    runs = [*study({100: 0.84, 1000: 0.85, 10000: 0.852}, 0.85), result(0, 0.85)]
    found = estimates(group(runs))
    header, [row] = grid(found)
    assert dict(zip(header, row, strict=True))["sst2 DID gain"] == "—"
    assert any(
        "gain" in line and "not clearly above the model before training" in line for line in footnotes(found)
    )


def test_the_d90_of_a_loss_is_that_of_its_gain():
    options = {"chance": 6.0, "n_eval": 100}
    runs = [*study({100: 3.5, 1000: 3.1, 10000: 3.0}, 3.0, **options), result(0, 4.0, **options)]
    losses = [scored(run, run.score, "loss", higher_is_better=False) for run in runs]
    found = estimates(group(losses))
    [(_, value)] = found
    assert (value.definition, value.d_t, value.target) == ("gain", 1000, pytest.approx(3.1))
    header, _ = grid(found)
    assert header == ["model", "sst2 full loss", "sst2 DID chance", "sst2 DID gain"]
    assert "way from the model before training to full fine-tuning's" in answer(found).tables[0].title
    [record] = records(found)
    assert (record["definition"], record["d90"], record["status_score"]) == ("gain", 1000, "undefined")
    assert record["d90_gain"] == 1000
    [(_, alone)] = estimates(group(losses[:-1]))
    assert (alone.definition, alone.target) == ("chance", pytest.approx(3.3))
    text = render(answer(found), "md")
    assert "DID gain" in text


def test_a_loss_is_no_score_to_reach_a_share_of():
    losses = [replace(run, higher_is_better=False) for run in study({100: 5.0, 1000: 2.1}, 2.0)]
    [(_, value)] = estimates(group(losses))
    assert value.status == "undefined"
    assert "lower is better" in value.reason


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


def pruned_study():
    """d = 300 was above and only its highest rate had begun, which diverged; full fine-tuning 0.9."""
    finished = study({10: 0.6, 30: 0.7, 100: 0.88}, 0.9)
    at = result(300, 0.5, lr=1.0).spec
    [curve] = group(finished, [at], [(result(300, 0.5).spec, "above")])
    return curve


def test_a_size_that_pruning_takes_out_leaves_no_diverged_run_behind():
    curve = pruned_study()
    assert (curve.pruned, curve.diverged) == (1, ())
    assert curve.estimate().falls_at is None
    assert [level.d for level in curve.estimate().curve] == [10, 30, 100]


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


def test_a_folder_whose_runs_all_belong_to_pruned_ones_says_so():
    with pytest.raises(StoreError, match=r"others were pruned; sweep without search\.prune"):
        group(study({10: 0.6}, 0.9), [], [(result(10, 0.5, seed=7).spec, "behind")])
