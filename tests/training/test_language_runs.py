"""Language models through a whole run: stopped and taken up, its answers kept, exported and scored again."""

from dataclasses import replace

import pytest
import torch
import transformers as hf
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.language import save_mixture, save_state_space, save_t5
from support.rows import write_task
from torch import nn
from training.test_resume import After

from intrinsic_cli.errors import ConfigError, Stopped, StoreError
from intrinsic_cli.finetunes import rebuild, to_peft
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import apply, export
from intrinsic_cli.finetunes.scoring import score
from intrinsic_cli.models import pretrained
from intrinsic_cli.models.adapters import attach, configuration
from intrinsic_cli.rundir import THETA
from intrinsic_cli.spec import AdapterSpec, ModelSpec
from intrinsic_cli.store import Store
from intrinsic_cli.tasks.task import task_of
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.evaluation import evaluate
from intrinsic_cli.training.inputs import Loader, check
from intrinsic_cli.training.run import execute
from intrinsic_cli.training.trainer import Trainer

KINDS = {
    "lm": {"metrics": ("loss", "bits_per_byte")},
    "choice": {"metrics": ("accuracy", "f1"), "prompt": "{text} It was", "words": (("0", "bad"), ("1", "so good"))},
    "generation": {
        "metrics": ("exact_match",), "prompt": "{text}\\nclass:", "answer": "label", "max_new_tokens": 6,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("words"), 32, 12)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return save_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture
def specs(make_spec, folder):
    def make(kind, subspace="did", model="tiny", **options):
        spec = make_spec(
            subspace, **{"path": folder, "max_steps": 6, "batch_size": 8, "max_length": 48} | options
        )
        own = KINDS[kind]
        if kind == "lm" and model != "tiny":  # an encoder-decoder reads no texts alone
            own = {**own, "prompt": "{text} is", "answer": "label"}
        return replace(spec, model=ModelSpec(str(model)), task=replace(spec.task, kind=kind, **own))

    return make


@pytest.mark.long
@pytest.mark.parametrize("family", ["llama", "t5"])
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_taken_up_exported_and_scored_again(kind, family, specs, t5, tmp_path):
    model = t5 if family == "t5" else "tiny"
    spec = specs(kind, "said", model, lr=0.3, evals=3, patience=1, holdout=4)
    load, whole, parts = Loader(), Store(tmp_path / "whole"), Store(tmp_path / "parts")
    result = execute(spec, whole, load)
    with pytest.raises(Stopped):
        execute(spec, parts, load, stop=After(2))
    again = execute(spec, parts, load)
    one, other = (load_file(store.run(spec).path / THETA) for store in (whole, parts))
    assert again.resumed == (3,)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert again.metrics == result.metrics
    task, found = task_of(spec.task), parts.run(spec).outcomes()
    assert task.score(found["validation"]) == pytest.approx(result.metrics, rel=1e-6)
    assert task.score(found["holdout"]) == pytest.approx(result.holdout_metrics, rel=1e-6)
    assert result.higher_is_better == (kind != "lm")
    fine_tune = FineTune.read(export(whole.run(spec), tmp_path))
    assert (fine_tune.kind, fine_tune.head_hash is not None) == (kind, True)
    values, n, apart = score(fine_tune, spec.task, spec.data)
    assert values == pytest.approx(result.metrics, rel=1e-6)
    assert (n, apart) == (result.n_eval, None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_before_training_is_a_run_of_its_own(kind, specs, tmp_path, idim):
    """Its scores are those of the base model itself; nothing is trained, resumed or exported."""
    spec, load = specs(kind, "none", holdout=4, score_train=True), Loader()
    store = Store(tmp_path / "out")
    result = execute(spec, store, load)
    inputs = load(spec)
    model = inputs.fresh_model(0)
    answers, _ = evaluate(inputs.task, model, inputs.validation, Compute.here("fp32"), 5)
    assert result.metrics == pytest.approx(inputs.task.score(answers), rel=1e-6)
    answers, _ = evaluate(inputs.task, model, inputs.train, Compute.here("fp32"), 5)
    assert result.train_metrics == pytest.approx(inputs.task.score(answers), rel=1e-6)
    assert (result.d, result.m, result.steps, result.theta_hash) == (0, 0, 0, None)
    assert sum(p.numel() for p in model.parameters()) == result.D
    assert set(store.run(spec).outcomes()) == {"validation", "holdout"}
    assert execute(spec, store, load) == result
    status, out, _ = idim("show", result.directory)
    assert status == 0
    assert f"0 of {result.D:,} numbers trained" in out
    status, out, _ = idim("status", tmp_path / "out")
    assert (status, f"{result.score:.4f}" in out) == (0, True)
    with pytest.raises(StoreError, match="trained nothing"):
        export(store.run(spec), tmp_path)


@pytest.mark.long
def test_lora_on_a_mixture_of_experts_is_applied_as_it_was_scored(specs, tmp_path):
    """Its dense and shared layers are named as experts once were, for which PEFT takes them."""
    folder = save_mixture(tmp_path / "mixture")
    spec = specs("lm", "full", folder, adapter=AdapterSpec("lora", 2), lr=0.05)
    load, store = Loader(), Store(tmp_path / "out")
    result = execute(spec, store, load)
    fine_tune = export(store.run(spec), tmp_path)
    apply(fine_tune, tmp_path / "applied")
    inputs = load(spec)
    applied = pretrained.load(ModelSpec(str(tmp_path / "applied")), 0, kind="lm").model
    answers, _ = evaluate(inputs.task, applied, inputs.validation, Compute.here("fp32"), 5)
    assert inputs.task.score(answers) == pytest.approx(result.metrics, rel=1e-5)
    answers, _ = evaluate(inputs.task, inputs.fresh_model(0), inputs.validation, Compute.here("fp32"), 5)
    assert inputs.task.score(answers)["loss"] > result.metrics["loss"] + 1e-3
    with pytest.raises(ConfigError, match="--to peft: PEFT takes layers of DeepseekV3ForCausalLM for parts"):
        to_peft.export(store.run(spec), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("model", "adapter"),
    [
        ("mamba", AdapterSpec("vera", 8)),
        ("mamba", AdapterSpec("lora", 2)),
        pytest.param("jamba", AdapterSpec("lora", 2), marks=pytest.mark.long),
    ],
)
def test_layers_whose_code_reads_their_weight_alone_get_no_adapter(model, adapter, specs, tmp_path):
    """What was trained is what plain transformers reads from the applied folder, and what PEFT is told to adapt
    are the layers that torch sees called."""
    folder = save_state_space(tmp_path / model, model)
    spec = specs("lm", model=folder, adapter=adapter, lr=1.0, d=60)
    store, load = Store(tmp_path / "out"), Loader()
    execute(spec, store, load)
    fine_tune = export(store.run(spec), tmp_path)
    apply(fine_tune, tmp_path / "applied")
    applied = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "applied").eval()
    plain = hf.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([[1, 40, 41, 50, 60, 61, 70, 80]])
    called = set()
    watch = nn.modules.module.register_module_forward_pre_hook(lambda module, _: called.add(module))
    with torch.no_grad():
        start = plain(ids).logits
        watch.remove()
        wanted = rebuild.load(fine_tune)[0](ids).logits
        assert (wanted - start).abs().max() > 1e-3
        torch.testing.assert_close(applied(ids).logits, wanted, rtol=1e-4, atol=2e-5)
    inputs = load(spec)
    layers = {
        name for name, module in plain.named_modules() if type(module) is nn.Linear and module in called
    }
    asked = set(configuration(inputs.base.model, adapter, (), 0, inputs.base.idle).target_modules)
    # Of LoRA in a Mamba, PEFT takes no `out_proj`.
    refused = {name for name in layers if "out_proj" in name and (model, adapter.kind) == ("mamba", "lora")}
    assert asked == layers - refused - {"lm_head"}
    moved = inputs.fresh_model(0, adapter)
    counted = {
        name.partition(f".{adapter.kind}_")[0] for name, p in moved.named_parameters() if p.requires_grad
    }
    assert counted == asked


def test_a_file_of_an_earlier_version_has_its_adapter_where_that_put_it(specs, tmp_path):
    """Such a file says nothing of layers that are never called, and its numbers are those of all layers."""
    folder, adapter = save_state_space(tmp_path / "mamba", "mamba"), AdapterSpec("vera", 8)
    spec = specs("lm", model=folder, adapter=adapter, lr=1.0, d=60, max_steps=2)
    store, load = Store(tmp_path / "out"), Loader()
    execute(spec, store, load)
    theta = store.run(spec).path / THETA
    with safe_open(theta, "pt") as file:
        metadata = file.metadata()
    assert metadata.pop("spared") == "true"
    save_file(load_file(theta), theta, metadata)  # as it was written before
    earlier = export(store.run(spec), tmp_path)
    assert not FineTune.read(earlier).spared
    every = load(spec).fresh_model(0)
    attach(every, adapter, (), 0)  # on all that PEFT takes, `dt_proj` among them
    shapes = {name: p.shape for name, p in every.named_parameters()}
    built = rebuild.load(earlier)[0]
    assert {name: p.shape for name, p in built.named_parameters()} == shapes
    assert any("dt_proj.vera" in name for name in shapes)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (("dt_proj",), "adapter.target='dt_proj' .*mixer.dt_proj.*, which it never calls .*leave it out"),
        (("in_proj", "out_proj"), "adapter.target='out_proj' .*PEFT .*leave it out"),
    ],
)
def test_a_layer_whose_adapter_would_not_act_is_refused_by_name(target, words, specs, tmp_path):
    folder = save_state_space(tmp_path / "mamba", "mamba")
    spec = specs("lm", model=folder, adapter=AdapterSpec("lora", 2, target=target))
    with pytest.raises(ConfigError, match=words) as raised:
        check([spec], Loader())
    assert "\n" not in str(raised.value)


