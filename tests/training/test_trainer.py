"""The training loop on the tiny model and a task that it can learn in a second."""

import gc
import math
import weakref
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from support.rows import write_jsonl
from torch import nn

from intrinsic_cli.errors import RunError
from intrinsic_cli.spec import AdapterSpec, ProjectionSpec
from intrinsic_cli.subspace.attach import Full, Subspace
from intrinsic_cli.training import schedule
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.evaluation import evaluate
from intrinsic_cli.training.inputs import Inputs, Loader, load
from intrinsic_cli.training.patience import Patience
from intrinsic_cli.training.trainer import LOSS_EVERY, Trainer, make_optimizer

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def loader():
    return Loader()


@pytest.fixture
def fit(loader):
    """Train a spec; returns (outcome, history)."""

    def run(spec, inputs=None):
        history = []
        outcome = Trainer(spec, inputs or loader(spec), log=lambda **record: history.append(record)).run()
        return outcome, history

    return run


def without_dropout(spec):
    inputs = load(spec)
    for module in inputs.base.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return inputs


def rebuild(spec, inputs, tensors):
    """A fresh model with the weights that a finished run's θ and λ stand for."""
    model = inputs.fresh_model(spec.seed)
    space = Subspace(model, spec.subspace, spec.d, spec.seed, spec.projection, head=inputs.head)
    with torch.no_grad():
        space.theta.copy_(tensors["theta"])
        if space.lam is not None:
            space.lam.copy_(tensors["lam"])
    space.write()
    return model


# --- learning ---------------------------------------------------------------------------------------------

LEARNS = [
    {"kind": "did", "lr": 0.6},
    {"kind": "said", "lr": 0.6},
    {"kind": "full", "lr": 5e-3},
    {"kind": "did", "lr": 0.6, "precision": "bf16"},
    {"kind": "said", "lr": 0.6, "precision": "pure_bf16", "head": "trained"},
    {"kind": "full", "lr": 5e-3, "precision": "pure_bf16"},
]


@pytest.mark.long
@pytest.mark.parametrize("options", LEARNS, ids=lambda o: "-".join(map(str, o.values())))
def test_the_loss_falls(fit, make_spec, options):
    spec = make_spec(max_steps=60, **options)
    outcome, history = fit(spec)
    losses = [record["loss"] for record in history if "loss" in record]
    assert len(losses) == 60 / LOSS_EVERY
    assert losses[-1] < losses[0] - 0.2
    assert outcome.metrics["accuracy"] > 0.9  # 40 rows, half of each class: chance is 0.5 ± 0.08
    assert outcome.precision == spec.train.precision
    assert all(t.dtype == torch.float32 for t in outcome.tensors.values())


def test_every_step_and_every_batch_of_an_evaluation_is_a_sign_of_life(make_spec, loader):
    spec, beats = make_spec(max_steps=6, evals=2, eval_batch_size=10), []
    Trainer(spec, loader(spec), beat=lambda: beats.append(1)).run()
    assert len(beats) == 6 + 2 * 4  # of 40 validation rows


@pytest.mark.parametrize("kind", ["did", "said"])
def test_what_is_kept_stands_for_the_scores(fit, make_spec, loader, kind):
    spec = make_spec(kind, lr=0.3, max_steps=25)
    outcome, history = fit(spec)
    inputs = loader(spec)
    model = rebuild(spec, inputs, outcome.tensors)
    answers, loss = evaluate(inputs.task, model, inputs.validation, CPU, 7)
    assert loss == pytest.approx(history[-1]["eval_loss"], rel=1e-4)
    assert inputs.task.score(answers) == outcome.metrics
    assert np.array_equal(answers["prediction"], outcome.answers["validation"]["prediction"])
    assert outcome.tensors["theta"].any()
    assert len(outcome.tensors["theta"]) + outcome.m == outcome.d == spec.d


def test_full_fine_tuning_keeps_its_weights_where_asked(fit, make_spec, loader):
    spec = make_spec("full", lr=1e-3)
    assert not fit(spec)[0].tensors
    inputs = loader(spec)
    outcome, _ = fit(replace(spec, train=replace(spec.train, keep_weights=True)))
    start = dict(inputs.fresh_model(spec.seed).named_parameters())
    assert outcome.tensors.keys() == start.keys()
    assert outcome.d == outcome.D == sum(p.numel() for p in start.values())
    assert sum(not torch.equal(p, start[name]) for name, p in outcome.tensors.items()) > 10


def test_runs_share_a_base_model_that_stays_as_it_was(fit, make_spec, loader):
    spec = make_spec("full", lr=1e-2)
    base = loader(spec).base.model
    before = {name: p.detach().clone() for name, p in base.named_parameters()}
    fit(spec)
    fit(make_spec("said"))
    fit(make_spec("did", head="trained"))
    assert loader(spec).base.model is base
    assert all(torch.equal(p, before[name]) for name, p in base.named_parameters())
    assert all(p.grad is None for p in base.parameters())


