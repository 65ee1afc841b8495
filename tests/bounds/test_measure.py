"""Bounds of real runs: the decoded model's errors, counted again by other means, and what the report says."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from scipy.stats import beta
from support.rows import sentences, write_jsonl

from intrinsic_cli.bounds import gaussian, groups, measure, theory
from intrinsic_cli.bounds.bounded import Options
from intrinsic_cli.bounds.coder import delta
from intrinsic_cli.bounds.description import choices, decode, describe
from intrinsic_cli.bounds.measure import setting_of
from intrinsic_cli.bounds.qat import finetune
from intrinsic_cli.bounds.quantise import quantise
from intrinsic_cli.bounds.tables import answer
from intrinsic_cli.cli import main as cli
from intrinsic_cli.errors import ConfigError, DataError, StoreError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import load, rebuilt
from intrinsic_cli.render import render
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import stream_seed
from intrinsic_cli.store import Store
from intrinsic_cli.tasks.batches import collate
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.run import execute


def bounded(*arguments, **options):
    return list(measure.bounded(*arguments, **options))


SMALL = Options(levels=(2, 8), screen=50)
TWO = Options(levels=(2,))


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
    return bounded(study.results(), SMALL)


def wrong(model, encoded):
    """Rows on which the model errs: one at a time, without padding, in plain float32."""
    count = 0
    for i in range(len(encoded)):
        ids = torch.from_numpy(encoded.ids[encoded.starts[i] : encoded.starts[i + 1]]).long()[None]
        with torch.no_grad():
            count += int(model(input_ids=ids).logits.argmax()) != encoded.labels[i]
    return count


@pytest.mark.long
def test_the_decoded_model_makes_the_errors_that_are_counted(study, rows, make_spec):
    inputs = Loader()(make_spec())
    for row in rows:
        known = FineTune.of_run(study.run(row.spec))
        described = row.description
        assert described in [describe(known, row.levels, mirrored=mirrored) for mirrored in (True, False)]
        model, _ = load(decode(described.message, setting_of(row.spec, inputs)))
        errors = wrong(model, inputs.train)
        assert (row.train.errors, row.train.n) == (errors, 96)
        assert (row.validation.errors, row.validation.n) == (wrong(model, inputs.validation), 40)
        assert row.majority_error == 0.5
        assert row.bounds == theory.bounds(errors, 96, described.total + 0.0, 0.5)
        assert row.train.risk == row.best.risk


@pytest.mark.long
def test_a_decoder_needs_no_more_than_the_message(make_spec, tmp_path):
    """The run's folder is gone when the model is rebuilt: P's kind, version and seed are in the message."""
    spec = make_spec("said", d=200, seed=7, max_steps=60, lr=0.3, groups="module", head="trained")
    spec = replace(spec, projection=replace(spec.projection, kind="sorf", seed=11))
    store = Store(tmp_path / "runs")
    execute(spec, store, Loader())
    (row,) = bounded(store.results(), Options(levels=(16,)))
    message = row.description.message
    shutil.rmtree(tmp_path / "runs")
    stranger = make_spec("full", lr=0.5, seed=99)  # knows the base model and the task, and nothing else
    inputs = Loader()(stranger)
    found = decode(message, setting_of(stranger, inputs))
    assert (found.projection.kind, found.seed, found.subspace.kind) == ("sorf", 11, "said")
    with rebuilt(found, inputs) as (model, _):
        assert wrong(model.eval(), inputs.train) == row.train.errors
        assert wrong(model.eval(), inputs.validation) == row.validation.errors
    assert row.train.errors < 40  # something was learned, so a forgetful decoder would be noticed
    with rebuilt(replace(found, projection=replace(found.projection, seed=0)), inputs) as (model, _):
        assert wrong(model.eval(), inputs.train) != row.train.errors


def test_something_was_learned_and_k_was_chosen_by_its_bound(rows):
    assert min(row.train.errors for row in rows) < 48
    for row in rows:
        assert set(row.screened) == {2, 8}
        assert row.screened[row.levels] == min(row.screened.values())


def test_gap_vacuity_and_yardstick_by_hand(rows):
    for row in rows:
        train, validation = 1 - row.train.errors / 96, 1 - row.validation.errors / 40
        if validation == 1:
            assert row.gap is None
        else:
            assert row.gap == pytest.approx((train - validation) / (1 - validation))
        assert row.best.vacuous == (row.best.risk >= 0.5)
        assert row.best.kind == "binomial"
        k = row.validation.errors  # Clopper and Pearson's upper limit is a quantile of a beta distribution
        assert row.validation.risk == pytest.approx(beta.ppf(0.95, k + 1, 40 - k), rel=1e-9)
        assert row.seen[0] == "no"
        assert row.valid


@pytest.mark.long
def test_several_settings_on_the_same_rows_are_paid_for(study, make_spec, rows, tmp_path):
    """Two base models on the same training rows, even where other rows validate."""
    for name, options in (("same", {}), ("fewer", {"max_eval": 20})):
        store = Store(tmp_path / name)
        execute(make_spec(d=20, num_hidden_layers=1, max_steps=2, **options), store, Loader())
        both = bounded(study.results() + store.results(), TWO)
        assert {round(sum(row.search.values()), 9) for row in both} == {1.0}
        assert all(row.best.bits == row.description.total + 1 for row in both)
        assert {row.runs for row in both} == {4}
    assert {sum(row.search.values()) for row in rows} == {0.0}


@pytest.mark.long
def test_the_same_rows_in_another_file_are_the_same_rows(study, make_spec, tmp_path):
    """Copied in another order, with other validation rows; and other training rows of the same file."""
    for name in ("copy", "new"):
        (tmp_path / name).mkdir()
    write_jsonl(tmp_path / "copy/train.jsonl", sentences(96)[::-1])
    write_jsonl(tmp_path / "copy/validation.jsonl", sentences(40, offset=500))
    other = Store(tmp_path / "other")
    execute(make_spec(d=20, num_hidden_layers=1, max_steps=2, path=tmp_path / "copy"), other, Loader())
    assert {sum(r.search.values()) for r in bounded(study.results() + other.results(), TWO)} == {1.0}
    part = Store(tmp_path / "part")
    execute(make_spec(d=20, max_steps=2, max_train=48), part, Loader())
    assert {sum(r.search.values()) for r in bounded(study.results() + part.results(), TWO)} == {1.0}
    strangers = Store(tmp_path / "strangers")
    write_jsonl(tmp_path / "new/train.jsonl", sentences(96, offset=5000))
    write_jsonl(tmp_path / "new/validation.jsonl", sentences(40))
    execute(make_spec(d=20, num_hidden_layers=1, max_steps=2, path=tmp_path / "new"), strangers, Loader())
    assert {sum(r.search.values()) for r in bounded(study.results() + strangers.results(), TWO)} == {0.0}


def test_other_settings_of_the_same_weights_and_rows_are_paid_for(study):
    """Another tokenizer or config, and other labels, are what a decoder has beforehand."""
    one, two, *_ = (result for result in study.results() if not result.spec.is_full)
    task = replace(two.spec.task, labels=("loud", "calm"))
    others = [replace(two, settings_hash="0" * 64), replace(two, spec=replace(two.spec, task=task))]
    settings = {measure._Candidate(run, "rows").setting for run in (one, two, *others)}
    assert len(settings) == 3
    asked = replace(two.spec.task, kind="choice")  # by the same weights, which then answer in words
    settings |= {measure._Candidate(replace(two, spec=replace(two.spec, task=asked)), "rows").setting}
    assert len(settings) == 4


def test_rows_of_one_text_are_named_and_can_be_groups(make_spec, tmp_path):
    """Twelve rows, each eight times: as much as twelve."""
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data/train.jsonl", sentences(12) * 8)
    write_jsonl(tmp_path / "data/validation.jsonl", sentences(40))
    store = Store(tmp_path / "runs")
    execute(make_spec(d=20, max_steps=2, path=tmp_path / "data"), store, Loader())
    (row,) = bounded(store.results(), replace(TWO, groups="texts"))
    assert (row.train.repeats, row.train.groups, row.train.effective) == (84, 12, 12)
    assert (row.validation.repeats, row.validation.trained) == (0, 12)
    nats = row.best.bits * math.log(2) + math.log(20)
    assert row.train.grouped == groups.inverse(row.train.errors, 96, [8] * 12, nats)
    assert "84 of 96 training rows" in render(answer([row]))


def test_what_is_not_bounded_is_named(study, make_spec):
    [did] = (run for run in study.results() if run.spec.d == 20)
    scored = replace(
        did, run_id="scored", spec=replace(did.spec, task=replace(did.spec.task, kind="regression"))
    )
    said = []
    assert len(bounded([did, scored], TWO, say=said.append)) == 1
    assert said[0].startswith("scored: no bound: a task of regression has no classes")


@pytest.mark.long
def test_rows_held_out_give_a_prior_that_training_rows_may_choose(make_spec, tmp_path):
    store = Store(tmp_path)
    for d in (20, 60):
        execute(make_spec(d=d, max_steps=60, lr=0.3, holdout=48), store, Loader())
    inputs = Loader()(make_spec(holdout=48))
    for row in bounded(store.results(), replace(SMALL, groups="phrases")):
        with rebuilt(decode(row.description.message, setting_of(row.spec, inputs)), inputs) as (model, _):
            errors = wrong(model.eval(), inputs.holdout)
        assert (row.others.n, row.others.errors, row.runs) == (48, errors, 2)
        # One of two runs: δ/2 each.
        assert row.others.risk == pytest.approx(theory.binomial_inverse(errors, 48, math.log(2 / 0.05)))
        assert row.others.grouped is None
        assert f"{row.others.risk:.4f}" in render(answer([row]))


def test_phrases_of_one_sentence_count_as_one_group(make_spec, tmp_path):
    """Twelve sentences with seven phrases each weigh far less than 96 rows."""
    rows = sentences(12)
    phrases = [
        {"text": " ".join(row["text"].split()[i:j]), "label": row["label"]}
        for row in rows
        for i, j in ((0, 4), (0, 3), (0, 2), (1, 4), (2, 4), (3, 4), (1, 3), (2, 3))
    ]
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data/train.jsonl", phrases)
    write_jsonl(tmp_path / "data/validation.jsonl", sentences(40, offset=500))
    store = Store(tmp_path / "runs")
    execute(make_spec(d=20, max_steps=40, lr=0.3, path=tmp_path / "data"), store, Loader())
    plain, grouped = (bounded(store.results(), replace(TWO, groups=each))[0] for each in ("none", "phrases"))
    sample = grouped.train
    assert (sample.n, sample.groups) == (96, 12)
    rooms = groups.phrase_groups([phrase["text"] for phrase in phrases])
    assert rooms.sum() > 96  # "a a" may be of many sentences
    assert sample.effective == groups.effective(96, rooms) > 96**2 / (rooms**2).sum()
    nats = grouped.best.bits * math.log(2) + math.log(20)
    assert sample.grouped == groups.inverse(sample.errors, 96, rooms, nats)
    assert sample.grouped > sample.risk == plain.train.risk
    assert plain.train.grouped is None
    assert grouped.validation.groups == 40
    assert f"{sample.grouped:.4f}" in render(answer([grouped]))
    assert "Rows in groups" not in render(answer([plain]))


@pytest.mark.long
def test_a_gaussian_draw_pays_for_where_it_lies(study, rows, make_spec):
    inputs = Loader()(make_spec())
    for row in bounded(study.results(), replace(TWO, noise=(0.2, 0.6))):
        found = FineTune.of_run(study.run(row.spec))
        tensors = {name: tensor.numpy() for name, tensor in found.tensors.items()}
        draw = gaussian.draw(tensors, row.gaussian.noise, stream_seed(row.spec.seed, "bound"))
        moved = {name: torch.from_numpy(tensor) for name, tensor in draw.tensors.items()}
        model, _ = load(replace(found, tensors=moved))
        assert row.gaussian.errors == wrong(model, inputs.train)
        known = len(choices(found)) + sum(len(delta(t.size - 1)) for t in tensors.values()) + math.log2(3)
        assert row.gaussian.bits == pytest.approx(draw.bits + known)
        assert row.gaussian.risk == gaussian.bound(row.gaussian.errors, 96, row.gaussian.bits, 0.05)
        assert f"{row.gaussian.risk:.4f}" in render(answer([row]))
    assert {row.gaussian for row in rows} == {None}


def test_the_report_of_real_runs(rows):
    flat = json.loads(render(answer(rows), "json"))
    assert [r["d"] for r in flat] == [20, 60, 60]
    for r, row in zip(flat, rows, strict=True):
        assert sum(v for k, v in r.items() if k.startswith("bits_")) == r["bits"]
        assert r["binomial"] == pytest.approx(row.best.risk, rel=1e-9)
    for form in ("table", "md"):
        told = render(answer(rows), form)
        for row in rows:
            assert f"{row.best.risk:.4f}" in told
            assert f"{row.validation.risk:.4f}" in told


def test_a_base_model_that_saw_the_task_is_warned_of(make_spec, tmp_path, capsys):
    spec = make_spec(d=20, max_steps=2)
    spec = replace(
        spec, task=replace(spec.task, name="cola"), model=replace(spec.model, name=named(tmp_path))
    )
    store = Store(tmp_path / "runs")
    execute(spec, store, Loader())
    assert cli.main(["bound", str(store.root), "--levels", "2"]) == 0
    captured = capsys.readouterr()
    assert "no bound is valid" in captured.err
    assert "invalid" in captured.out.split("Other bounds")[0]


def named(folder):
    """The tiny model under a name that is known for its training."""
    from intrinsic_cli.models import pretrained
    from intrinsic_cli.spec import ModelSpec

    base = pretrained.load(ModelSpec("tiny"), 2, ("calm", "loud"), kind="classification")
    base.model.save_pretrained(folder / "t5-small")
    base.tokenizer.save_pretrained(folder / "t5-small")
    return str(folder / "t5-small")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"levels": ()}, "--levels : each"), ({"levels": (2, 0)}, "--levels 2,0: each"),
        ({"levels": (300,)}, "--levels 300: each.*from 1 to 256"), ({"screen": -1}, "--screen -1 can't be"),
        ({"qat_steps": -2}, "--qat-steps -2 can't be"), ({"delta": 0}, "--delta 0 is"),
        ({"noise": (0.5, 1)}, "--gaussian 0.5,1: each"), ({"groups": "words"}, "none, texts, phrases"),
    ],
)  # fmt: skip
def test_options_that_mean_nothing(options, match):
    with pytest.raises(ConfigError, match=match):
        Options(**options)


def test_folders_without_runs():
    with pytest.raises(StoreError, match="no finished subspace run"):
        bounded([], TWO)


def test_changed_data_are_noticed(study):
    results = [replace(r, data_hash="0" * 64) for r in study.results()]
    with pytest.raises(DataError, match="have changed"):
        bounded(results, TWO)
    said = []
    one, two, _ = (result for result in study.results() if not result.spec.is_full)
    mixed = bounded([replace(one, data_hash="0" * 64), two], TWO, say=said.append)
    assert [row.run_id for row in mixed] == [two.run_id]
    assert said[0].startswith(f"{one.run_id}: no bound: the data or the base model")


@pytest.mark.long
def test_training_at_the_levels_beats_rounding_to_them(study, make_spec):
    spec = make_spec(d=60, max_steps=60, lr=0.3)
    inputs, found = Loader()(spec), FineTune.of_run(study.run(spec))
    setting = setting_of(spec, inputs)

    def loss(some):
        with (
            rebuilt(decode(describe(some, 2, mirrored=True).message, setting), inputs) as (model, _),
            torch.no_grad(),
        ):
            return model.eval()(**collate(inputs.train, range(96))).loss.item()

    for levels in (2, 3):
        tuned = finetune(found, spec, inputs, levels, 30)
        theta = tuned.tensors["theta"]
        assert len(theta.unique()) <= levels
        assert torch.equal(theta, theta.half().float())
        assert torch.equal(
            decode(describe(tuned, levels, mirrored=True).message, setting).tensors["theta"], theta
        )
        codebook = quantise(found.tensors["theta"].numpy(), levels, mirrored=True)[1]
        assert not set(theta.tolist()) & set(codebook.tolist())  # levels were learned
        again = finetune(found, spec, inputs, levels, 30)
        assert torch.equal(again.tensors["theta"], theta)
    two = finetune(found, spec, inputs, 2, 30)
    assert two.tensors["theta"].unique().sum() == 0  # −c and c
    assert (two.tensors["theta"].sign() != found.tensors["theta"].sign()).any()  # weights changed theirs
    assert loss(two) < loss(found)


def test_training_at_few_levels_clips_each_step_by_its_own_gradient(make_spec, tmp_path):
    """And not by the sum of all a trained head has had: no step's is as long as 0.5, and the sum soon is."""
    spec = make_spec(d=160, max_steps=6, lr=0.03, head="trained", clip="weights")
    store = Store(tmp_path)
    execute(spec, store, Loader())
    found, inputs = FineTune.of_run(store.run(spec)), Loader()(spec)
    once, never = (
        finetune(found, replace(spec, train=replace(spec.train, max_grad_norm=most)), inputs, 4, 30)
        for most in (0.5, 1e9)
    )
    assert torch.equal(once.tensors["theta"], never.tensors["theta"])