def test_patience_with_a_loss_keeps_the_lowest(specs):
    history = []
    spec = specs("lm", lr=3.0, max_steps=30, evals=10, patience=2)
    outcome = Trainer(spec, Loader()(spec), log=lambda **record: history.append(record)).run()
    losses = [record["eval_loss"] for record in history if "eval_loss" in record]
    assert outcome.metrics["loss"] == pytest.approx(min(losses))
    assert len(losses) == losses.index(min(losses)) + 1 + 2
    assert outcome.steps == 3 * len(losses) < 30


def test_accumulated_batches_weigh_tokens(specs):
    """Fourteen rows at once, or in batches of 4, 4, 4 and 2 whose answers differ in length."""
    thetas = []
    for batch_size, accumulate in ((14, 1), (4, 4)):
        spec = specs("lm", max_train=14, max_steps=3, batch_size=batch_size, accumulate=accumulate)
        thetas.append(Trainer(spec, Loader()(spec)).run().tensors["theta"])
    torch.testing.assert_close(*thetas, rtol=1e-2, atol=1e-3)
    assert thetas[0].abs().max() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls(kind, specs):
    history = []
    spec = specs(kind, "full", lr=1e-2, max_steps=40)
    Trainer(spec, Loader()(spec), log=lambda **record: history.append(record)).run()
    losses = [record["loss"] for record in history if "loss" in record]
    assert losses[-1] < losses[0] / 2


def test_streamed_layers_train_a_decoder_to_the_same_bits(specs):
    spec = specs("lm", "said")
    one, other = (
        Trainer(replace(spec, projection=replace(spec.projection, cache=cache)), Loader()(spec)).run()
        for cache in ("store", "stream")
    )
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())
    assert one.metrics == other.metrics
