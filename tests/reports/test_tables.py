"""Tables of d90, against records made by hand."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace

import pytest
from support.curves import PLAIN, TUNED, found, text
from support.made_runs import result, save, scored, study

from intrinsic_cli.cli.main import main
from intrinsic_cli.errors import ConfigError, StoreError
from intrinsic_cli.render import render
from intrinsic_cli.reports.curves import estimates, group
from intrinsic_cli.reports.notes import footnotes
from intrinsic_cli.reports.records import KEYS, records
from intrinsic_cli.reports.tables import answer, grid


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


def test_full_fine_tuning_has_the_score_that_each_curve_is_held_against():
    runs = study({100: 0.6, 400: 0.84}, 0.8) + study({100: 0.6, 400: 0.84}, 0.8, kind="said")
    (did, one), (said, other) = sorted(found(runs), key=lambda pair: pair[0].kind)
    assert grid([(did, one), (said, other)])[1][0][1] == "0.800"
    for pairs in (
        [(did, one), (said, replace(other, full_score=None))],
        [(said, replace(other, full_score=None)), (did, one)],
    ):
        assert grid(pairs)[1][0][1] == "0.800"
    left_out = grid([(did, one), (said, replace(other, full_score=0.7))])
    assert left_out[1][0][1] == "0.800 (DID), 0.700 (SAID)"
    nothing = grid([(did, replace(one, full_score=None)), (said, replace(other, full_score=None))])
    assert nothing[1][0][1] == "—"


def test_one_definition_may_have_a_number_where_the_other_has_none():
    # 90 % of 0.74 lies under a chance of 0.684, and 0.684 + 90 % of 0.056 = 0.7344 does not.
    some = found(study({100: 0.69, 400: 0.74}, 0.74, chance=0.684))
    ((_, score, own, other),) = grid(some)[1]
    assert (score, own) == ("0.740", "—")
    assert other.startswith(f"{math.ceil(100 * 4 ** (0.0444 / 0.05))} [")
    assert "— minilm sst2 DID: the target (0.666) is not clearly above chance (0.684)." in footnotes(some)


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
