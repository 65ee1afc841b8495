"""Bounds of real runs: the decoded model's errors, counted again by other means, and what the report says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from intrinsic_cli.bounds import theory
from intrinsic_cli.bounds.description import decode, describe
from intrinsic_cli.bounds.measure import bounded
from intrinsic_cli.bounds.qat import finetune
from intrinsic_cli.bounds.quantise import quantise
from intrinsic_cli.cli import main as cli
from intrinsic_cli.errors import ConfigError, DataError, StoreError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import attach, load, place
from intrinsic_cli.store import Store
from intrinsic_cli.tasks.batches import collate
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.run import execute


@pytest.fixture(scope="module")
def study(make_spec, tmp_path_factory):
    """Full fine-tuning and subspace runs on 96 easy rows, which they learn."""
    store, loader = Store(tmp_path_factory.mktemp("study")), Loader()
    specs = [make_spec(d=d, max_steps=60, lr=0.3) for d in (20, 60)]
    specs += [make_spec("full", max_steps=40, lr=1e-3), make_spec("said", d=60, max_steps=60, lr=0.3)]
    for spec in specs:
        execute(spec, store, loader)
    return store


@pytest.fixture(scope="module")
def rows(study):
    return bounded(study.results(), levels=(2, 8), screen=50)


def test_the_decoded_model_makes_the_errors_that_are_counted(study, rows, make_spec):
    inputs = Loader()(make_spec())
    for row in rows:
        known = FineTune.of_run(study.run(row.spec))
        described = describe(known, row.levels)
        assert described == row.description
        model, _ = load(decode(described.messages, known))
        wrong = []
        for rows_of in (inputs.train, inputs.validation):
            wrong.append(0)
            for i in range(len(rows_of)):  # one row at a time, without padding, in plain float32
                ids = torch.from_numpy(rows_of.ids[rows_of.starts[i] : rows_of.starts[i + 1]]).long()[None]
                with torch.no_grad():
                    wrong[-1] += int(model(input_ids=ids).logits.argmax()) != rows_of.labels[i]
        assert [row.errors, row.errors_eval] == wrong
        assert (row.n, row.n_eval) == (96, 40)
        assert row.best.kind == "binomial"
        assert row.majority_error == 0.5
        bits = described.total + 0.0
        assert row.bounds == theory.bounds(wrong[0], 96, bits, 0.5)


def test_something_was_learned_and_k_was_chosen_by_its_bound(rows):
    assert min(row.errors for row in rows) < 48
    for row in rows:
        assert set(row.screened) == {2, 8}
        assert row.screened[row.levels] == min(row.screened.values())


def test_several_settings_on_the_same_rows_are_paid_for(study, make_spec, rows, tmp_path):
    store = Store(tmp_path)
    execute(make_spec(d=20, num_hidden_layers=1, max_steps=2), store, Loader())
    both = bounded(study.results() + store.results(), levels=(2,))
    assert {round(sum(row.search.values()), 9) for row in both} == {1.0}
    assert all(row.best.bits == row.description.total + 1 for row in both)
    assert {sum(row.search.values()) for row in rows} == {0.0}


def test_unknown_options_and_folders_without_runs(study, tmp_path):
    with pytest.raises(ConfigError, match="levels"):
        bounded(study.results(), levels=())
    with pytest.raises(StoreError, match="no finished subspace run"):
        bounded([], levels=(2,))


def test_changed_data_are_noticed(study):
    results = [replace(r, data_hash="0" * 64) for r in study.results()]
    with pytest.raises(DataError, match="have changed"):
        bounded(results, levels=(2,))


def test_training_at_the_levels_beats_rounding_to_them(study, make_spec):
    spec = make_spec(d=60, max_steps=60, lr=0.3)
    inputs, found = Loader()(spec), FineTune.of_run(study.run(spec))
    model = inputs.fresh_model(found.seed)
    space = attach(found, model, inputs.head)

    def loss(some):
        place(space, decode(describe(some, 2).messages, some).tensors)
        model.eval()
        with torch.no_grad():
            return model(**collate(inputs.train, range(96))).loss.item()

    tuned = finetune(found, spec, model, space, inputs.train, 2, 30)
    theta = tuned.tensors["theta"]
    assert len(theta.unique()) <= 2
    assert torch.equal(theta, theta.half().float())
    symbols, codebook = quantise(found.tensors["theta"].numpy(), 2)
    assert not set(theta.tolist()) & set(codebook.tolist())  # levels were learned,
    assert (np.asarray(theta > theta.mean()) != symbols).any()  # and weights changed theirs
    assert loss(tuned) < loss(found)
    assert all(p.grad is None for p in space.parameters())
    again = finetune(found, spec, model, space, inputs.train, 2, 30)
    assert torch.equal(again.tensors["theta"], theta)
    space.close()


def test_the_command(study, capsys):
    assert cli.main(["bound", str(study.root), "--levels", "2", "--screen", "0", "--qat-steps", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") > 20
    assert captured.err.count("true error at most") == 3
    assert cli.main(["bound", str(study.root), "--levels", "2", "--delta", "2"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("idim: delta=2.0")


def test_the_bound_does_not_depend_on_the_run_that_was_loaded_before(study, rows):
    last = [r for r in study.results() if r.run_id == rows[-1].run_id]
    (alone,) = bounded(last, levels=(2, 8), screen=50)
    assert alone.errors == rows[-1].errors
    assert replace(alone, d90=None) == replace(rows[-1], d90=None)
