"""Quantized base models: what is refused, and what transformers is told. What needs a GPU is skipped here."""

import json
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
import transformers as hf
from torch import nn

from intrinsic_cli.errors import ConfigError, ModelError, StoreError
from intrinsic_cli.finetunes import rebuild
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.models import checkpoints, files, pretrained, quantized
from intrinsic_cli.planning.compose import compose_config
from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.specs import run_spec
from intrinsic_cli.planning.words import parse
from intrinsic_cli.spec import AdapterSpec, ModelSpec, RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.training import inputs
from intrinsic_cli.training.run import execute
from intrinsic_cli.training.trainer import Trainer

LORA = AdapterSpec("lora", 2)
HERE = torch.cuda.is_available() and find_spec("bitsandbytes") is not None


def planned(*words):
    return run_spec(compose_config("run", parse(list(words))))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_without_a_gpu_a_line_comes_before_any_weight_is_read(tmp_path, monkeypatch, idim, bits):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"no weights at all")
    words = ["run", "model.name=./model", "adapter=lora", "d=30", "data.max_train=50", "data.max_eval=20"]
    status, out, err = idim(*words, f"model.quantize={bits}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"model.quantize={bits} needs a CUDA GPU, and there is none here; leave it out" in err
    assert not (tmp_path / "outputs").exists()
    assert "no weights" not in err
    assert "CUDA" not in idim(*words)[2]  # without it, the weights are what is wrong


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["d=30"], "adapter=none moves the weights, and quantized ones can't; give one of adapter=lora"),
        (["subspace=full"], "adapter=none moves the weights"),
        (["adapter=bitfit", "d=30"], "adapter=bitfit moves the weights"),
        (["adapter=loha", "d=30"], "adapter=loha does not fit quantized weights; give one of adapter=lora"),
        (
            ["adapter=lora", "d=30", "train.precision=pure_bf16"],
            "train.precision=pure_bf16 would cast; use bf16",
        ),
        (["adapter=lora", "d=30", "model=tiny"], "tiny is drawn and has no weights to read"),
        (["adapter=lora", "d=30", "model.quantize=3bit"], "'3bit' is not known; use one of 4bit, 8bit"),
    ],
)
def test_what_can_not_be_quantized_is_a_line_of_the_plan(words, message):
    with pytest.raises(ConfigError, match=message):
        planned("model=minilm", "model.quantize=4bit", *words)


def test_a_sweep_says_that_there_is_no_full_fine_tuning_of_quantized_weights():
    words = ["model.quantize=4bit", "adapter=lora", "d=30,60"]
    with pytest.raises(ConfigError, match=r"add baseline\.run=false for curves without a d90"):
        sweep_plan(parse(words))
    assert [spec.d for spec in sweep_plan(parse([*words, "baseline.run=false"])).specs] == [30, 60]


def test_the_language_model_before_training_may_be_quantized():
    assert planned("model=gpt2", "task=pydoc-lm", "d=0", "model.quantize=8bit").model.quantize == "8bit"


def test_a_run_without_it_has_the_name_it_had_and_one_with_it_another():
    plain = planned("adapter=lora", "d=30")
    assert "quantize" not in plain.identity()["model"]
    names = {
        replace(plain, model=replace(plain.model, quantize=bits)).run_id for bits in (None, "4bit", "8bit")
    }
    assert len(names) == 3
    assert plain.run_id in names
    tree = plain.to_dict()
    del tree["model"]["quantize"]  # as an earlier version wrote it
    assert RunSpec.from_dict(tree) == plain


def test_transformers_is_told_nf4_with_products_in_bfloat16_and_what_to_leave_alone():
    four, eight = quantized.config("4bit", ["classifier"]), quantized.config("8bit", [])
    assert (four.quantization_method(), four.bnb_4bit_compute_dtype) == ("nf4", torch.bfloat16)
    assert (four.llm_int8_skip_modules, four.load_in_8bit) == (["classifier"], False)
    assert (eight.quantization_method(), eight.llm_int8_skip_modules) == ("llm_int8", None)