@pytest.mark.parametrize("kind", ["full", "did"])
def test_a_run_of_an_adapter_holds_the_pretrained_weights_once_and_untouched(kind, make_spec, loader):
    spec = make_spec(kind, lr=1e-2, adapter=AdapterSpec("lora", 4))
    inputs = loader(spec)
    base = {p.data_ptr(): p.detach().clone() for p in inputs.base.model.parameters()}
    assert sum(p.numel() for p in base.values()) == sum(p.numel() for p in inputs.base.model.parameters())
    trainer = Trainer(spec, inputs)
    trainer.run()
    held = [p for p in trainer.model.parameters() if not p.requires_grad]
    drawn = sum(inputs.base.model.get_parameter(name).numel() for name in inputs.head)
    assert (
        sum(p.numel() for p in held if p.data_ptr() in base) == sum(p.numel() for p in base.values()) - drawn
    )
    assert all(torch.equal(p, base[p.data_ptr()]) for p in held)
    assert all(p.grad is None for p in held)
    # What the optimizer holds is two more of each trained number.
    state = [t for s in trainer.optimizer.state.values() for t in s.values() if t.ndim]
    assert sum(t.numel() for t in state) == 2 * trainer.space.d


def test_a_subspace_run_holds_the_pretrained_weights_once(make_spec, loader):
    inputs, spec = loader(make_spec()), make_spec()
    base = {name: p.data_ptr() for name, p in inputs.base.model.named_parameters()}
    model = inputs.fresh_model(0)
    lent = {name for name, p in model.named_parameters() if p.data_ptr() == base[name]}
    assert lent == base.keys() - set(inputs.head)
    space = Subspace(model, spec.subspace, spec.d, 0, head=inputs.head)
    assert not any(p.data_ptr() == base[name] for name, p in space.moved())
    with torch.no_grad():
        space.theta.fill_(0.1)
    space.write()
    space.close(restore=True)
    for name, p in inputs.base.model.named_parameters():
        assert name in inputs.head or torch.equal(p, model.get_parameter(name)), name


@pytest.mark.parametrize("precision", ["fp32", "bf16", "pure_bf16"])
def test_streamed_layers_train_to_the_same_bits(fit, make_spec, precision):
    spec = make_spec("said", d=100, precision=precision, max_steps=6, holdout=8)
    (kept, history), (streamed, same_history) = (
        fit(replace(spec, projection=replace(spec.projection, cache=cache))) for cache in ("store", "stream")
    )
    assert [r["loss"] for r in history if "loss" in r] == [r["loss"] for r in same_history if "loss" in r]
    assert streamed.holdout == kept.holdout
    assert all(torch.equal(t, kept.tensors[name]) for name, t in streamed.tensors.items())


@pytest.mark.long
def test_regression(fit, make_spec, tmp_path):
    rows = [{"text": "az"[i % 2] * (i % 7 + 1) + f" {i}", "label": i % 2 + (i % 7) / 20} for i in range(120)]
    path = write_jsonl(tmp_path / "degrees.jsonl", rows)
    for precision in ("fp32", "bf16", "pure_bf16"):
        spec = make_spec(
            "full", lr=3e-3, path=path, regression=True, metrics=("pearson", "spearman"), max_steps=60,
            precision=precision, validation=None,
        )  # fmt: skip
        outcome, history = fit(spec)
        losses = [record["loss"] for record in history if "loss" in record]
        assert losses[-1] < losses[0] / 2
        assert outcome.metrics.keys() == {"pearson", "spearman"}
        assert outcome.metrics["pearson"] > 0.5


def test_holdout_rows_are_scored_and_not_trained_on(fit, make_spec):
    spec = make_spec(lr=0.6, max_steps=60, holdout=20)
    inputs = load(spec)
    assert (len(inputs.train), len(inputs.holdout)) == (76, 20)
    outcome, _ = fit(spec, inputs)
    assert outcome.holdout["accuracy"] > 0.8
    assert fit(make_spec())[0].holdout is None


# --- evaluation -------------------------------------------------------------------------------------------


def test_evaluate_agrees_with_one_row_at_a_time(make_spec, loader):
    spec = make_spec()
    encoded = loader(spec).validation
    model = loader(spec).fresh_model(3)
    found, loss = evaluate(loader(spec).task, model, encoded, CPU, batch_size=7)
    assert model.training
    model.eval()
    answers, losses = [], []
    with torch.no_grad():
        for i in range(len(encoded)):
            ids = torch.from_numpy(encoded.ids[encoded.starts[i] : encoded.starts[i + 1]].astype(np.int64))
            logits = model(input_ids=ids[None]).logits
            answers.append(logits.argmax(-1).item())
            losses.append(nn.functional.cross_entropy(logits, torch.tensor([encoded.labels[i]])).item())
    assert found["prediction"].tolist() == answers
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)


