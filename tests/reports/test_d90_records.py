"""What scripts read of a d90."""

from __future__ import annotations

import csv
import io
import json

from support.curves import PLAIN, found, losses, text
from support.made_runs import study

from intrinsic_cli.render import render
from intrinsic_cli.reports.notes import footnotes
from intrinsic_cli.reports.records import KEYS, records
from intrinsic_cli.reports.tables import answer

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
