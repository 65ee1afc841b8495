"""The subspace on every supported family of models, built tiny from its configuration."""

import copy

import pytest
import torch
import transformers as hf
from test_pretrained import BERT, FAMILIES, TOKENS

from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec, SubspaceSpec
from intrinsic_cli.subspace.attach import Subspace
from intrinsic_cli.subspace.selection import scale_names

DEBERTA = hf.DebertaConfig(
    relative_attention=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0, **BERT, **TOKENS
)
# Scales of SAID by layer, counted by hand for 3 layers: the layers, the parts outside them, and the head.
SCALES = {
    "bert": 3 + 3,  # embeddings, pooler, head
    "roberta": 3 + 2,  # embeddings, head
    "electra": 3 + 3,  # embeddings, their projection to the layers' width, head
    "distilbert": 3 + 2,  # embeddings, head
    "albert": 1 + 4,  # one shared layer; embeddings, their projection, pooler, head
    "deberta": 3 + 3,  # embeddings, relative positions, head
    "deberta-v3": 3 + 3,
    "gpt2": 3 + 4,  # words, positions, last norm, head
    "t5": 6 + 4,  # shared words, last norms of encoder and decoder, head
    "bart": 6 + 4,  # shared words, positions and norm of encoder and decoder, head
}


@pytest.fixture(scope="module", params=SCALES)
def family(request, tmp_path_factory):
    """(name, loaded model, a batch); to be copied, not trained."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    hf.AutoModel.from_config((FAMILIES | {"deberta": DEBERTA})[request.param]).save_pretrained(folder)
    pretrained.load(ModelSpec("tiny"), 2).tokenizer.save_pretrained(folder)
    loaded = pretrained.load(ModelSpec(str(folder)), 3)
    pretrained.draw_head(loaded.model, loaded.head, 0)
    texts = ["a fine day", "no", "it was what it was"]
    batch = loaded.tokenizer(texts, padding=True, return_tensors="pt")
    return request.param, loaded, {**batch, "labels": torch.tensor([0, 1, 2])}


def ties(model):
    """Groups of names that are one tensor."""
    by_id = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        by_id.setdefault(id(p), set()).add(name)
    return sorted(sorted(names) for names in by_id.values() if len(names) > 1)


@pytest.mark.parametrize("kind", ["did", "said"])
def test_two_steps_move_every_tensor_once_and_ties_hold(family, kind):
    name, loaded, batch = family
    model = copy.deepcopy(loaded.model)
    start = {key: p.detach().clone() for key, p in model.named_parameters()}
    tied = ties(model)
    assert bool(tied) == (name in ("t5", "bart"))
    space = Subspace(model, SubspaceSpec(kind), d=60, seed=0, head=loaded.head)
    assert space.m == (SCALES[name] if kind == "said" else 0)
    assert sum(p.numel() for p in start.values()) == space.D
    optimizer = torch.optim.Adam(space.parameters(), lr=0.1)
    losses = []
    model.eval()
    for _ in range(2):
        space.write()
        loss = model(**batch).loss
        losses.append(loss.item())
        loss.backward()
        space.collect()
        optimizer.step()
        optimizer.zero_grad()
    space.write()
    stuck = [key for key, p in model.named_parameters() if torch.equal(p, start[key])]
    assert not stuck
    assert len(dict(space.moved())) == len(start)
    assert (space.theta != 0).all()
    if space.lam is not None:
        assert (space.lam != 1).all()  # at θ ≠ 0 the loss depends on every scale
    assert ties(model) == tied
    assert losses[1] != losses[0]


def test_every_linear_layer_is_called_and_gets_an_adapter(family):
    _, loaded, _ = family
    assert loaded.idle == ()


def test_eval_and_train_mode_reach_the_model(family):
    _, loaded, batch = family
    model = copy.deepcopy(loaded.model)
    space = Subspace(model, SubspaceSpec("did"), d=10, seed=0, head=loaded.head)
    space.write()
    with torch.no_grad():
        model.eval()
        assert torch.equal(model(**batch).logits, model(**batch).logits)
        model.train()
        assert not torch.equal(model(**batch).logits, model(**batch).logits)


def test_the_attention_mask_reaches_the_model(family):
    """What stands behind the mask does not change the answer."""
    _, loaded, batch = family
    model = copy.deepcopy(loaded.model).eval()
    space = Subspace(model, SubspaceSpec("did"), d=10, seed=0, head=loaded.head)
    space.write()
    row = {key: value[1:2] for key, value in batch.items() if key != "labels"}
    short = {key: value[:, : int(row["attention_mask"].sum())] for key, value in row.items()}
    assert short["input_ids"].shape != row["input_ids"].shape
    with torch.no_grad():
        torch.testing.assert_close(model(**row).logits, model(**short).logits, rtol=1e-4, atol=1e-5)


def test_a_head_by_itself_is_found(family):
    _, loaded, _ = family
    model = copy.deepcopy(loaded.model)
    space = Subspace(model, SubspaceSpec("did", head="frozen"), d=10, seed=0, head=loaded.head)
    prefix = model.base_model_prefix + "."
    assert {key for key, _ in space.moved()} == {
        key for key, _ in model.named_parameters() if key.startswith(prefix)
    }


SIZES = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 1}
WRITERS = {  # language models, and the parts outside their 3 layers, counted by hand
    "gpt2": (hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=40, n_embd=16, n_layer=3, n_head=2)), 3),
    "pythia": (hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**SIZES)), 3),  # words in and out, last norm
    "llama": (hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)), 3),
    "smollm2": (hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED, tie_word_embeddings=True)), 2),
    "qwen2.5": (hf.Qwen2ForCausalLM(hf.Qwen2Config(**GROUPED, tie_word_embeddings=True)), 2),
    "qwen3": (hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED, head_dim=8, tie_word_embeddings=True)), 2),
}


@pytest.mark.parametrize("family", WRITERS)
def test_language_models_have_a_scale_for_each_layer_and_part(family):
    model, parts = WRITERS[family]
    space = Subspace(model, SubspaceSpec("said"), 30)
    assert space.m == 3 + parts
    assert sum(p.numel() for p in model.parameters()) == space.D  # tied words once
    groups = scale_names([name for name, _ in space.moved()], SubspaceSpec("said"))
    assert sum(name.split(".")[-1].isdigit() for name in groups) == 3
    assert scale_names(dict(space.moved()), SubspaceSpec("said", groups="tensor")) == [
        n for n, _ in space.moved()
    ]
    space.close(restore=True)