# --- steps, schedule, optimizer ---------------------------------------------------------------------------


def test_total_steps(make_spec):
    # 100 rows in batches of 8, two to a step: 6 steps of 16 rows and one of 4.
    by_epochs = make_spec(max_steps=None, epochs=2.5, batch_size=8, accumulate=2)
    assert schedule.total_steps(by_epochs, 100) == 18  # 17.5, rounded up
    assert schedule.total_steps(make_spec(max_steps=5, epochs=2.5), 100) == 5
    # 1.1 · 100 and 0.07 · 100 are a little more than whole numbers in float64.
    for epochs, steps in ((1.1, 110), (0.07, 7), (2.2, 220)):
        spec = make_spec(max_steps=None, epochs=epochs, batch_size=1)
        assert schedule.total_steps(spec, 100) == steps
    assert schedule.rate_factor(6, 100, 0.07) < schedule.rate_factor(7, 100, 0.07) == 1


@pytest.mark.parametrize(
    ("warmup", "rates"),
    [(0.2, [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
     (0.0, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
     (0.01, [1 / 2, 1, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9])],
)  # fmt: skip
def test_the_schedule_rises_and_falls_linearly(warmup, rates):
    found = [schedule.rate_factor(step, 10, warmup) for step in range(10)]
    assert found == pytest.approx(rates)


def test_the_history_states_steps_epochs_and_the_rate_that_was_used(fit, make_spec):
    # 6 batches an epoch; warm-up over ceil(0.06 * 22) = 2 steps, so step k > 2 has the rate (23 - k) / 20.
    outcome, history = fit(make_spec(lr=0.2, max_steps=22, evals=2))
    trained = [(r["step"], r["epoch"], r["lr"]) for r in history if "loss" in r]
    assert trained == [
        (10, 1, pytest.approx(0.13)),
        (20, 3, pytest.approx(0.03)),
        (22, 3, pytest.approx(0.01)),
    ]
    assert [r["step"] for r in history if "eval_loss" in r] == [11, 22]
    assert outcome.steps == 22
    assert outcome.metrics["accuracy"] == history[-1]["eval_accuracy"]


def test_epochs_pass_over_the_rows(fit, make_spec):
    outcome, history = fit(make_spec(max_steps=None, epochs=1.5))  # 96 rows, 16 a batch
    assert outcome.steps == 9
    assert history[-1]["epoch"] == 1


def test_accumulated_batches_make_the_step_of_one_big_batch(fit, make_spec):
    """14 rows at once, or in batches of 4, 4, 4 and 2: the rows count the same either way."""
    thetas = []
    for batch_size, accumulate in ((14, 1), (4, 4)):
        spec = make_spec("said", max_train=14, max_steps=3, batch_size=batch_size, accumulate=accumulate)
        outcome, history = fit(spec, without_dropout(spec))
        thetas.append(outcome.tensors["theta"])
        assert outcome.steps == 3
        assert history[0]["loss"] == pytest.approx(math.log(2), abs=0.1)  # a mean over rows, not a sum
    torch.testing.assert_close(*thetas, rtol=1e-2, atol=1e-3)
    assert thetas[0].abs().max() > 0.05


def test_every_trained_part_has_its_own_learning_rate(make_spec, loader):
    spec = make_spec("said", lr=0.5, head="trained", lam_lr=0.02, head_lr=0.003)
    inputs = loader(spec)
    space = Subspace(inputs.fresh_model(0), spec.subspace, spec.d, 0, head=inputs.head)
    groups = make_optimizer(space, spec).param_groups
    assert [group["lr"] for group in groups] == [0.5, 0.02, 0.003]
    assert [sum(p.numel() for p in g["params"]) for g in groups] == [len(space.theta), space.m, 2 * 32 + 2]


def test_full_fine_tuning_decays_matrices_only(make_spec, loader):
    spec = make_spec("full", lr=1e-3, weight_decay=0.1)
    model = loader(spec).fresh_model(0)
    groups = make_optimizer(Full(model), spec).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, p in model.named_parameters():
        assert decay[id(p)] == (0 if name.endswith("bias") or "LayerNorm" in name else 0.1), name


# --- patience ---------------------------------------------------------------------------------------------


def test_patience_keeps_the_best_and_counts_the_waits():
    weight = nn.Parameter(torch.zeros(1))
    patience = Patience(2)
    seen = []
    for i, score in enumerate([0.5, 0.7, 0.6, 0.8, 0.8, 0.1]):
        weight.data.fill_(i)
        patience.see(score, {"accuracy": score}, {"prediction": np.full(2, i)}, [weight])
        seen.append(patience.spent)
    assert seen == [False, False, False, False, False, True]
    scores, answers = patience.restore([weight])
    assert scores == {"accuracy": 0.8}
    assert answers["prediction"].tolist() == [3, 3]
    assert weight.item() == 3


def test_a_run_without_progress_stops_and_the_best_counts(fit, make_spec):
    """With a vanishing learning rate every score is the first one's: patience 1 ends it at the second."""
    outcome, history = fit(make_spec(lr=1e-9, max_steps=50, evals=5, patience=1))
    assert [r["step"] for r in history if "eval_loss" in r] == [10, 20]
    assert outcome.steps == 20
    first, second = (r["theta_norm"] for r in history if "theta_norm" in r)
    assert outcome.tensors["theta"].norm().item() == pytest.approx(first, rel=1e-6)
    assert first != pytest.approx(second, rel=1e-3)


def test_patience_scores_are_those_of_the_restored_weights(fit, make_spec, loader):
    spec = make_spec(lr=0.5, max_steps=80, evals=8, patience=2, holdout=8)
    outcome, history = fit(spec)
    scores = [r["eval_accuracy"] for r in history if "eval_loss" in r]
    assert outcome.metrics["accuracy"] == max(scores)
    assert len(scores) == scores.index(max(scores)) + 1 + 2
    assert outcome.steps == 10 * len(scores) < 80
    inputs = loader(spec)
    answers, _ = evaluate(inputs.task, rebuild(spec, inputs, outcome.tensors), inputs.validation, CPU, 64)
    assert np.mean(inputs.task.outcomes(answers)) == max(scores)
    assert np.array_equal(answers["prediction"], outcome.answers["validation"]["prediction"])


# --- divergence -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [
    {"kind": "full", "lr": 1e30, "max_steps": 12},  # the loss itself is lost
    {"kind": "full", "lr": 1e30, "max_steps": 1},  # the last step ruins the weights: only evaluation sees it
    {"kind": "did", "lr": 1e30, "max_steps": 1},
    {"kind": "did", "lr": 1e30, "max_steps": 20},
    {"kind": "said", "lr": 1e30, "max_steps": 20},
    {"kind": "said", "lr": 1e30, "max_steps": 20, "evals": 10},
])  # fmt: skip
def test_divergence_is_an_error_that_names_the_learning_rate(fit, make_spec, options):
    with pytest.raises(RunError, match=r"is (nan|inf).*lr=1e\+30; try a smaller"):
        fit(make_spec(**options))


# --- repetition -------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("kind", ["full", "did", "said"])
def test_a_finished_run_leaves_no_model_behind(make_spec, kind):
    # Hooks tie the model to its subspace in a circle; a sweep would hold many models until a collection.
    class Watched(Inputs):
        def fresh_model(self, *asked):
            model = super().fresh_model(*asked)
            self.seen.append(weakref.ref(next(model.parameters())))
            return model

    loaded = load(make_spec(kind))
    watched = Watched(**{f.name: getattr(loaded, f.name) for f in fields(loaded)})
    object.__setattr__(watched, "seen", [])
    gc.collect()
    gc.disable()
    try:
        Trainer(make_spec(kind), watched).run()
        assert [weight() for weight in watched.seen] == [None]
    finally:
        gc.enable()


def test_runs_of_several_seeds_share_head_and_p_where_the_space_has_a_seed(make_spec, loader):
    starts = []
    for seed, own in ((1, 7), (2, 7), (7, None)):
        spec = replace(make_spec("did", seed=seed), projection=ProjectionSpec(seed=own))
        watched = []

        class Watched(Inputs):
            def fresh_model(self, *asked, watched=watched):
                model = super().fresh_model(*asked)
                watched.append(model.classifier.weight.detach().clone())
                return model

        Trainer(spec, Watched(**loader(spec).__dict__)).run()
        starts += watched
    assert torch.equal(starts[0], starts[1])
    assert torch.equal(starts[0], starts[2])


def test_the_rows_trained_on_are_scored_where_asked(fit, make_spec, loader):
    spec = make_spec("full", lr=5e-3, epochs=4, max_steps=None, score_train=True)
    asked, _ = fit(spec)
    assert asked.train["accuracy"] == 1.0  # it has learned them
    assert asked.train.keys() == asked.metrics.keys()
    unasked, _ = fit(make_spec("full", lr=5e-3, epochs=4, max_steps=None))
    assert unasked.train is None
    assert unasked.metrics == asked.metrics
    short, _ = fit(make_spec(d=20, max_steps=1, score_train=True, max_train=17))
    assert short.train["accuracy"] * 17 == pytest.approx(
        round(short.train["accuracy"] * 17)
    )  # of all 17 rows
