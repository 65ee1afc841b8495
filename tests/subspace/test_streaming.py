"""Streamed weights give the same bits as kept ones, and are there only while their layer runs."""

import copy

import pytest
import torch
import transformers
from test_attach import HEAD, Toy, copies, loss_of, same_bits
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.models import adapters
from intrinsic_cli.spec import AdapterSpec, ProjectionSpec, SubspaceSpec
from intrinsic_cli.subspace.attach import Subspace
from intrinsic_cli.subspace.streaming import layers_of, own_weights


@pytest.fixture
def toy():
    torch.manual_seed(0)
    return Toy()


def make_batch(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(11, (8, 5), generator=generator)
    mask = (torch.rand(8, 5, generator=generator) > 0.3).to(dtype)
    return {"ids": ids, "mask": mask}, torch.randint(3, (8,), generator=generator)


def stream(model, kind="did", dtype=None, cache="stream", **options):
    spec, projection = SubspaceSpec(kind, **options), ProjectionSpec(cache=cache)
    return Subspace(model, spec, 60, 7, projection, head=HEAD, dtype=dtype)


def layer_weights(model):
    return [p for name, p in model.named_parameters() if name.startswith("layers.")]


def curve(model, space, dtype):
    """Losses, logits and trained numbers of four steps of two micro-batches, with an evaluation after each."""
    optimizer = torch.optim.Adam(space.parameters(), lr=0.05)
    torch.manual_seed(1)
    found = []
    for step in range(4):
        space.write()
        for half in (0, 1):
            loss = loss_of(model.train(), make_batch(2 * step + half, dtype)).float()
            loss.backward()
            found.append(loss.detach())
        space.collect()
        optimizer.step()
        optimizer.zero_grad()
        space.write()
        with torch.inference_mode():
            inputs, _ = make_batch(99, dtype)
            found.append(model.eval()(**inputs).float().clone())
        found += [p.detach().clone() for p in space.parameters()]
    return found


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"kind": "did"}, None),
        ({"kind": "did", "head": "trained"}, None),
        ({"kind": "said", "normalize": "tensor"}, None),
        ({"kind": "said", "groups": "tensor"}, torch.bfloat16),
    ],
)
def test_training_has_the_bits_of_kept_weights(toy, options, dtype):
    kept_model = copy.deepcopy(toy)
    space, kept = (
        stream(toy, dtype=dtype, **options),
        stream(kept_model, dtype=dtype, cache="store", **options),
    )
    ours, theirs = (curve(*pair, dtype or torch.float32) for pair in ((toy, space), (kept_model, kept)))
    assert len(ours) == len(theirs)
    assert all(same_bits(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[-1], ours[-1 - len(ours) // 4])  # and it did train
    space.close()
    expected = copies(kept_model)
    assert all(torch.equal(p, expected[name]) for name, p in toy.named_parameters())


def test_weights_are_there_only_while_their_layer_runs(toy):
    space = stream(toy)
    space.write()
    storages = []

    def look(layer):
        assert all(p.isfinite().all() for p in layer.parameters())
        storages.extend(StorageWeakRef(p.untyped_storage()) for p in layer.parameters())

    for layer in toy.layers:
        layer.norm.register_forward_pre_hook(lambda _, __, layer=layer: look(layer))
    loss = loss_of(toy, make_batch(0))
    assert len(storages) == 8
    assert all(storage.expired() for storage in storages)  # the graph of the loss holds none of them
    assert all(p.isnan().all() for p in layer_weights(toy))
    assert all(p.isfinite().all() for name, p in toy.named_parameters() if not name.startswith("layers."))
    loss.backward()
    assert all(p.isnan().all() for p in layer_weights(toy))


def test_a_forward_pass_that_fails_leaves_the_layers_as_they_were(toy):
    space = stream(toy.eval())
    space.write()
    expected = loss_of(toy, make_batch(0))
    failing = toy.layers[1].norm.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss_of(toy, make_batch(0))
    assert all(p.isnan().all() for p in layer_weights(toy))
    failing.remove()
    assert torch.equal(loss_of(toy, make_batch(0)), expected)


def test_layers_and_what_is_theirs_alone():
    inner = nn.Module()
    inner.steps, inner.norm = nn.ModuleList([nn.Linear(2, 2)]), nn.LayerNorm(2)
    model = nn.ModuleDict({"blocks": nn.ModuleList([inner, nn.Linear(2, 2)]), "out": nn.Linear(2, 2)})
    assert layers_of(model) == [inner, model.blocks[1]]
    assert len(own_weights(model, inner)) == 4
    model.out.weight = inner.steps[0].weight
    assert own_weights(model, inner) == {id(p) for p in (inner.steps[0].bias, *inner.norm.parameters())}


def test_what_layers_share_is_nobodys_alone():
    layers = nn.ModuleList(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)) for _ in range(2))
    layers[1][1] = layers[0][1]  # one module in two layers, as the vector of Uni-LoRA is
    model = nn.Sequential(layers)
    assert [own_weights(model, layer) for layer in layers] == [
        {id(layer[0].weight), id(layer[0].bias)} for layer in layers
    ]


@pytest.mark.parametrize("kind", ["lora", "unilora", "vera"])
def test_an_adapters_numbers_are_streamed_with_the_same_bits(toy, kind):
    spec = AdapterSpec(kind, {"lora": 2, "unilora": 90, "vera": 8}[kind])
    models = [toy, copy.deepcopy(toy)]
    runs = []
    for model, cache in zip(models, ("store", "stream"), strict=True):
        adapters.attach(model, spec, HEAD, seed=3)
        with stream(model, cache=cache) as space:
            runs.append(curve(model, space, torch.float32))
    assert all(same_bits(a, b) for a, b in zip(*runs, strict=True))
    assert all(torch.isfinite(each).all() for each in runs[0])


def test_a_model_without_layers_keeps_its_weights():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    space = Subspace(model, SubspaceSpec("did"), 5, 0, ProjectionSpec(cache="stream"))
    space.write()
    assert all(p.isfinite().all() for p in model.parameters())


class Nested(nn.Module):
    """Layers in lists of lists, which are called by their `forward`, past all hooks."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList(nn.Linear(6, 6) for _ in range(2)) for _ in range(2))

    def forward(self, x):
        for block in self.blocks:
            for layer in block:
                x = torch.tanh(layer.forward(x))
        return x


def test_layers_in_lists_of_lists_that_are_called_past_their_hooks_are_streamed():
    assert len(layers_of(Nested())) == 4
    found = []
    for cache in ("store", "stream"):
        torch.manual_seed(0)
        model, x = Nested(), torch.linspace(-1, 1, 18).view(3, 6)
        forwards = [vars(layer).get("forward") for layer in layers_of(model)]
        with Subspace(model, "said", 40, 7, ProjectionSpec(cache=cache)) as space:
            for _ in range(2):
                space.write()
                model(x).square().sum().backward()
                space.collect()
                with torch.no_grad():
                    space.theta -= 0.1 * space.theta.grad
        assert [vars(layer).get("forward") for layer in layers_of(model)] == forwards
        found.append([space.theta.detach(), space.lam.grad, *(p.detach() for p in model.parameters())])
    assert all(p.isfinite().all() for p in found[0])
    assert all(map(torch.equal, *found))


def test_a_forward_that_others_have_patched_is_left_to_them():
    torch.manual_seed(0)
    model, x = Nested(), torch.ones(2, 6)
    layer = model.blocks[0][0]
    space = Subspace(model, "did", 40, 7, ProjectionSpec(cache="stream"))
    streamed = layer.forward
    layer.forward = lambda *args: streamed(*args)  # as accelerate's hooks do
    space.close()
    layer.forward = streamed  # and put it back
    with torch.no_grad():
        layer.weight.fill_(2.0)
    assert model(x).isfinite().all()
    assert torch.equal(layer.weight, torch.full((6, 6), 2.0))


def test_a_patch_that_ends_before_the_space_leaves_weights_behind():
    torch.manual_seed(0)
    model = Nested()
    layer = model.blocks[0][0]
    own = layer.forward
    layer.forward = lambda *args: own(*args)
    space = Subspace(model, "did", 40, 7, ProjectionSpec(cache="stream"))
    del layer.forward
    space.close()
    assert model(torch.ones(2, 6)).isfinite().all()


def test_parts_of_a_module_dict_are_streamed():
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.ModuleDict({"a": nn.Linear(6, 6)}) for _ in range(2))

        def forward(self, x):
            for layer in self.layers:
                x = layer["a"](x)
            return x

    with Subspace(model := Parts(), "did", 20, 7, ProjectionSpec(cache="stream")) as space:
        space.write()
        assert model(torch.ones(2, 6)).isfinite().all()


def test_gradient_checkpointing_past_a_stream_is_refused():
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=20
    )
    model = transformers.BertForSequenceClassification(config)
    with Subspace(model, "did", 20, 7, ProjectionSpec(cache="stream")) as space:
        space.write()
        model.gradient_checkpointing_enable()
        ids = torch.ones(2, 4, dtype=torch.long)
        with pytest.raises(ConfigError, match="gradient_checkpointing_disable"):
            model.train()(input_ids=ids)
        assert model.eval()(input_ids=ids).logits.isfinite().all()
