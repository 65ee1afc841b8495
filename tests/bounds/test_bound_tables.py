"""The tables and records of bounds, against numbers set and worked out by hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from support.made_runs import result

from intrinsic_cli.bounds.bounded import Bounded, Gaussian, Sample
from intrinsic_cli.bounds.description import Description
from intrinsic_cli.bounds.tables import answer
from intrinsic_cli.bounds.theory import Bound
from intrinsic_cli.errors import ConfigError
from intrinsic_cli.render import render


def bounded(d: int, *, errors: int, errors_eval: int, risk: float, d90: int | None = None, **search: float):
    """100 training and 10 validation rows, half of them of each class; 400 bits and what the search adds."""
    bits = 400 + sum(search.values())
    kinds = {"binomial": risk, "catoni": risk + 0.01}
    return Bounded(
        run_id=f"run-{d}",
        spec=result(d, 0.7, model="a|b").spec,
        levels=4,
        description=Description(b"", {"choices": 24, "symbols": 376}),
        search=search,
        runs=3,
        train=Sample(100, errors, risk),
        validation=Sample(10, errors_eval, risk + 0.02),
        others=None,
        majority_error=0.5,
        bounds=tuple(Bound(r, kind, bits, 100, 0.05, 0.5) for kind, r in kinds.items()),
        gaussian=None,
        screened={2: 0.4, 4: risk},
        seen=("no", "a book"),
        d90=d90,
    )


# Accuracies 0.8 and 0.7: the gap is 0.1 / 0.3. Then 0.4 and 0.9: -0.5 / 0.1. Then a perfect validation: none.
ROWS = [
    bounded(25, errors=20, errors_eval=3, risk=0.31, d90=1861, models=1.0),
    bounded(4, errors=60, errors_eval=1, risk=0.7, models=1.0),
    bounded(1, errors=10, errors_eval=0, risk=0.5),
]


def test_records():
    first, second, third = json.loads(render(answer(ROWS), "json"))
    assert first == {
        "run_id": "run-25", "model": "a|b", "task": "sst2", "subspace": "did", "d": 25, "seed": 0, "K": 4,
        "n": 100, "errors": 20, "train_error": 0.2, "validation_error": 0.3, "majority_error": 0.5, "bits": 401.0,
        "bits_choices": 24, "bits_symbols": 376, "bits_search": 1.0, "delta": 0.05,
        "binomial": 0.31, "catoni": 0.32, "vacuous": False, "valid": True, "base_model_saw_task": "no",
        "yardstick": 0.33, "train_groups": None, "train_grouped": None, "train_repeats": 0,
        "validation_groups": None, "validation_grouped": None, "validation_repeats": 0,
        "other_rows": None, "other_rows_error": None,
        "prior_from_training_rows": None, "gaussian_D": None, "gaussian_bits": None, "gaussian_errors": None,
        "gaussian": None, "relative_gap": pytest.approx(1 / 3), "d90": 1861,
        "trend": 0.5, "screened": '{"2": 0.4, "4": 0.31}',
    }  # fmt: skip
    assert (second["relative_gap"], second["vacuous"], second["trend"]) == (-5.0, True, 0.2)
    assert (third["relative_gap"], third["vacuous"], third["d90"]) == (None, True, None)
    rows = list(csv.DictReader(io.StringIO(render(answer(ROWS), "csv"))))
    assert [(row["binomial"], row["trend"], row["relative_gap"], row["d90"]) for row in rows] == [
        ("0.31", "0.5", "0.3333333333", "1861"), ("0.7", "0.2", "-5.0", ""), ("0.5", "0.1", "", ""),
    ]  # fmt: skip


CELLS = [
    ["a|b", "sst2", "DID", "25", "4", "401", "0.2000", "0.3100", "0.5000", "", "0.3000", "0.3300", "no",
     "+0.333", "1,861", "0.500"],
    ["a|b", "sst2", "DID", "4", "4", "401", "0.6000", "0.7000", "0.5000", "vacuous", "0.1000", "0.7200", "no",
     "-5.000", "—", "0.200"],
    ["a|b", "sst2", "DID", "1", "4", "400", "0.1000", "0.5000", "0.5000", "vacuous", "0.0000", "0.5200", "no",
     "—", "—", "0.100"],
]  # fmt: skip


def test_tables():
    main, others, bits = answer(ROWS).tables
    assert main.rows == CELLS
    assert main.header[main.keys :][:3] == ("bits", "train error", "bound")
    assert (others.header, others.rows[0]) == (
        ["d", "K", "binomial", "catoni"],
        ["25", "4", "0.3100", "0.3200"],
    )
    assert bits.header == ["d", "K", "choices", "symbols", "search", "total"]
    assert [row[-2:] for row in bits.rows] == [["1", "401"], ["1", "401"], ["0", "400"]]


def test_a_run_that_ended_by_validation_rows_has_no_yardstick():
    spec = replace(ROWS[0].spec, train=replace(ROWS[0].spec.train, evals=5, patience=2))
    one = replace(
        ROWS[0], spec=spec, validation=replace(ROWS[0].validation, grouped=0.9, groups=3, effective=2.0)
    )
    assert answer([one]).tables[0].rows[0][10:12] == ["0.3000", "—"]
    assert json.loads(render(answer([one]), "json"))[0]["yardstick"] is None
    assert "Rows in groups" not in render(answer([one]))


def test_what_speaks_against_the_rows_is_said():
    assert not any(
        line.startswith(("Repeated rows", "Rows seen", "Permuted labels")) for line in answer(ROWS).notes
    )
    spec = replace(ROWS[0].spec, data=replace(ROWS[0].spec.data, permute_labels=1))
    doubtful = replace(
        ROWS[0], spec=spec, train=Sample(100, 20, 0.31, repeats=12), validation=Sample(10, 3, 0.33, trained=4)
    )
    notes = "\n".join(answer([doubtful, ROWS[1]]).notes)
    assert "12 of 100 training rows have the text of an earlier one" in notes
    assert "4 of 10 validation rows have the text of a training row" in notes
    assert "Permuted labels" in notes


@pytest.mark.parametrize("form", ["table", "md", "tex"])
def test_people_read_the_same_numbers_in_every_format(form):
    told = render(answer(ROWS), form)
    for number in ("0.3100", "0.3200", "+0.333", "1,861", "vacuous"):
        assert number in told
    assert "2 of models (1.00 bits)" in told
    assert "independent" in told
    assert "union bound" in told.lower()


def test_tables_that_only_some_runs_fill():
    full = replace(
        ROWS[0], others=Sample(40, 10, 0.4), gaussian=Gaussian(0.5, 210.4, 25, 0.29),
        train=Sample(100, 20, 0.31, grouped=0.45, groups=12, effective=60.6),
    )  # fmt: skip
    _, others, grouped, drawn, *_ = answer([full, ROWS[1]]).tables
    assert others.rows == [["25", "4", "40", "0.2500", "3", "0.4000"]]
    assert grouped.rows == [["25", "4", "training", "100", "12", "61", "0.2000", "0.4500"]]
    assert drawn.rows == [["25", "4", "0.5", "210", "0.2500", "0.2900"]]
    record = answer([full]).records[0]
    assert (record["train_grouped"], record["train_groups"], record["gaussian"]) == (0.45, 12, 0.29)
    assert (record["prior_from_training_rows"], record["other_rows"]) == (0.4, 40)


def test_a_base_model_that_saw_the_task_has_no_valid_bound():
    saw, unsure = (replace(ROWS[0], seen=(said, "somewhere")) for said in ("yes", "unknown"))
    assert (answer([saw]).tables[0].rows[0][9], answer([unsure]).tables[0].rows[0][9]) == ("invalid", "")
    assert any("somewhere. So its bounds are invalid." in line for line in answer([saw]).notes)
    assert any("bounds hold if it was not" in line for line in answer([unsure]).notes)
    assert (answer([saw]).records[0]["valid"], answer([unsure]).records[0]["valid"]) == (False, True)


def test_wide_tables_name_the_run_in_every_part():
    told = render(answer(ROWS), width=80)
    assert max(map(len, told.splitlines())) <= 80
    assert told.count("a|b      sst2    DID") == 3 * 3


def test_an_unknown_format():
    with pytest.raises(ConfigError, match="format"):
        render(answer(ROWS), "html")
