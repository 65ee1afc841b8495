"""Runs as folders of PEFT, loaded by PEFT alone in another process, beside the logits of the run itself."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from intrinsic_cli.errors import ConfigError, StoreError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import base_of, build
from intrinsic_cli.finetunes.to_peft import export
from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import AdapterSpec, ModelSpec
from intrinsic_cli.store import Store
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.run import execute

LORA = AdapterSpec("lora", 4, 6.0)
EXACT = {
    "lora": {"kind": "full", "lr": 0.02, "adapter": LORA},
    "did lora": {"adapter": LORA, "lr": 0.5},
    "said lora, frozen head": {"adapter": LORA, "kind": "said", "head": "frozen", "lr": 0.3},
    "did vera": {"adapter": AdapterSpec("vera", 8), "lr": 0.5},
    "unilora": {"kind": "full", "lr": 0.3, "adapter": AdapterSpec("unilora", 60)},
    "tinylora": {"kind": "full", "lr": 1.0, "adapter": AdapterSpec("tinylora", 4)},
    "fourierft": {"kind": "full", "lr": 0.5, "adapter": AdapterSpec("fourierft", 30)},
    "ia3": {"kind": "full", "lr": 0.3, "adapter": AdapterSpec("ia3")},
}
SENTENCES = ["a b c", "zz zz", "a", "it was zzzz what it was"]


@pytest.fixture(scope="module")
def trained(make_spec, tmp_path_factory):
    """`trained(name or options)` is the directory of a finished run, trained once."""
    store, load, made = Store(tmp_path_factory.mktemp("runs")), Loader(), {}

    def run(options):
        key = repr(options)
        if key not in made:
            spec = make_spec(**options)
            execute(spec, store, load)
            made[key] = store.run(spec)
        return made[key]

    return run


def logits_of(run):
    """What the run's own fine-tune answers, and the inputs."""
    found = FineTune.of_run(run)
    base = base_of(found)
    inputs = base.tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        return build(found, base)(**inputs).logits, dict(inputs)


@pytest.fixture(scope="module")
def base_folder(trained, tmp_path_factory):
    """The base model as its users have it: an ordinary folder."""
    folder = tmp_path_factory.mktemp("base")
    loaded = pretrained.load(trained(EXACT["lora"]).result().spec.model, 2)
    loaded.model.save_pretrained(folder)
    return folder


