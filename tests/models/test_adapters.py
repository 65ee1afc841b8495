"""Adapters on every kind of model, against plain PEFT for their counts and dense matrices for P over them."""

import copy
import json
import math
import sys
import warnings

import peft
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file
from support.language import save_mixture
from support.oracle import fastfood
from torch import nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.models import adapters
from intrinsic_cli.planning.options import options
from intrinsic_cli.rundir import THETA
from intrinsic_cli.spec import ADAPTERS, AdapterSpec, ProjectionSpec, SubspaceSpec, stream_seed
from intrinsic_cli.subspace.attach import Full, Subspace

SMALL = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 48, "pad_token_id": 0, "num_labels": 3}  # fmt: skip
FAMILIES = {
    "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**SMALL)),
    "deberta": lambda: hf.DebertaV2ForSequenceClassification(
        hf.DebertaV2Config(relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], **SMALL)
    ),
    "gpt2": lambda: hf.GPT2ForSequenceClassification(
        hf.GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=2, n_positions=32, pad_token_id=0, num_labels=3,
                      bos_token_id=1, eos_token_id=2)
    ),
    "t5": lambda: hf.T5ForSequenceClassification(
        hf.T5Config(vocab_size=99, d_model=32, d_kv=16, num_layers=2, num_heads=2, d_ff=48, pad_token_id=0,
                    eos_token_id=2, decoder_start_token_id=0, num_labels=3)
    ),
    "llama": lambda: hf.LlamaForSequenceClassification(hf.LlamaConfig(num_key_value_heads=1, **SMALL)),
}  # fmt: skip
SPECS = {
    "lora": AdapterSpec("lora", 4, 6.0),
    "vera": AdapterSpec("vera", 8),
    "randlora": AdapterSpec("randlora", 8, 16.0),
    "ia3": AdapterSpec("ia3"),
    "unilora": AdapterSpec("unilora", 70),
    "tinylora": AdapterSpec("tinylora", 5),
    "fourierft": AdapterSpec("fourierft", 30, 10.0),
    "loha": AdapterSpec("loha", 2, 4.0),
    "lokr": AdapterSpec("lokr", 2, 4.0),
    "bitfit": AdapterSpec("bitfit"),
}
# What plain PEFT is asked for.
PLAIN = {
    "lora": lambda t: peft.LoraConfig(r=4, lora_alpha=6, **t),
    "vera": lambda t: peft.VeraConfig(r=8, **t),
    "randlora": lambda t: peft.RandLoraConfig(r=8, randlora_alpha=16, **t),
    "ia3": lambda t: peft.IA3Config(feedforward_modules=[], **t),
    "unilora": lambda t: peft.UniLoraConfig(theta_d_length=70, **t),
    "tinylora": lambda t: peft.TinyLoraConfig(u=5, **t),
    "fourierft": lambda t: peft.FourierFTConfig(n_frequency=30, scaling=10.0, **t),
    "loha": lambda t: peft.LoHaConfig(r=2, alpha=4, **t),
    "lokr": lambda t: peft.LoKrConfig(r=2, alpha=4, **t),
}
UNFIT = {("loha", "gpt2"), ("lokr", "gpt2"), ("bitfit", "t5"), ("bitfit", "llama")}
HEADS = {"bert": ["classifier"], "deberta": ["pooler.dense", "classifier"], "gpt2": ["score"],
         "t5": ["classification_head"], "llama": ["score"]}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """(name, model in evaluation mode, names of the head's parameters, a batch); to be copied, not changed."""
    torch.manual_seed(0)
    model = FAMILIES[request.param]().eval()
    prefixes = tuple(HEADS[request.param])
    head = tuple(name for name, _ in model.named_parameters() if name.startswith(prefixes))
    ids = torch.randint(3, 99, (4, 7), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = 2
    return request.param, model, head, {"input_ids": ids, "labels": torch.tensor([0, 1, 2, 1])}


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def counted_by_peft(kind, name, model):
    """Numbers that require a gradient after plain PEFT on all linear layers but the head."""
    base = copy.deepcopy(model)
    if kind == "bitfit":
        with_bias = [
            n for n, _ in base.named_parameters() if n.endswith("bias") or n.startswith(tuple(HEADS[name]))
        ]
        return sum(base.get_parameter(n).numel() for n in with_bias)
    head = tuple(HEADS[name])
    layers = [
        n for n, m in base.named_modules() if isinstance(m, nn.Linear | Conv1D) and not n.startswith(head)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = peft.get_peft_model(
            base, PLAIN[kind]({"target_modules": layers, "modules_to_save": HEADS[name]})
        )
    return sum(p.numel() for p in plain.parameters() if p.requires_grad)


def test_every_adapter_that_can_be_chosen_is_tested_here():
    assert set(options("adapter")) == set(ADAPTERS) == {"none", *SPECS}


@pytest.mark.long
@pytest.mark.parametrize("kind", SPECS)
def test_an_adapter_trains_as_many_numbers_as_in_peft_and_leaves_the_weights(family, kind):
    name, original, head, batch = family
    model = copy.deepcopy(original)
    if (kind, name) in UNFIT:
        with pytest.raises(ConfigError, match=f"adapter={kind} .*does not fit {type(model).__name__}"):
            adapters.attach(model, SPECS[kind], head, seed=3)
        return
    own = {id(p): (p, p.data_ptr(), p.detach().clone()) for p in model.parameters()}
    random_state = torch.get_rng_state()
    adapters.attach(model, SPECS[kind], head, seed=3)
    assert torch.equal(torch.get_rng_state(), random_state)
    with torch.no_grad():
        start = model(**batch).logits
        off = (start - original(**batch).logits).abs().max()
    assert off <= (1e-2 if kind == "unilora" else 1e-6)
    space = Full(model)
    assert space.d == sum(p.numel() for p in trained(model).values()) == counted_by_peft(kind, name, original)
    moved = trained(model)
    optimizer = torch.optim.Adam(moved.values(), lr=0.1)
    for _ in range(3):
        model(**batch).loss.backward()
        assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in moved.values())
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        assert (model(**batch).logits - start).abs().max() > 1e-3
    for p, place, value in own.values():
        assert p.requires_grad or (p.data_ptr() == place and torch.equal(p, value))
    kept = [p for p, _, _ in own.values() if not p.requires_grad]
    assert len(kept) >= len(own) - (len(moved) if kind == "bitfit" else len(head))


@pytest.mark.parametrize("kind", SPECS)
def test_merged_weights_are_those_of_the_adapter_in_the_plain_model(family, kind):
    name, original, head, batch = family
    if (kind, name) in UNFIT:
        return
    model = copy.deepcopy(original)
    adapters.attach(model, SPECS[kind], head, seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in trained(model).values():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
        wanted = model(**batch).logits
        adapters.merge(model)
        assert model.state_dict().keys() == original.state_dict().keys()
        torch.testing.assert_close(model(**batch).logits, wanted, rtol=1e-4, atol=2e-5)


def test_dense_layers_beside_experts_have_their_adapters(tmp_path):
    """DeepSeek-V3: a dense layer, and one of experts in one tensor with a shared one beside, named alike."""
    model = hf.AutoModelForCausalLM.from_pretrained(save_mixture(tmp_path)).eval()
    original = copy.deepcopy(model)
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and n != "lm_head"}
    assert {"model.layers.0.mlp.gate_proj", "model.layers.1.mlp.shared_experts.up_proj"} <= linear.keys()
    adapters.attach(model, SPECS["lora"], (), seed=3)
    assert sum(p.numel() for p in trained(model).values()) == sum(
        4 * (m.in_features + m.out_features) for m in linear.values()
    )
    with torch.no_grad():
        for p in trained(model).values():
            p.add_(0.05)
        ids = torch.tensor([[5, 6, 7, 8]])
        wanted = model(ids).logits
        adapters.merge(model)
        assert model.state_dict().keys() == original.state_dict().keys()
        torch.testing.assert_close(model(ids).logits, wanted, rtol=1e-4, atol=2e-5)
        assert (wanted - original(ids).logits).abs().max() > 1e-3


class Routed(nn.Module):
    """Two layers of three experts each, of which one row goes through one; a gate whose weight is read and that is
    never called; and a layer that no code reads, named as one of the experts' is."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({f"expert_{i}": nn.ModuleDict({"up": nn.Linear(4, 4)}) for i in range(3)})
            for _ in range(2)
        )
        self.gate = nn.Linear(4, 3)
        self.spare = nn.ModuleDict({"up": nn.Linear(4, 4)})

    def forward(self, x):
        chosen = int((x @ self.gate.weight.T).argmax())
        for layer in self.layers[:1]:  # as where the other is dropped
            x = layer[f"expert_{chosen}"]["up"](x)
        return x


def test_experts_and_layers_that_no_row_reached_keep_their_adapters():
    torch.manual_seed(0)
    model = Routed()
    with adapters.watched(model) as idle:
        model(torch.ones(4))
    assert idle == {"gate", "spare.up"}
    assert not any(module._forward_hooks for module in model.modules())
    adapters.attach(model, SPECS["lora"], idle=sorted(idle))
    adapted = {name.partition(".lora_")[0] for name in trained(model)}
    assert adapted == {f"layers.{i}.expert_{j}.up" for i in range(2) for j in range(3)}


class Scored(nn.Linear):
    """A layer that gives its scores twice, as routers of mixtures do."""

    def forward(self, x):
        scores = super().forward(x)
        return scores, scores.softmax(-1)


class Grouped(nn.Linear):
    """A layer whose input is longer than its weight: each half of it goes through the whole."""

    def forward(self, x):
        return sum(super(Grouped, self).forward(half) for half in x.chunk(2, -1))


class OfItsOwn(nn.Linear):
    def forward(self, input):
        return super().forward(input) / 2


def test_linear_layers_that_take_or_give_something_else_get_no_adapter():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.router, self.grouped, self.halved, self.last = (
                Scored(4, 3),
                Grouped(2, 4),
                OfItsOwn(4, 5),
                nn.Linear(5, 2),
            )

        def forward(self, x):
            return self.last(self.halved(self.grouped(x))) + self.router(x)[1][..., :2]

    model = Mixture()
    with adapters.watched(model) as idle:
        before = model(torch.ones(6, 4))
    assert idle == {"router", "grouped"}
    adapters.attach(model, SPECS["lora"], idle=sorted(idle))
    assert {name.partition(".lora_")[0] for name in trained(model)} == {"halved", "last"}
    torch.testing.assert_close(model(torch.ones(6, 4)), before)  # LoRA begins at 0


def test_layers_that_peft_adapts_by_their_last_name_alone_are_refused():
    """PEFT takes `dense` for `inner.dense` too, which is the head here and gets no adapter."""
    model = nn.ModuleDict({"dense": nn.Linear(8, 8), "inner": nn.ModuleDict({"dense": nn.Linear(8, 8)})})
    with pytest.raises(ConfigError, match=r"other layers of ModuleDict .*\(inner.dense\); leave them out"):
        adapters.attach(model, SPECS["lora"], ["inner.dense.weight"], seed=3)


def test_layers_that_peft_is_told_to_exclude_have_no_adapter(family):
    name, original, head, _ = family
    if name != "bert":
        return
    model = copy.deepcopy(original)
    adapters.attach(model, AdapterSpec("lora", 4, args={"exclude_modules": ["key"]}), head, seed=3)
    adapted = {n for n in trained(model) if "lora_A" in n}
    assert adapted
    assert not any(".key." in n for n in adapted)


def test_what_an_adapter_draws_is_its_seeds(family):
    name, original, head, _ = family
    for kind in ("lora", "vera", "unilora", "tinylora", "fourierft"):
        drawn = []
        for seed in (3, 3, 4):
            model = copy.deepcopy(original)
            adapters.attach(model, SPECS[kind], head, seed)
            layer = next(m for m in model.modules() if isinstance(m, peft.tuners.tuners_utils.BaseTunerLayer))
            with torch.no_grad():
                for p in trained(model).values():
                    p.fill_(0.1) if kind != "lora" else None
            state = (
                [layer.lora_A["default"].weight] if kind == "lora" else [layer.get_delta_weight("default")]
            )
            drawn.append(torch.cat([t.detach().flatten() for t in state]))
        assert torch.equal(drawn[0], drawn[1]), (name, kind)
        assert not torch.equal(drawn[0], drawn[2]), (name, kind)


@pytest.mark.parametrize(("kind", "head_mode"), [("did", "projected"), ("said", "frozen")])
def test_theta_over_loras_factors_has_the_jacobian_of_the_merged_weights(family, kind, head_mode):
    """W(θ) = W + (α / r) B(θ) A(θ), both factors moved by P, differentiated by autograd in float64."""
    name, original, head, batch = family
    model, exact = copy.deepcopy(original), copy.deepcopy(original).double()
    spec = AdapterSpec("lora", 4, 6.0)
    adapters.attach(model, spec, head, seed=3)
    starts = {
        n: p.detach().clone() for n, p in trained(model).items() if head_mode == "projected" or n not in head
    }
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    subspace = SubspaceSpec(kind, groups="tensor", head=head_mode)
    m = len(starts) if kind == "said" else 0
    space = Subspace(model, subspace, 60 + m, 7, ProjectionSpec("fastfood"), head=head)
    D = sum(p.numel() for p in starts.values())
    assert (space.D, len(space.theta)) == (D, 60)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        space.theta.copy_(0.5 * torch.randn(60, generator=generator))
        if space.lam is not None:
            space.lam.copy_(1 + 0.2 * torch.randn(m, generator=generator))
    space.write()
    loss = model(**batch).loss
    loss.backward()
    space.collect()

    theta = space.theta.detach().double().requires_grad_()
    lam = None if space.lam is None else space.lam.detach().double().requires_grad_()
    numbers = {}
    for i, (n, start) in enumerate(starts.items()):
        P = torch.from_numpy(fastfood(start.numel(), 60, stream_seed(7, f"P/{n}")))
        shift = math.sqrt(start.numel() / D) * (P @ theta).view(start.shape)
        numbers[n] = start.double() + (shift if lam is None else lam[i] * shift)
    weights = {n: w for n, w in numbers.items() if n in head}
    for n in starts:
        if ".lora_A." not in n:
            continue
        layer = n.partition(".lora_A.")[0]
        product = 6 / 4 * numbers[n.replace("lora_A", "lora_B")] @ numbers[n]
        own = exact.get_submodule(layer)
        weights[f"{layer}.weight"] = own.weight.detach() + (product.T if isinstance(own, Conv1D) else product)
    expected_loss = functional_call(exact, weights, kwargs=batch).loss
    torch.testing.assert_close(loss.detach().double(), expected_loss.detach().double(), rtol=1e-5, atol=1e-6)
    wanted = torch.autograd.grad(expected_loss, [theta] if lam is None else [theta, lam])
    for ours, oracle in zip([space.theta, space.lam], wanted, strict=False):
        assert oracle.norm() > 1e-5, name
        torch.testing.assert_close(ours.grad.double(), oracle, rtol=1e-3, atol=1e-4 * oracle.norm().item())
    space.close()
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    for n, value in frozen.items():
        assert torch.equal(model.get_parameter(n), value), n


def test_theta_zero_is_no_saddle_as_b_moves_before_a(family):
    _, original, head, batch = family
    model = copy.deepcopy(original)
    adapters.attach(model, AdapterSpec("lora", 4), head, seed=3)
    with Subspace(model, SubspaceSpec("did", head="frozen"), 40, head=head) as space:
        space.write()
        model(**batch).loss.backward()
        space.collect()
        assert space.theta.grad.norm() > 1e-5


def test_patterns_choose_layers_by_their_names_or_ends(family):
    name, original, head, _ = family
    ends = {"bert": "query", "deberta": "query_proj", "gpt2": "c_attn", "t5": "q", "llama": "q_proj"}
    count = 6 if name == "t5" else 2  # encoder, decoder, and its look at the encoder
    for pattern in (ends[name], f"*.{ends[name]}"):
        model = copy.deepcopy(original)
        adapters.attach(model, AdapterSpec("lora", 1, target=(pattern,)), head)
        chosen = {n.partition(".lora_")[0] for n in trained(model) if "lora_" in n}
        assert len(chosen) == count
        assert all(n.endswith(f".{ends[name]}") for n in chosen)


def test_a_bias_that_no_layer_could_take_up_is_refused_before_training():
    """PEFT says so when the adapter is merged."""
    model = hf.LlamaForSequenceClassification(hf.LlamaConfig(num_key_value_heads=1, **SMALL))
    with pytest.raises(ConfigError, match=r"lora_bias=True: .*proj has no bias that it could be merged into"):
        adapters.attach(model, AdapterSpec("lora", args={"lora_bias": True}), ["score.weight"], 0)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (AdapterSpec("lora", target=("qeury",)), r"'qeury' matches no linear layer; there are dense, key, query"),
        (AdapterSpec("bitfit", target=("nothing",)), r"'nothing' matches no layer with a bias; there are Layer"),
        (AdapterSpec("ia3", 4), r"adapter.r=4: adapter=ia3 has none"),
        (AdapterSpec("bitfit", 4), r"adapter.r=4: adapter=bitfit has none"),
        (AdapterSpec("vera", alpha=2.0), r"adapter.alpha=2: adapter=vera has none"),
        (AdapterSpec("lora", args={"use_dore": True}), r"'use_dore'.*did you mean use_dora"),
        (AdapterSpec("lora", args={"r": 3}), r"'r'.*is set by adapter.r"),
        (AdapterSpec("lora", args={"target_modules": ["query"]}), r"adapter.target"),
        (AdapterSpec("lora", args={"layers_to_transform": [1]}), r"adapter.target"),
        (AdapterSpec("lora", args={"lora_dropout": "much"}), r"does not fit BertForSequenceClassification"),
        (AdapterSpec("lora", args={"init_lora_weights": "pissa"}), r"would change the pre-trained weights"),
        (AdapterSpec("lora", args={"init_lora_weights": "olora"}), r"would change the pre-trained weights"),
        (AdapterSpec("lora", args={"init_lora_weights": False}), r"would change the pre-trained weights"),
        (AdapterSpec("loha", 2, args={"init_weights": False}), r"init_weights=False would begin at noise"),
        (AdapterSpec("lokr", 2, args={"init_weights": 0}), r"init_weights=0 would begin at noise"),
        (AdapterSpec("ia3", args={"init_ia3_weights": False}), r"init_ia3_weights=False would begin at noise"),
        (AdapterSpec("lora", args={"megatron_core": "antigravity"}), r"'megatron_core'"),
        (AdapterSpec("lora", 10**9), r"of size 1,000,000,000 would have more numbers than four of BertFor"),
        (AdapterSpec("lokr", 2, args={"rank_pattern": {"query": 10**8}}), r"of size 100,000,000"),
        (AdapterSpec("unilora", 10**9), r"of size 1,000,000,000"),
        (AdapterSpec("fourierft", 4, args={"n_frequency_pattern": {"query": 10**7}}), r"of size 10,000,000"),
        (AdapterSpec("fourierft", 5000), r"does not fit BertForSequenceClassification.*5000"),
    ],
)  # fmt: skip
def test_what_can_not_be_built_is_said_in_a_line(spec, words):
    model = FAMILIES["bert"]()
    with pytest.raises(ConfigError, match=words):
        adapters.attach(model, spec, ("classifier.weight", "classifier.bias"))


def test_args_reach_peft():
    model = FAMILIES["bert"]()
    adapters.attach(model, AdapterSpec("lora", 2, args={"use_dora": True, "rank_pattern": {"query": 5}}))
    assert any("magnitude" in n for n in trained(model))
    assert {len(p) for n, p in trained(model).items() if "query.lora_A" in n} == {5}
    model = FAMILIES["bert"]()
    adapters.attach(model, AdapterSpec("ia3", args={"feedforward_modules": ["output.dense"]}))
    inputs = {n: p.shape for n, p in trained(model).items() if "ia3_l" in n and ".0.output.dense" in n}
    assert list(inputs.values()) == [(1, 48)]


@pytest.mark.parametrize(
    "values", [{"r": 0}, {"r": -1}, {"alpha": 0.0}, {"target": ()}, {"args": {"x": math.nan}}]
)
def test_an_adapter_of_no_size_is_no_spec(values):
    with pytest.raises(ConfigError, match=f"adapter.{next(iter(values))}="):
        AdapterSpec("lora", **values)


def test_keys_without_an_adapter_are_refused():
    with pytest.raises(ConfigError, match=r"adapter.r has no meaning with adapter=none; add adapter=lora"):
        AdapterSpec(r=4)


def test_without_peft_the_extra_is_named(idim, task_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    words = [f"task={task_folder}", "task.text=text", "task.label=label", f"output_dir={tmp_path / 'o'}"]
    status, printed, said = idim("run", "model=tiny", "adapter=lora", "subspace=full", *words)
    assert (status, printed) == (2, "")
    assert 'adapter=lora needs peft, which is not installed; pip install "intrinsic-cli[peft]"' in said
    assert said.count("\n") == 1


@pytest.mark.long
@pytest.mark.parametrize("kind", SPECS)
def test_every_adapter_that_is_listed_trains_and_its_numbers_are_counted(kind, idim, task_folder, tmp_path):
    status, listed, _ = idim("list", "adapters")
    assert kind in [line.split()[0] for line in listed.splitlines()]
    sizes = {"vera": 8, "fourierft": 40, "tinylora": 3, "unilora": 30}
    size = [f"adapter.r={sizes[kind]}"] if kind in sizes else []
    words = [
        f"task={task_folder}", "task.text=text", "task.label=label", f"output_dir={tmp_path / 'o'}", "model=tiny",
        "subspace=full", f"adapter={kind}", "train.max_steps=2", *size,
    ]  # fmt: skip
    status, _, said = idim("run", *words)
    assert status == 0, said
    [run] = (tmp_path / "o").iterdir()
    status, shown, _ = idim("show", run, "--json")
    assert status == 0
    found, tensors = json.loads(shown), load_file(run / THETA)
    assert found["spec"]["adapter"]["kind"] == kind
    assert 66 < found["d"] == sum(t.numel() for t in tensors.values()) < found["D"]
    status, said, _ = idim("export", run, "--out", tmp_path / "small.safetensors")
    assert (status, f"{(tmp_path / 'small.safetensors').stat().st_size:,} bytes" in said) == (0, True)
    status, said, _ = idim("show", run)
    assert (status, f"adapter={kind}" in said) == (0, True)
