"""Pairs of curves and their differences, against hand arithmetic on records made by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from support.made_runs import result, save, scored, study

from intrinsic_cli.cli.main import main
from intrinsic_cli.errors import ConfigError, StoreError
from intrinsic_cli.reports.curves import group
from intrinsic_cli.reports.differences import Compared, Selector, _at_least, answer, pairs

# 90 % of 0.80 lies halfway between 0.60 and 0.84, so at d = 200 (DID) and d = 50 (SAID).
DID, SAID = {100: 0.60, 400: 0.84}, {25: 0.60, 100: 0.84}


def runs(**options):
    did = study(DID, 0.80, **options)
    return did + [r for r in study(SAID, 0.80, kind="said", **options) if r.spec.d]


def named(found):
    return [(a.name, b.name) for a, b in found]


def test_each_curve_meets_the_one_that_is_like_it_in_all_else():
    curves = group(runs() + runs(task="rte") + runs(model="bert-base") + study({9: 0.7}, 0.8, task="mrpc"))
    assert named(pairs(curves, "subspace=said", "subspace=did")) == [
        ("bert-base sst2 SAID", "bert-base sst2 DID"),
        ("minilm rte SAID", "minilm rte DID"),
        ("minilm sst2 SAID", "minilm sst2 DID"),
    ]
    assert named(pairs(curves, "model=BERT-base", "model=minilm")) == [
        ("bert-base sst2 SAID", "minilm sst2 SAID"), ("bert-base sst2 DID", "minilm sst2 DID"),
    ]  # fmt: skip
    assert named(pairs(curves, "task=rte,subspace=did", "task=sst2,subspace=said")) == [
        ("minilm rte DID", "minilm sst2 SAID"),
    ]  # fmt: skip


def test_a_key_of_the_settings_selects_too():
    more = runs(changes={"data": {"max_train": 7}}) + study(
        DID, 0.8, changes={"subspace": {"normalize": "tensor"}}
    )
    curves = group(runs() + more)
    two = pairs(curves, "data.max_train=7,subspace=did", "data.max_train=null,subspace=did")
    assert named(two) == [
        (
            "minilm data.max_train=7 sst2 DID normalize=global",
            f"minilm data.max_train=null sst2 DID normalize={each}",
        )
        for each in ("global", "tensor")
    ]
    assert len(pairs(curves, "normalize=tensor", "normalize=global")) == 1
    words = study(DID, 0.80, changes={"task": {"text": ["title", "body"]}})
    ((a, b),) = pairs(
        group(runs() + words), "task.text=[title,body],subspace=did", "task.text=[sentence],subspace=did"
    )
    assert (a.spec.task.text, b.spec.task.text) == (("title", "body"), ("sentence",))


def test_a_difference_by_hand_with_full_fine_tuning_shared():
    ((a, b),) = pairs(group(runs()), "subspace=said", "subspace=did")
    found = Compared.of(a, b, 0.9).by
    assert found["score"].value == pytest.approx(math.log2(50 / 200))
    # 0.5 + 90 % of 0.3 = 0.77, which lies at 4 ** (0.17 / 0.24) of the first d.
    assert found["chance"].value == pytest.approx(-2)
    assert found["score"].low < -2 < found["score"].high < 0
    assert found["score"].clear
    assert found["score"].shared == ("full fine-tuning",)


def test_rows_are_shared_where_both_say_what_each_row_did(tmp_path):
    import numpy as np

    store = save(runs(n_eval=400) + runs(model="bert-base", n_eval=400), tmp_path)
    for r in store.results():
        labels = np.arange(400) % 2
        right = np.arange(400) < round(400 * r.score)
        store.run(r.spec).keep_outcomes({"validation": {"label": labels, "prediction": labels ^ ~right}})
    results = [replace(r, model_hash=r.spec.model.name) for r in store.results()]
    words = ("model=bert-base,subspace=did", "model=minilm,subspace=did")
    ((a, b),) = pairs(group(results), *words)
    assert Compared.of(a, b, 0.9).by["score"].shared == ("rows",)  # two models have no run in common
    others = [replace(r, data_hash="2" * 64) if r.spec.model.name == "minilm" else r for r in results]
    with pytest.raises(StoreError, match="no two curves differ in model=bert-base,subspace=did and"):
        pairs(group(others), *words)


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ("said", "'said' is no key=value"),
        ("subspace=", "'subspace=' is no key=value"),
        ("subspac=said", "subspac is not a key of these runs; did you mean subspace"),
        ("seed=0", "seed does not tell two curves apart"),
        ("d=20", "d does not tell two curves apart"),
        ("lr=0.1", "lr does not tell two curves apart"),
    ],
)
def test_a_bad_selector_is_refused(one, message):
    with pytest.raises(ConfigError, match=message):
        pairs(group(runs()), one, "subspace=did")
    assert Selector.parse("a=b,c.d=[e,f]").wanted == (("a", "b"), ("c.d", "[e,f]"))


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1.008, "1.00"), (1.999, "1.99"), (9.999, "9.99"), (10, "10"), (16.9, "16"), (64, "64"), (129.9, "120"),
        (4096, "4000"),
    ],
)  # fmt: skip
def test_at_least_so_much_is_never_rounded_up(factor, said):
    assert _at_least(factor) == said
    assert float(said) <= factor


def test_compare_a_pair_over_a_folder(tmp_path, capsys):
    save(runs(), tmp_path)
    words = ["compare", str(tmp_path), "--pair", "subspace=said", "subspace=did"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "-2.00 [-" in shown
    assert "minilm sst2 SAID needs fewer numbers than minilm sst2 DID, by a factor of at least" in shown
    assert "(noise of full fine-tuning is shared)" in shown
    assert main([*words, "--format", "json"]) == 0
    score, chance = json.loads(capsys.readouterr().out)
    assert (score["a"], score["b"]) == ("minilm sst2 SAID", "minilm sst2 DID")
    assert (score["d90_a"], score["d90_b"], score["log2_ratio"]) == (50, 200, -2)
    assert (score["definition"], chance["definition"]) == ("score", "chance")
    assert score["clear"]
    assert main([*words[:3], "subspace=did", "subspace=full"]) == 2
    assert "no two curves differ in subspace=did and subspace=full alone" in capsys.readouterr().err
    assert main([*words, "--figures", str(tmp_path / "f")]) == 2
    assert "--figures draws trends" in capsys.readouterr().err
    for axis in ("gap", "parameters"):
        assert main([*words, "--against", axis]) == 2
        told = (
            f"idim: --against {axis} asks for trends; with --pair there is none, so leave one of both out\n"
        )
        assert capsys.readouterr() == ("", told)


def test_no_difference_is_called_where_there_is_none(tmp_path, capsys):
    save(
        study(DID, 0.8, n_eval=872) + [r for r in study(DID, 0.8, kind="said", n_eval=872) if r.spec.d],
        tmp_path,
    )
    assert main(["compare", str(tmp_path), "--pair", "subspace=said", "subspace=did"]) == 0
    assert "minilm sst2 SAID against minilm sst2 DID: no difference is clear" in capsys.readouterr().out


def test_a_pair_of_losses_is_compared_by_the_gain():
    options = {"chance": 6.0}
    told = [
        *study({100: 3.5, 400: 3.09, 1600: 3.0}, 3.0, kind="did", **options),
        *study({25: 3.5, 100: 3.09, 400: 3.0}, 3.0, kind="said", **options)[:9],
        result(0, 4.0, **options),
    ]
    losses = [scored(run, run.score, "loss", higher_is_better=False) for run in told]
    said, did = sorted(group(losses), key=lambda curve: curve.kind, reverse=True)
    found = Compared.of(said, did, 0.9)
    assert list(found.by) == ["chance", "gain"]
    answered = answer([found])
    assert any(
        "minilm sst2 SAID needs fewer numbers" in note and "by gain" in note for note in answered.notes
    )
    assert {record["definition"] for record in answered.records} == {"chance", "gain"}