def test_the_command(study, capsys):
    words = ["--levels", "2", "--screen", "0", "--qat-steps", "2", "--gaussian", "0.5", "--groups", "phrases"]
    assert cli.main(["bound", str(study.root), *words]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") > 20
    for title in ("Rows in groups", "One draw from a Gaussian posterior"):
        assert title in captured.out
    assert captured.err.count("true error at most") == 3
    for run in study.results():  # the bound of each that has one stays beside it
        found = RunDir(run.directory).bound()
        if run.spec.d is None:
            assert found is None
        else:
            assert f"{run.run_id} K=2: " in captured.err
            assert f"true error at most {found.risk:.4f}" in captured.err
            assert (found.levels, found.delta) == (2, 0.05)
    assert cli.main(["bound", str(study.root), "--levels", "2", "--delta", "2"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("idim: --delta 2.0 is")
    with pytest.raises(SystemExit) as left:
        cli.main(["bound", str(study.root), "--gaussian", "much"])
    assert left.value.code == 2


def test_the_bound_does_not_depend_on_the_run_that_was_loaded_before(study, rows):
    last = [r for r in study.results() if r.run_id == rows[-1].run_id]
    (alone,) = bounded(last, SMALL)
    assert alone.train.errors == rows[-1].train.errors
    assert replace(alone, d90=None, runs=3) == replace(rows[-1], d90=None)
