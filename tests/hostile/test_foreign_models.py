# ruff: noqa: E501 (tables of settings)
"""Model folders made to break: each ends in success, or in one line and status 2, and runs no code of theirs."""

import json
import os
import pickle
import resource
import shutil
import struct

import pytest
import torch
import transformers as hf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.cases import Cases
from support.rows import sentences, write_jsonl

from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
         "vocab_size": 300, "pad_token_id": 0}  # fmt: skip
CONFIGS = {
    "bert": hf.BertConfig(**SIZES),
    "gpt2": hf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=300, bos_token_id=1, eos_token_id=2),
    "albert": hf.AlbertConfig(embedding_size=8, **SIZES),
    "distilbert": hf.DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, vocab_size=300, pad_token_id=0),
}  # fmt: skip
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    tokenizer = pretrained.load(ModelSpec("tiny"), 2).tokenizer
    made = {}
    for name, config in CONFIGS.items():
        made[name] = tmp_path_factory.mktemp(name)
        hf.AutoModel.from_config(config).save_pretrained(made[name])
        tokenizer.save_pretrained(made[name])
        assert sorted(os.listdir(made[name])) == FILES
    return made


@pytest.fixture
def cases(tmp_path, capsys):
    return Cases(tmp_path / "out", capsys)


@pytest.fixture
def run(cases, folders, tmp_path):
    """Run one step of a copy of a folder that `spoil` has changed; returns the one line, or "" for a success."""
    rows = write_jsonl(tmp_path / "rows.jsonl", sentences(40))

    def call(spoil, *words, family="bert"):
        copy = tmp_path / "model"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folders[family], copy)
        spoil(copy)
        # Here, as `idim run` has a stranger's model read in a process of its own, which takes seconds to start.
        return cases("sweep", "launcher=inline", "baseline.run=false", f"model.name={copy}", "task=custom",
                     f"task.path={rows}", "d=20", "train.max_steps=1", "data.max_length=16", "train.precision=fp32",
                     f"output_dir={cases.output}", *words)  # fmt: skip

    return call


def keys(file, **changes):
    """Set keys of a JSON file."""

    def spoil(folder):
        tree = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(tree | changes))

    return spoil


def content(file, data):
    return lambda folder: (folder / file).write_bytes(data)


def hole(file, size):
    def spoil(folder):
        with (folder / file).open("wb") as stream:
            stream.truncate(size)

    return spoil


def index(data):
    """Weights in pieces by this index, and not whole."""

    def spoil(folder):
        (folder / "model.safetensors").rename(folder / "other.safetensors")
        (folder / "model.safetensors.index.json").write_bytes(data)

    return spoil


def changed(change):
    """The weights as `change` makes them."""

    def spoil(folder):
        weights = change(load_file(folder / "model.safetensors"))
        save_file({k: t.contiguous().clone() for k, t in weights.items()}, folder / "model.safetensors",
                  metadata={"format": "pt"})  # fmt: skip

    return spoil


def tokenizer(**parts):
    return keys("tokenizer.json", **parts)


def added(word):
    """A token behind all those that the model has vectors for."""

    def spoil(folder):
        tree = json.loads((folder / "tokenizer.json").read_text())
        tree["added_tokens"].append({"id": 300, "content": word, "single_word": False, "lstrip": False,
                                     "rstrip": False, "normalized": False, "special": True})  # fmt: skip
        fill = {f"fill{i}": i for i in range(len(tree["model"]["vocab"]), 300)}
        tree["model"]["vocab"] |= fill
        (folder / "tokenizer.json").write_text(json.dumps(tree))

    return spoil


def whole(folders):
    return (folders["bert"] / "model.safetensors").read_bytes()


@pytest.mark.parametrize("family", CONFIGS)
def test_the_folders_are_good_unspoiled(run, family):
    assert run(lambda folder: None, family=family) == ""