@pytest.mark.long
def test_a_run_over_an_adapter_is_the_same_model_in_peft_alone(trained, base_folder, tmp_path):
    work = []
    for name, options in EXACT.items():
        logits, inputs = logits_of(trained(options))
        assert (logits - logits[0]).abs().max() > 1e-3, name
        assert export(trained(options), tmp_path / name) is None
        torch.save((inputs, logits), tmp_path / f"{name}.pt")
        work.append(str(tmp_path / name))
    code = """
import json, sys, torch, peft
from transformers import AutoModelForSequenceClassification
base, folders = json.loads(sys.argv[1])
for folder in folders:
    inputs, wanted = torch.load(folder + ".pt")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    model = peft.PeftModel.from_pretrained(model, folder).eval()
    with torch.no_grad():
        print(float((model(**inputs).logits - wanted).abs().max()))
"""
    words = [sys.executable, "-c", code, json.dumps([str(base_folder), work])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    off = dict(zip(EXACT, map(float, done.stdout.split()), strict=True))
    assert max(off.values()) <= 1e-5, off


def test_the_files_are_those_that_servers_of_lora_read(trained, tmp_path):
    run = trained(EXACT["did lora"])
    export(run, tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["bias"]) == (
        "LORA",
        4,
        6.0,
        "none",
    )
    assert config["modules_to_save"] == ["classifier"]
    assert config["base_model_name_or_path"] == "tiny"
    names = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    layer = "base_model.model.bert.encoder.layer.0.attention.self.query"
    assert {f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"} < set(names)
    assert names[f"{layer}.lora_A.weight"].shape == (4, 32)


@pytest.mark.parametrize("cut", [None, 1])
def test_the_readme_loads_the_base_that_the_run_had(cut, trained, base_folder, make_spec, tmp_path):
    """The base as a file has all layers, and is read in the dtype it is kept in: here bfloat16."""
    kept = tmp_path / "base"
    AutoModelForSequenceClassification.from_pretrained(base_folder, dtype=torch.bfloat16).save_pretrained(
        kept
    )
    tokenizer = pretrained.load(trained(EXACT["lora"]).result().spec.model, 2).tokenizer
    tokenizer.save_pretrained(kept)
    spec = replace(make_spec(adapter=LORA, lr=0.5), model=ModelSpec(str(kept), num_hidden_layers=cut))
    store = Store(tmp_path / "runs")
    execute(spec, store, Loader())
    run = store.run(spec)
    logits, inputs = logits_of(run)
    out = tmp_path / "peft"
    export(run, out)
    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names = {}
    exec(code.replace("PATH OF THIS FOLDER", str(out)), names)
    with torch.no_grad():
        torch.testing.assert_close(names["model"](**inputs).logits, logits, rtol=0, atol=1e-5)


def test_weights_become_a_lora_whose_loss_falls_with_its_rank(trained, base_folder, tmp_path):
    run = trained(
        {"lr": 1.0, "max_steps": 20, "include": ("*.query.weight", "*.dense.weight", "classifier*")}
    )
    logits, inputs = logits_of(run)
    result, off = run.result(), []
    for rank in (1, 8, 32):
        told = export(run, tmp_path / str(rank), rank)
        assert (told.rank, told.metric, told.n, told.before) == (rank, "accuracy", 40, result.score)
        base = AutoModelForSequenceClassification.from_pretrained(base_folder, num_labels=2)
        model = peft.PeftModel.from_pretrained(base, tmp_path / str(rank)).eval()
        with torch.no_grad():
            off.append((told.kept, float((model(**inputs).logits - logits).abs().max())))
    kept, far = zip(*off, strict=True)
    assert 0 < kept[0] < kept[1] < kept[2] <= 1 + 1e-6
    assert far[0] > far[1] > far[2]
    # No layer of the model is smaller than 32 on its shorter side, so rank 32 holds all of it.
    assert kept[2] == pytest.approx(1, abs=1e-5)
    assert far[2] <= 1e-4


def test_the_share_kept_is_that_of_the_singular_values(trained, tmp_path):
    run = trained(
        {
            "lr": 1.0,
            "max_steps": 20,
            "include": ("*.0.attention.self.query.weight",),
            "head": "frozen",
            "d": 60,
        }
    )
    name = "bert.encoder.layer.0.attention.self.query.weight"
    found = FineTune.of_run(run)
    start = base_of(found).model.get_parameter(name).detach().clone()
    values = torch.linalg.svdvals(
        (build(found, base_of(found)).get_parameter(name) - start).double()
    ).square()
    told = export(run, tmp_path / "peft", 3)
    assert told.kept == pytest.approx(float(values[:3].sum() / values.sum()), rel=1e-4)


def test_what_can_not_be_written_is_said_in_a_line(trained, tmp_path, idim):
    run, other = trained(EXACT["did lora"]), trained({})
    with pytest.raises(ConfigError, match="is written exactly; leave it out"):
        export(run, tmp_path / "a", 4)
    for rank in (None, 0):
        with pytest.raises(ConfigError, match=r"as in --rank 8"):
            export(other, tmp_path / "a", rank)
    with pytest.raises(StoreError, match="is full fine-tuning"):
        export(trained({"kind": "full", "lr": 1e-3}), tmp_path / "a", 4)
    with pytest.raises(ConfigError, match="moved no linear layer"):
        export(trained({"kind": "full", "lr": 1e-2, "adapter": AdapterSpec("bitfit")}), tmp_path / "a", 4)
    assert not (tmp_path / "a").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    status, printed, said = idim("export", run.path, "--to", "peft", tmp_path / "full")
    assert (status, printed, said.count("\n")) == (2, "", 1)
    assert "is there already; give a new folder" in said
    status, _, said = idim("export", run.path, "--to", "gguf", tmp_path / "b")
    assert (status, said.count("\n")) == (2, 1)


def test_the_command_prints_what_is_lost(trained, tmp_path, idim):
    with warnings.catch_warnings(action="error"):  # a word of a library is none of ours
        status, printed, said = idim(
            "export", trained({}).path, "--to", "peft", tmp_path / "peft", "--rank", "2"
        )
    assert (status, said) == (0, "")
    folder, told = printed.splitlines()
    assert folder == str(tmp_path / "peft")
    assert told.startswith("rank 2 keeps ")
    assert "accuracy" in told
    status, printed, _ = idim("export", trained(EXACT["lora"]).path, "--to", "peft", tmp_path / "exact")
    assert (status, printed) == (0, f"{tmp_path / 'exact'}\n")
