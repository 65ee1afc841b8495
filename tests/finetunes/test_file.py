"""Portable fine-tunes: the same model in another process, files of old, and files that are not to be trusted."""

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file
from support.make_golden import FOLDER, SENTENCES
from support.processes import largest_file
from support.rows import sentences, write_jsonl
from transformers import AutoModelForSequenceClassification

import intrinsic_cli
from intrinsic_cli.errors import DataError, IdimError, ModelError, StoreError
from intrinsic_cli.files import new_folder
from intrinsic_cli.finetunes.arithmetic import combine
from intrinsic_cli.finetunes.file import SUFFIX, FineTune, checksum
from intrinsic_cli.finetunes.rebuild import apply, export, load
from intrinsic_cli.finetunes.scoring import check_labels
from intrinsic_cli.models import pretrained
from intrinsic_cli.rundir import THETA, RunDir
from intrinsic_cli.spec import AdapterSpec, ModelSpec
from intrinsic_cli.store import Store
from intrinsic_cli.training.inputs import Inputs, Loader
from intrinsic_cli.training.run import execute

KINDS = {
    "did": {},
    "did bf16": {"precision": "bf16"},
    "did pure_bf16": {"precision": "pure_bf16"},
    "said sorf by tensor": {"kind": "said", "groups": "tensor", "normalize": "tensor", "lr": 0.01},
    "trained head": {"kind": "said", "head": "trained", "d": 300},
    "did lora": {"adapter": AdapterSpec("lora", 2)},
    "said lora pure_bf16": {"kind": "said", "adapter": AdapterSpec("lora", 2), "precision": "pure_bf16"},
    "lora": {"kind": "full", "lr": 0.01, "adapter": AdapterSpec("lora", 2)},
    "lora pure_bf16": {
        "kind": "full",
        "lr": 0.01,
        "adapter": AdapterSpec("lora", 2),
        "precision": "pure_bf16",
    },
    "unilora": {"kind": "full", "lr": 0.01, "adapter": AdapterSpec("unilora", 50)},
    "bitfit": {"kind": "full", "lr": 0.01, "adapter": AdapterSpec("bitfit")},
    "frozen head, part": {"head": "frozen", "include": ("*layer.1*",), "exclude": ("*bias",)},
}


class Watched(Inputs):
    """Inputs whose models note what went in and came out while they were evaluated."""

    seen: list

    def fresh_model(self, *asked):
        model = super().fresh_model(*asked)

        def note(module, args, kwargs, output):
            if not module.training:
                batch = {k: v.clone() for k, v in kwargs.items() if k != "labels"}
                self.seen.append((batch, output.logits.detach().clone()))

        model.register_forward_hook(note, with_kwargs=True)
        return model


@pytest.fixture(scope="module")
def runs(make_spec, tmp_path_factory):
    """A finished run of each kind, and its last evaluation: {kind: (run directory, batch, logits)}."""
    store, load_inputs, made = Store(tmp_path_factory.mktemp("runs")), Loader(), {}
    for name, options in KINDS.items():
        spec = make_spec(**options)
        plain = load_inputs(spec)
        watched = Watched(**plain.__dict__)
        object.__setattr__(watched, "seen", [])
        execute(spec, store, lambda _, watched=watched: watched)
        made[name] = (store.run(spec), *watched.seen[-1])
    return made


@pytest.fixture(scope="module")
def files(runs, tmp_path_factory):
    """The file of each run."""
    folder = tmp_path_factory.mktemp("files")
    return {name: export(run, folder) for name, (run, _, _) in runs.items()}