ODD = [10**9, 10**30, -1, 0, None, "x", [], {}, 1.5, True, "../../x", {"a": "b"}, 1e308, float("nan")]
CONFIG_KEYS = {
    "bert": ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size", "num_labels",
             "max_position_embeddings", "type_vocab_size", "hidden_act", "layer_norm_eps", "hidden_dropout_prob",
             "initializer_range", "pad_token_id", "id2label", "problem_type", "auto_map", "return_dict", "rope_scaling",
             "output_hidden_states", "chunk_size_feed_forward", "model_type", "quantization_config", "architectures"],
    "gpt2": ["n_layer", "n_embd", "n_positions"],
    "albert": ["num_hidden_layers", "num_hidden_groups", "inner_group_num"],
    "distilbert": ["n_layers", "dim", "sinusoidal_pos_embds"],
}  # fmt: skip
TOKENIZER_KEYS = ["model_max_length", "pad_token", "tokenizer_class", "padding_side", "model_input_names", "auto_map",
                  "added_tokens_decoder", "extra_special_tokens"]  # fmt: skip


@pytest.mark.long
def test_settings_of_any_value(run, cases):
    """hidden_size = 10^9 would take more memory than there is: it is refused before any is taken."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pool = [(family, "config.json", key) for family, names in CONFIG_KEYS.items() for key in names]
    pool += [("bert", "tokenizer_config.json", key) for key in TOKENIZER_KEYS]

    @settings(
        max_examples=120, derandomize=True, deadline=None, database=None, suppress_health_check=HealthCheck
    )
    @given(st.sampled_from(pool), st.sampled_from(ODD))
    def generated(place, value):
        family, file, key = place
        run(keys(file, **{key: value}), family=family)

    generated()
    assert cases.counts.total() >= 120
    assert cases.counts["success"] > 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 2**20  # KiB


@pytest.mark.long
def test_files_with_random_damage(run, cases, folders):
    edits = st.lists(
        st.tuples(st.integers(0, 10**4), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4
    )

    @settings(
        max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=HealthCheck
    )
    @given(st.sampled_from(sorted(CONFIGS)), st.sampled_from(FILES), edits, st.booleans())
    def generated(family, file, edits, cut):
        data = bytearray((folders[family] / file).read_bytes())
        for at, piece in edits:
            at %= len(data)
            data[at : at + len(piece)] = piece
        run(content(file, bytes(data[: edits[0][0]] if cut else data)), family=family)

    generated()
    assert cases.counts.total() >= 60


@pytest.mark.long
@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (keys("config.json", hidden_size=10**9), "hidden_size=1000000000 of its config.json is more than"),
        (keys("config.json", hidden_size=2**14), "numbers, more than its weights could hold"),
        (keys("config.json", num_hidden_layers=10**9), "num_hidden_layers=1000000000"),
        (keys("config.json", num_attention_heads=-1), "can't read a sentence"),
        (keys("config.json", layer_norm_eps=float("nan")), "answers a sentence with [nan"),
        (keys("config.json", intermediate_size=0), "the shape (0, 16)"),
        (keys("config.json", model_type="nonesuch"), "can't be loaded"),
        (keys("config.json", auto_map={"AutoModel": "own.M"}), "brings its own code (auto_map in its config.json)"),
        (keys("tokenizer_config.json", auto_map={"AutoTokenizer": ["own.T", None]}), "auto_map in its tokenizer_config"),
        (keys("tokenizer_config.json", model_max_length="x"), "model_max_length='x'"),
        (content("config.json", b"null"), "can't be loaded"),
        (content("config.json", b"[" * 100_000), "can't be loaded"),
        (content("model.safetensors", b""), "are corrupt"),
        (content("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "are corrupt"),
        (content("model.safetensors", struct.pack("<Q", 2**62)), "are corrupt"),
        (content("tokenizer.json", b"{"), "can't be loaded"),
        (content("vocab.index.json", b"[]"), ""),
        (content("pytorch_model.bin.index.json", b'{"weight_map":{"a":"pytorch_model-1.bin"}}'), ""),
        (content("model.safetensors.index.json", b'{"weight_map":{"a":"none.safetensors"}}'), ""),
        (index(b"[]"), "model.safetensors.index.json is no index of weights"),
        (index(b'{"weight_map":{"a":"/dev/zero"}}'), "'/dev/zero', which is no file"),
        (index(b'{"weight_map":{"a":"../x"}}'), "'../x', which is no file"),
        (keys("config.json", _attn_implementation_internal="a/b"), "sets _attn_implementation_internal='a/b'"),
        (keys("config.json", _attn_implementation_internal="sdpa"), "sets _attn_implementation_internal='sdpa'"),
        (keys("config.json", attn_implementation="me/kernels"), "sets attn_implementation='me/kernels'"),
        (keys("config.json", _attn_implementation="me/kernels:fn"), "sets _attn_implementation='me/kernels:fn'"),
        (keys("config.json", attn_implementation={"": "me/kernels"}), "sets attn_implementation={'': 'me/kernels'}"),
        (keys("config.json", text_config={"attn_implementation": "a/b"}), "sets attn_implementation='a/b'"),
        (keys("config.json", attn_implementation="flash_attention_2"), "attn_implementation='flash_attention_2'"),
        (keys("config.json", experts_implementation="me/kernels"), "sets experts_implementation='me/kernels'"),
        (keys("config.json", attn_implementation="sdpa", _attn_implementation=None), ""),
        (keys("config.json", text_config={"x": [{"trust_remote_code": True}]}), "sets trust_remote_code=True"),
        (keys("tokenizer_config.json", trust_remote_code=True), "its tokenizer_config.json sets trust_remote_code"),
        (content("adapter_config.json", b'{"base_model_name_or_path":"x/y"}'), "holds an adapter"),
        (content("config.json", b" " * 2**24 + b"{}"), "bytes, and 16,777,216 are the most"),
        (hole("vocab.txt", 2**29), "its vocab.txt has 536,870,912 bytes"),
        (hole("config.json", 2**29), "its config.json has 536,870,912 bytes"),
        (hole("model.safetensors.index.json", 2**29), "its model.safetensors.index.json has 536,870,912 bytes"),
        (keys("tokenizer_config.json", added_tokens_decoder={str(i): {"content": f"a{i}"} for i in range(30_000)}),
         "adds 30000 tokens, and 20000 are the most"),
        (changed(lambda w: {k: t for k, t in w.items() if "layer.1." not in k}), "lack 16 of the"),
        (changed(lambda w: {k: t for k, t in w.items() if "layer.1.output" not in k}), "lack 4 of the"),
        (changed(lambda w: {k: t for k, t in w.items() if "LayerNorm.bias" not in k}), "lack 5 of the"),
        (changed(lambda w: {k: t for k, t in w.items() if "pooler" not in k}), ""),
        (changed(lambda w: w | {k.replace("layer.1.", "layer.2."): t for k, t in w.items()}), "have layers that its"),
        (changed(lambda w: w | {"cls.predictions.bias": torch.zeros(300)}), ""),
        (changed(lambda w: {k: t.to(torch.int8) for k, t in w.items()}), "is I8 and config.json has no quantization"),
        (changed(lambda w: {k: t.to(torch.float8_e4m3fn) for k, t in w.items()}), "is F8_E4M3 and config.json"),
        (changed(lambda w: w | {"embeddings.position_ids": torch.arange(512)[None]}), ""),
        (tokenizer(normalizer={"type": "Prepend", "prepend": "x" * 10**8}), "the tokenizer of model"),
        (tokenizer(normalizer={"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"Regex": "^|$|."}, "content": "aaaa"}] * 40}), "the tokenizer of model"),
        (tokenizer(post_processor={"type": "TemplateProcessing", "pair": [], "special_tokens": {},
                                   "single": [{"SpecialToken": {"id": "", "type_id": 0}}]}), "tokenizer"),
        (tokenizer(normalizer={"type": "Replace", "content": "b", "pattern": {  # panics at a longer sentence
            "Regex": r"(n|n|e|\w|.)*\1{50}(.*.*.*.*.*)*$"}}), "fails at a sentence (PanicException"),
        (tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "tokenizer"),
        (added("[NEW]"), "adds '[NEW]' behind the 300 token ids"),
        (lambda folder: os.mkfifo(folder / "vocab.txt"), "vocab.txt, which is neither a file nor a folder"),
        (lambda folder: os.symlink("/dev/zero", folder / "merges.txt"), "merges.txt, which is neither"),
    ],
)  # fmt: skip
def test_a_folder_is_refused_with_its_reason(run, spoil, part):
    said = run(spoil)
    assert bool(said) == bool(part), said
    assert part in said


@pytest.mark.long
def test_a_header_that_lies(run, cases, folders):
    data = whole(folders)
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    name = next(key for key in header if "word_embeddings" in key)
    lies = [{"shape": [10**9, 10**9]}, {"dtype": "F64"}, {"dtype": "Q9"}, {"data_offsets": [0, 10**15]}, {"shape": [-1]},
            {"data_offsets": [500, 5]}, {"shape": []}, {"shape": "x"}]  # fmt: skip
    for lie in lies:
        told = json.dumps(header | {name: header[name] | lie}).encode()
        assert "corrupt" in run(content("model.safetensors", struct.pack("<Q", len(told)) + told + body))
    assert cases.counts == {"refused": len(lies)}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda w: w.fill_(float("nan")), "holds NaN or infinity"),
        (lambda w: w.index_fill(0, torch.tensor([3]), float("inf")), "holds NaN or infinity"),
        (lambda w: w.half(), ""),
        (lambda w: w[:, :3], "belong together"),
    ],
)
def test_weights_that_measure_nothing(run, change, part):
    def spoil(folder):
        weights = load_file(folder / "model.safetensors")
        name = next(key for key in weights if "word_embeddings" in key)
        weights[name] = change(weights[name]).contiguous()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    assert part in run(spoil)


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("words", [[], ["model.allow_pickle=true"]])
@pytest.mark.parametrize("wrap", [pickle.dumps, None])
def test_a_pickle_runs_no_code(run, tmp_path, words, wrap):
    def spoil(folder):
        (folder / "model.safetensors").unlink()
        if wrap:
            (folder / "pytorch_model.bin").write_bytes(wrap(Code(tmp_path / "ran")))
        else:
            torch.save({"a": Code(tmp_path / "ran")}, folder / "pytorch_model.bin")

    assert "pickle" in run(spoil, *words)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "value", [{"AutoConfig": "own.C"}, {"AutoTokenizer": ["own.T", None]}, {"AutoModel": "own.M"}, "x"]
)
def test_no_code_of_the_folder_is_run_unasked(run, tmp_path, file, value):
    def spoil(folder):
        keys(file, auto_map=value, tokenizer_class="Own")(folder)
        (folder / "own.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")

    assert "model.trust_remote_code=true" in run(spoil)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_that_makes_ids_of_another_model(run):
    def vocabulary(**tokens):
        def spoil(folder):
            tree = json.loads((folder / "tokenizer.json").read_text())
            tree["model"]["vocab"].update(tokens)
            (folder / "tokenizer.json").write_text(json.dumps(tree))

        return spoil

    assert "belong to different models" in run(vocabulary(zz=10**6))
    assert "belong to different models" in run(vocabulary(a=10**6))
    assert "can't be loaded" in run(vocabulary(a=-1))


def test_a_tokenizer_that_leaves_nothing_of_a_row(run):
    def spoil(folder):
        tree = json.loads((folder / "tokenizer.json").read_text())
        everything = {"type": "Replace", "pattern": {"Regex": "a.*"}, "content": ""}
        (folder / "tokenizer.json").write_text(
            json.dumps(tree | {"post_processor": None, "normalizer": everything})
        )

    assert "leaves nothing of the row" in run(spoil)