SMALL = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 48}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (hf.BertConfig(**SMALL), {"bert.pooler.dense", "classifier"}),
        (hf.RobertaConfig(**SMALL), {"classifier.dense", "classifier.out_proj"}),
        (hf.DistilBertConfig(vocab_size=99, dim=32, n_layers=1, n_heads=2), {"pre_classifier", "classifier"}),
        (hf.LlamaConfig(**SMALL), {"score"}),
        (hf.T5Config(vocab_size=99, d_model=32, num_layers=1),
         {"classification_head.dense", "classification_head.out_proj"}),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)  # fmt: skip
def test_the_head_that_is_drawn_anew_is_left_a_float(config, head):
    with torch.device("meta"):
        model = hf.AutoModelForSequenceClassification.from_config(config)
    assert set(checkpoints.head_layers(model)) == head


def test_what_is_quantized_already_is_not_quantized_again():
    settings = {"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes"}}
    quantized.check_config(ModelSpec("a/b"), settings)
    with pytest.raises(ModelError, match="model a/b is quantized already"):
        quantized.check_config(ModelSpec("a/b", quantize="8bit"), settings)


@pytest.mark.parametrize(
    "given",
    [
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "fp8"},
        {"quant_method": {"a": 1}},
        {},
        [],
        "x",
        5,
        True,
    ],
    ids=str,
)
def test_other_ways_to_quantize_are_refused_before_anything_is_read(given):
    with pytest.raises(
        ModelError, match="only bitsandbytes' weights can be read: choose its weights as floats"
    ):
        quantized.check_config(ModelSpec("a/b"), {"quantization_config": given})


@pytest.mark.parametrize("given", [None, {"quant_method": "bitsandbytes"}, {"load_in_8bit": True}], ids=str)
def test_weights_of_bitsandbytes_are_left_to_it(given):
    quantized.check_config(ModelSpec("a/b"), {"quantization_config": given})


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, True),
        ({"load_in_8bit": True}, False),
        (None, False),
    ],
    ids=str,
)
def test_a_byte_holds_two_weights_of_four_bits(given, fits):
    """Of 8.03 billion numbers as 5.7 GB, as Llama-3.1-8B's 4 bits are, with 2 bytes for each of its embeddings."""
    most = quantized.most_numbers({"quantization_config": given}, 5_700_000_000)
    with torch.device("meta"):
        model = nn.Linear(4096, 8_030_000_000 // 4096, bias=False)
    if fits:
        files.check_skeleton(ModelSpec("a/b"), model, most)
    else:
        with pytest.raises(ModelError, match="more than its weights could hold"):
            files.check_skeleton(ModelSpec("a/b"), model, most)


def test_an_exported_fine_tune_says_it_and_is_not_merged_into_its_base(make_spec, tmp_path):
    spec = make_spec("did", d=30, adapter=LORA)
    store = Store(tmp_path / "runs")
    execute(spec, store, inputs.load)
    plain = FineTune.of_run(store.run(spec))
    found = replace(plain, model=ModelSpec("./base", quantize="4bit"))
    (tmp_path / "f.safetensors").write_bytes(found.to_bytes())
    assert FineTune.read(tmp_path / "f.safetensors").model.quantize == "4bit"
    assert b"quantize" not in plain.to_bytes()
    with pytest.raises(StoreError, match="idim export RUN --to peft DIR writes the adapter itself"):
        rebuild.apply(tmp_path / "f.safetensors", tmp_path / "out")


@pytest.mark.skipif(not HERE, reason="needs a CUDA device and bitsandbytes")
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_an_adapter_learns_over_weights_that_stay_as_they_are(make_spec, tmp_path, bits):
    base = pretrained.load(ModelSpec("tiny"), 2)
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    spec = make_spec("full", adapter=LORA, name=str(tmp_path / "base"), quantize=bits, max_steps=20, lr=0.01)
    loaded = inputs.load(spec)
    before = [p.clone() for p in loaded.base.model.parameters() if not p.is_floating_point()]
    losses = []
    outcome = Trainer(spec, loaded, log=lambda **record: losses.append(record.get("loss"))).run()
    after = [p for p in loaded.base.model.parameters() if not p.is_floating_point()]
    assert len(before) == 12  # the linear layers of two, of six each
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert sum(p.numel() for p in base.model.parameters()) == outcome.D
    assert losses[1] < losses[0]