@pytest.mark.long
def test_logits_in_a_new_process_are_those_of_the_training_bit_for_bit(runs, files, tmp_path):
    work = []
    for i, (name, (_, batch, logits)) in enumerate(runs.items()):
        assert len(logits.float().unique(dim=0)) > 1  # a model that answers all rows alike would prove little
        torch.save((batch, logits), tmp_path / f"{i}.pt")
        work.append((str(files[name]), str(tmp_path / f"{i}.pt"), name == "did bf16"))
    code = """
import json, sys, torch, intrinsic_cli
for path, seen, half in json.loads(sys.argv[1]):
    model, _ = intrinsic_cli.load(path)
    batch, wanted = torch.load(seen)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = model(**batch).logits
    assert not model.training and logits.dtype == wanted.dtype, path
    print(torch.equal(logits, wanted))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(work)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True"] * len(KINDS)


def test_a_theta_that_its_run_did_not_learn_is_refused(runs, tmp_path):
    (first, _, _), (second, _, _) = list(runs.values())[:2]
    copy = RunDir(shutil.copytree(first.path, tmp_path / first.path.name))
    assert export(copy, tmp_path / "as.safetensors").exists()
    flipped = {name: -tensor for name, tensor in load_file(copy.path / THETA).items()}
    for content in (save(flipped), (second.path / THETA).read_bytes()):
        (copy.path / THETA).write_bytes(content)
        with pytest.raises(StoreError, match=r"theta.safetensors is not what the run learned"):
            export(copy, tmp_path / "no.safetensors")
        with pytest.raises(StoreError, match=r"theta.safetensors is not what the run learned"):
            FineTune.of_run(copy)
    (copy.path / THETA).unlink()
    os.mkfifo(copy.path / THETA)
    with pytest.raises(StoreError, match="is a pipe and no file"):
        FineTune.of_run(copy)


def test_a_file_says_what_its_run_was(runs, files):
    for name, (run, _, _) in runs.items():
        found, result = FineTune.read(files[name]), run.result()
        assert (found.d, found.score, found.n_eval) == (result.d, result.score, 40)
        assert (found.labels, found.precision) == (("calm", "loud"), result.precision)
        assert replace(found, head_hash=None) == replace(
            FineTune.of_run(run), subspace=found.subspace, model=found.model, projection=found.projection
        )
        for tensor, value in load_file(run.path / "theta.safetensors").items():
            assert torch.equal(found.tensors[tensor], value)
        assert files[name].name == run.path.name + SUFFIX


def test_two_hundred_numbers_fit_four_kilobytes(files):
    assert FineTune.read(files["did"]).d == 200
    assert files["did"].stat().st_size <= 4096


def test_the_model_knows_its_labels(files):
    model, tokenizer = intrinsic_cli.load(files["did"])
    assert model.config.id2label == {0: "calm", 1: "loud"}
    assert not model.training
    assert model(**tokenizer("aa", return_tensors="pt")).logits.shape == (1, 2)


@pytest.mark.parametrize(
    "name",
    [
        "did-fastfood-v1",
        "said-sorf-v1",
        "did-fastfood-5000-v1",
        "did-fastfood-5000-v2",
        "did-fastfood-v3",
        "did-fastfood-5000-v3",
        "said-signs-v1",
    ],
)
def test_files_of_every_draw_version_keep_loading(name):
    model, tokenizer = load(FOLDER / f"{name}{SUFFIX}")
    told = json.loads((FOLDER / f"{name}.json").read_text())
    parameters = dict(model.named_parameters())
    for tensor, wanted in told["weights"].items():
        flat = parameters[tensor].detach().flatten()
        torch.testing.assert_close(
            flat[:: max(1, len(flat) // 7)][:7], torch.tensor(wanted), atol=1e-6, rtol=1e-5
        )
    with torch.no_grad():
        logits = model(**tokenizer(list(SENTENCES), padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(logits, torch.tensor(told["logits"]), atol=1e-4, rtol=0)


def test_an_applied_folder_is_an_ordinary_model(files, tmp_path):
    apply(files["said sorf by tensor"], tmp_path / "model")
    ours, tokenizer = load(files["said sorf by tensor"])
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    batch = tokenizer(["a", "zz z"], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(ours(**batch).logits, theirs(**batch).logits)
    assert theirs.config.id2label == {0: "calm", 1: "loud"}
    with pytest.raises(StoreError, match="there already"):
        apply(files["did"], tmp_path / "model")


def test_another_base_model_is_refused_by_its_weights(files, tmp_path):
    apply(files["did"], tmp_path / "other")
    with pytest.raises(ModelError, match=r"SHA-256 .* are not those this fine-tune belongs to"):
        load(files["did"], model=str(tmp_path / "other"))


def test_another_draw_of_the_head_is_refused(files):
    found = replace(FineTune.read(files["did"]), head_hash="0" * 64)
    with pytest.raises(ModelError, match="draws another head"):
        load(found)


def test_full_fine_tuning_is_no_theta(make_spec, tmp_path):
    store, spec = Store(tmp_path), make_spec("full", max_steps=1)
    execute(spec, store, Loader())
    with pytest.raises(StoreError, match=r"full fine-tuning.*train.keep_weights=true.*subspace=did"):
        export(store.run(spec), tmp_path / "x.safetensors")
    store, spec = Store(tmp_path / "kept"), replace(spec, train=replace(spec.train, keep_weights=True))
    execute(spec, store, Loader())
    with pytest.raises(StoreError, match=r"; they lie in (.*), and subspace=did") as raised:
        export(store.run(spec), tmp_path / "x.safetensors")
    kept = re.search("they lie in (.*), and", str(raised.value))[1]
    assert "classifier.weight" in load_file(kept)


# --- files that are not to be trusted ----------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data())
def test_no_damage_of_one_byte_goes_unnoticed(tmp_path_factory, data):
    content = bytearray((FOLDER / "did-fastfood-v1.safetensors").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(StoreError):
        FineTune.read(path)


def test_no_cut_goes_unnoticed(tmp_path):
    content = (FOLDER / "did-fastfood-v1.safetensors").read_bytes()
    for length in range(0, len(content), 23):
        (tmp_path / "x").write_bytes(content[:length])
        with pytest.raises(StoreError):
            FineTune.read(tmp_path / "x")


def golden():
    return FineTune.read(FOLDER / "did-fastfood-v1.safetensors")


def forge(path, change):
    """The golden file after `change(tree, tensors)`, its checksum made to fit."""
    content = golden().to_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    tree, tensors = json.loads(header["__metadata__"]["idim"]), dict(golden().tensors)
    del tree["check"]
    change(tree, tensors)
    tree["check"] = checksum(tree, tensors)
    save_file(tensors, path, metadata={"idim": json.dumps(tree, ensure_ascii=False)})
    return path


def put(*path):
    *parents, key, value = path

    def change(tree, tensors):
        for parent in parents:
            tree = tree[parent]
        tree[key] = value

    return change


def theta(values):
    def change(tree, tensors):
        tensors["theta"] = values

    return change


MODULE = {"megatron_core": "antigravity", "megatron_config": {"a": 1}}
# How a file is forged, and a word of why it is refused.
HOSTILE = {
    "format": (put("format", 2), "is of format 2"),
    "version": (put("version", 9), "has draw version 9"),
    "projection": (put("projection", "kind", "../fastfood"), "projection='../fastfood' is not known"),
    "seed": (put("projection", "seed", -1), "projection.seed=-1 must be at least 0"),
    "seed of text": (put("projection", "seed", "0"), "projection.seed='0' is not an integer"),
    "seed beyond": (
        put("projection", "seed", 1 << 64),
        "projection.seed=18446744073709551616 must be at most",
    ),
    "key": (put("extra", 1), "unknown keys ['extra']"),
    "model's key": (put("model", "extra", 1), "model has unknown keys ['extra']"),
    "model's place": (put("model", "name", "../../nowhere"), "model.name=../../nowhere does not exist"),
    "model's line": (put("model", "name", "tiny\nidim: all is well"), "control a terminal"),
    "model of numbers": (put("model", "name", 7), "model.name=7 is not a text"),
    "layers": (
        put("model", "num_hidden_layers", 10**9),
        "1000000000 in a portable fine-tune is out of range",
    ),
    "layers of text": (put("model", "num_hidden_layers", "two"), "num_hidden_layers='two' is not an integer"),
    "labels": (put("labels", ["a", "a"]), "not different from each other"),
    "many labels": (put("labels", [str(i) for i in range(5000)]), "5000 labels do not fit"),
    "no labels": (put("labels", []), "0 labels do not fit"),
    "labels of numbers": (put("labels", [1, 2]), "labels=1 is not a text"),
    "a label's escape": (put("labels", ["\x1b[2J", "b"]), "control a terminal"),
    "precision": (put("precision", "fp8"), "precision='fp8'"),
    "subspace": (put("subspace", "kind", "full"), "not the tensors of subspace=full"),
    "pattern": (put("subspace", "include", ["nothing"]), "include='nothing' matches no"),
    "endless patterns": (put("subspace", "exclude", ["*"] * 38_000), "exclude has 38,000 patterns"),
    "adapter's size": (put("adapter", {"kind": "lora", "r": 10**9}), "adapter=lora of size 1,000,000,000"),
    "adapter's module": (
        put("adapter", {"kind": "lora", "r": 2, "args": MODULE}),
        "adapter.args has 'megatron_config', which is no key",
    ),
    "adapter's patterns": (
        put("adapter", {"kind": "lora", "r": 2, "target": ["*"] * 38_000}),
        "target has 38,000 patterns",
    ),
    "a question's place": (put("asks", {"path": "/etc"}), "asks=['path']"),
    "a column of no name": (put("asks", {"text": [7]}), "text=[7] of a portable fine-tune names no columns"),
    "a question to a head": (put("asks", {"prompt": "{text}"}), "asks=['prompt']"),
    "nesting": (put("task", [[[]] * 2] * 2), "task=[[[], []], [[], []]] is not a text"),
    "score": (put("score", float("nan")), "NaN is no number"),
    "score of text": (put("score", "1"), "score='1' is not a number"),
    "length": (put("max_length", -1), "-1 in a portable fine-tune is out of range"),
    "no θ": (
        lambda tree, tensors: tensors.clear() or tensors.update(lam=torch.ones(3)),
        "['lam'] are not the tensors",
    ),
    "more": (
        lambda tree, tensors: tensors.update(more=torch.ones(3)),
        "['more', 'theta'] are not the tensors",
    ),
    "θ of NaN": (theta(torch.tensor([0.0, float("nan")])), "numbers that are not finite"),
    "θ of infinity": (theta(torch.tensor([float("inf")])), "numbers that are not finite"),
    "θ beyond": (theta(torch.full((24,), 1e38)), "beyond float32"),
    "θ of doubles": (theta(torch.ones(24, dtype=torch.float64)), "theta is torch.float64 (24,)"),
    "θ of rows": (theta(torch.ones(6, 4)), "theta is torch.float32 (6, 4)"),
    "θ without a row": (theta(torch.tensor(1.0)), "theta is torch.float32 ()"),
    "no number": (theta(torch.zeros(0)), "theta is torch.float32 (0,)"),
    "θ larger than the model": (theta(torch.zeros(100_000)), "d=100000 is more than the D=34850"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "why"), HOSTILE.values(), ids=HOSTILE)
def test_a_forged_file_is_refused_in_one_line(change, why, tmp_path):
    with pytest.raises(IdimError, match=re.escape(why)) as refusal:
        load(forge(tmp_path / "x.safetensors", change))
    assert "\n" not in str(refusal.value)
    assert "\x1b" not in str(refusal.value)


def test_a_forged_file_without_a_forgery_loads(tmp_path):
    load(forge(tmp_path / "x.safetensors", lambda tree, tensors: None))


def test_a_file_can_not_ask_for_code_to_be_run_or_pickles_to_be_read(tmp_path, monkeypatch):
    asked = []
    real = pretrained.load
    monkeypatch.setattr(pretrained, "load", lambda spec, *a, **k: asked.append(spec) or real(spec, *a, **k))

    def change(tree, tensors):
        tree["model"] |= {"trust_remote_code": True, "allow_pickle": True, "download_limit": 2.0**20}

    load(forge(tmp_path / "x.safetensors", change))
    assert [(spec.trust_remote_code, spec.allow_pickle) for spec in asked] == [(False, False)]
    assert [spec.download_limit for spec in asked] == [ModelSpec("any").download_limit]


@pytest.mark.parametrize("length", [1 << 62, (1 << 64) - 1, 1 << 21], ids=["huge", "overflow", "2 MiB"])
def test_a_header_that_is_too_long_is_not_read(length, tmp_path):
    (tmp_path / "x").write_bytes(struct.pack("<Q", length) + b"{}" * 100)
    with pytest.raises(StoreError, match="damaged"):
        FineTune.read(tmp_path / "x")


def test_shapes_that_the_file_does_not_hold_cost_nothing(tmp_path):
    header = json.dumps(
        {"theta": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    ).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(StoreError, match="damaged"):
        FineTune.read(tmp_path / "x")


def test_a_hole_of_gigabytes_is_refused_by_its_size(tmp_path):
    size = 2 << 30
    tensor = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    idim = {"idim": json.dumps({"check": "0" * 16, "format": 1})}
    header = json.dumps({"theta": tensor, "__metadata__": idim}).encode()
    with (tmp_path / "x").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    with pytest.raises(StoreError, match=r"2,147,\d{3},\d{3} bytes, and 1,073,741,824 are the most"):
        FineTune.read(tmp_path / "x")


# --- task arithmetic ---------------------------------------------------------------------------------------


def weights(found):
    return {name: p.detach().double() for name, p in load(found)[0].named_parameters()}


def test_combining_adds_and_scales_the_moves_of_all_weights():
    one, other = (
        golden(),
        replace(golden(), task="other", tensors={"theta": golden().tensors["theta"].flip(0)}),
    )
    start = weights(replace(one, tensors={"theta": torch.zeros(24)}))
    a, b, both = (weights(found) for found in (one, other, combine([(0.5, one), (-2.0, other)])))
    for name, w in both.items():
        torch.testing.assert_close(
            w - start[name], 0.5 * (a[name] - start[name]) - 2 * (b[name] - start[name]), atol=1e-5, rtol=0
        )
    assert combine([(1.0, one)]).score is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(golden(), weights_hash="1" * 64), "different spaces"),
        (replace(golden(), projection=replace(golden().projection, seed=9)), "different spaces"),
        (replace(golden(), tensors={"theta": torch.ones(23)}), "different spaces"),
        (FineTune.read(FOLDER / "said-sorf-v1.safetensors"), "subspace=said"),
    ],
)
def test_what_does_not_share_a_space_is_not_added(other, message):
    with pytest.raises(StoreError, match=message):
        combine([(1.0, golden()), (1.0, other)])


# --- the commands ------------------------------------------------------------------------------------------


def test_a_run_whose_pickles_were_trusted_can_be_exported(make_spec, tmp_path):
    folder = tmp_path / "bert"
    config = hf.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    hf.BertModel(config).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(words))
    spec = make_spec(name=str(folder), allow_pickle=True, d=20, max_steps=2)
    store = Store(tmp_path / "runs")
    execute(spec, store, Loader())
    assert export(store.run(spec), tmp_path).stat().st_size > 0
    with pytest.raises(ModelError, match="pickled weights"):
        load(export(store.run(spec), tmp_path))


@pytest.mark.parametrize("name", ["C\u00a0sharp", "東京\u3000都", "👨\u200d👩\u200d👧", "می\u200cخواهم"])
def test_class_names_of_any_script_are_exported(name, tmp_path):
    found = golden()
    labels = (name, *found.labels[1:])
    (tmp_path / "x.safetensors").write_bytes(replace(found, labels=labels).to_bytes())
    assert FineTune.read(tmp_path / "x.safetensors").labels == labels


def test_export_and_eval_repeat_the_score_of_the_run(idim, runs, task_folder, tmp_path):
    run = runs["did bf16"][0]
    status, out, _ = idim("export", run.path, "--out", tmp_path / "x.safetensors")
    assert status == 0
    assert out.split()[0] == str(tmp_path / "x.safetensors")
    status, out, _ = idim("eval", tmp_path / "x.safetensors", "task=custom", f"task.path={task_folder}")
    assert status == 0
    assert out.splitlines()[0] == f"accuracy {run.result().score:.4f}"
    assert out.splitlines()[-1] == "40 rows of task, bf16"


def test_eval_of_data_of_ones_own_asks_for_them(idim, runs, task_folder, tmp_path):
    """A file keeps no path; and `custom`, as the task is called, is no task without one."""
    found = replace(FineTune.of_run(runs["did bf16"][0]), task="custom")
    (tmp_path / "x.safetensors").write_bytes(found.to_bytes())
    status, _, err = idim("eval", tmp_path / "x.safetensors")
    assert (status, err.count("\n")) == (2, 1)
    assert "the fine-tune's task is data of your own; add task=FILE, with task.text and task.label" in err
    status, out, _ = idim("eval", tmp_path / "x.safetensors", f"task.path={task_folder}")
    assert (status, out.splitlines()[-1]) == (0, "40 rows of task, bf16")


@pytest.mark.long
def test_eval_reads_the_columns_of_the_training(idim, make_spec, tmp_path):
    """Where rows have a `text` beside the `title` that was trained on; here it is of the other class."""
    folder, other = tmp_path / "rows", {"a": "z", "z": "a"}
    folder.mkdir()
    for name, rows in (("train", sentences(96)), ("validation", sentences(40, offset=1000))):
        turned = [
            {**row, "text": row["text"].translate(str.maketrans(other)), "title": row["text"]} for row in rows
        ]
        write_jsonl(folder / f"{name}.jsonl", turned)
    spec = make_spec(path=folder, text=("title",), d=2000, lr=0.05, max_steps=60)
    store = Store(tmp_path / "runs")
    result = execute(spec, store, Loader())
    assert result.score > 0.7
    file = export(store.run(spec), tmp_path)

    def accuracy(*words):
        status, out, said = idim("eval", file, *words)
        assert status == 0, said
        return float(out.split()[1])

    assert accuracy(f"task={folder}") == round(result.score, 4)
    assert accuracy("task=custom", f"task.path={folder}") == round(result.score, 4)
    assert accuracy(f"task={folder}", "task.text=text") < 0.5
    # A fifth by the hash of other columns is no fifth that was held out.
    one = tmp_path / "one.jsonl"
    one.write_bytes((folder / "train.jsonl").read_bytes())
    words = ("eval", file, f"task={one}", f"task.name={spec.task.name}")
    assert idim(*words)[0] == 0
    status, _, said = idim(*words, "task.text=text")
    assert (status, "task.text is not that of training" in said) == (2, True)
    assert idim(*words, "task.text=text", "task.validation=train")[0] == 0
    # A data set that idim knows has columns of its own.
    status, _, said = idim("eval", file, "task=pydoc-topic", "data.max_eval=5")
    assert (status, "answers calm, loud" in said) == (2, True)


def test_eval_of_own_rows_asks_for_the_kind_and_the_metric_of_the_training(idim, make_spec, tmp_path):
    folder = tmp_path / "graded"
    folder.mkdir()
    for name, rows in (("train", sentences(60)), ("validation", sentences(30, offset=1000))):
        write_jsonl(folder / f"{name}.jsonl", [{**row, "label": int(row["label"] == "loud")} for row in rows])
    for words in ({"regression": True, "metrics": ("spearman",)}, {"metrics": ("matthews", "f1")}):
        spec = make_spec(path=folder, d=100, lr=0.05, max_steps=4, **words)
        store = Store(tmp_path / f"runs {words['metrics'][0]}")
        result = execute(spec, store, Loader())
        (tmp_path / words["metrics"][0]).mkdir()
        file = export(store.run(spec), tmp_path / words["metrics"][0])
        status, out, said = idim("eval", file, f"task={folder}")
        assert (status, out.splitlines()[0]) == (0, f"{words['metrics'][0]} {result.score:.4f}"), said


def test_columns_that_a_known_data_set_has_anyway_are_not_asked_of_other_rows(
    idim, runs, task_folder, tmp_path
):
    run = runs["did bf16"][0]
    found = FineTune.of_run(run)
    assert found.asks == {}
    (tmp_path / "x.safetensors").write_bytes(
        replace(found, task="sst2", asks={"text": ["sentence"]}).to_bytes()
    )
    status, out, said = idim("eval", tmp_path / "x.safetensors", f"task={task_folder}")
    assert (status, out.split()[:2]) == (0, ["accuracy", f"{run.result().score:.4f}"]), said


def test_eval_scores_all_rows_of_the_split_that_it_is_told(idim, runs, tmp_path):
    """Of one split a fifth stands for a validation split, as in training, unless that split is named."""
    file = export(runs["did bf16"][0], tmp_path)
    write_jsonl(tmp_path / "all.jsonl", sentences(60))
    (tmp_path / "only").mkdir()
    write_jsonl(tmp_path / "only" / "test.jsonl", sentences(60))
    (tmp_path / "two").mkdir()
    write_jsonl(tmp_path / "two" / "train.jsonl", sentences(60))
    write_jsonl(tmp_path / "two" / "test.jsonl", sentences(10, offset=500))
    said = {row["text"] for row in sentences(60)}
    fifth = sum(hashlib.blake2b(text.encode(), digest_size=8).digest()[::-1] < b"\x33" * 8 for text in said)

    def last_line(*words):
        status, out, err = idim("eval", file, *words)
        assert status == 0, err
        return out.splitlines()[-1]

    way = "a fifth of its 60 by hash: held out of training where that set the same fifth apart"
    told = f"{fifth} rows of all, bf16, {way}; task.validation=train scores them all"
    assert last_line(f"task={tmp_path / 'all.jsonl'}") == told
    assert last_line(f"task={tmp_path / 'all.jsonl'}", "task.validation=train") == "60 rows of all, bf16"
    only = (f"task={tmp_path / 'only'}", "task.train=test")
    assert last_line(*only).endswith("; task.validation=test scores them all")
    assert last_line(*only, "task.validation=test") == "60 rows of only, bf16"
    two = f"task={tmp_path / 'two'}"
    assert last_line(two, "task.validation=train") == "60 rows of two, bf16"
    assert last_line(two, "task.validation=test") == "10 rows of two, bf16"
    assert last_line(two, "task.validation=train", "data.max_eval=7") == "7 rows of two, bf16"


def test_eval_scores_rows_of_one_label(idim, runs, tmp_path):
    """Whose score is the share of that class that is found; all rows together have the mean of both."""
    file, rows = export(runs["did bf16"][0], tmp_path), sentences(60)
    found = {}
    for label in ("calm", "loud", "both"):
        own = [row for row in rows if label in ("both", row["label"])]
        write_jsonl(tmp_path / f"{label}.jsonl", own)
        words = (f"task={tmp_path / label}.jsonl", "task.labels=[calm,loud]", "task.validation=train")
        status, out, err = idim("eval", file, *words, "data.max_train=3")
        assert status == 0, err
        assert f"{len(own)} rows of {label}" in out
        found[label] = float(out.split()[1]) * len(own)
    assert found["calm"] + found["loud"] == pytest.approx(found["both"], abs=0.01)


@pytest.mark.long
def test_eval_refuses_what_the_file_decides_and_tasks_of_other_labels(idim, files):
    status, _, err = idim("eval", files["did"], "task=pydoc-topic", "d=100")
    assert (status, err.count("\n")) == (2, 1)
    assert "d is fixed by the fine-tune" in err
    status, _, err = idim("eval", files["did"], "task=pydoc-topic", "data.max_eval=5")
    assert (status, err.count("\n")) == (2, 1)
    assert "answers calm, loud" in err


def test_rows_of_some_classes_alone_are_scored_by_naming_all_of_them(files, runs):
    found = replace(FineTune.read(files["did"]), labels=("calm", "loud", "mid"))
    task = runs["did bf16"][0].result().spec.task
    check_labels(found, task, found.labels)
    with pytest.raises(DataError, match=r"list all of them by task.labels=\[calm,loud,mid\]"):
        check_labels(found, task, ("calm", "mid"))
    with pytest.raises(DataError, match=r"list all of them by task.labels=\[calm,loud,mid\]"):
        check_labels(found, task, ("mid", "loud", "calm"))
    with pytest.raises(DataError, match="asks for calm, soft; evaluate it on a task with its labels"):
        check_labels(found, task, ("calm", "soft"))


def test_a_place_of_the_base_model_is_called_by_its_option(idim, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e_ap").mkdir()
    for model, word in (("e_ap", "write --model ./e_ap for the folder"), ("./e_ap", "config.json")):
        status, _, said = idim("apply", files["did"], "--out", tmp_path / "m", "--model", model)
        assert (status, said.count("\n")) == (2, 1)
        assert f"idim: --model {model} " in said
        assert word in said
        assert "model.name" not in said


def usual_mode(folder):
    """Of a new file."""
    (folder / "new").touch()
    return (folder / "new").stat().st_mode & 0o777


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_a_folder_that_the_disk_can_not_take_is_not_begun(idim, files, runs, tmp_path, there):
    out = tmp_path / "out"
    if there:
        out.mkdir()
    before = list(tmp_path.rglob("*"))
    for words in (
        ["apply", files["did"], "--out", out],
        ["export", runs["lora"][0].path, "--to", "peft", out],
    ):
        with largest_file(8 << 10):
            status, printed, said = idim(*words)
        assert (status, printed, said.count("\n")) == (2, "", 1)
        assert f"{out} can't be written (File too large); choose another folder" in said
        assert list(tmp_path.rglob("*")) == before
    assert idim(*words)[0] == 0
    assert (out / "adapter_model.safetensors").exists()


def test_an_interrupted_folder_leaves_nothing(tmp_path):
    def interrupted():
        with new_folder("--out", tmp_path / "deep" / "out") as draft:
            (draft / "config.json").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "deep").iterdir()) == []


def test_apply_and_a_missing_file(idim, files, tmp_path):
    assert idim("apply", files["did"], "--out", tmp_path / "m")[0] == 0
    assert (tmp_path / "m" / "model.safetensors").is_file()
    status, _, err = idim("apply", tmp_path / "none.safetensors", "--out", tmp_path / "n")
    assert (status, err.count("\n")) == (2, 1)
    assert not Path(tmp_path / "n").exists()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "m").iterdir()} == {usual_mode(tmp_path)}
    status, _, err = idim("export", tmp_path / "none", "--out", tmp_path / "n")
    assert (status, err.count("\n")) == (2, 1)
