"""LoRA's layers in one product beside PEFT's own, which make it of three."""

import copy

import peft
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from transformers.pytorch_utils import Conv1D

from intrinsic_cli.models import lora

LAYERS = {
    "linear": lambda: nn.Linear(6, 9),
    "without bias": lambda: nn.Linear(6, 9, bias=False),
    "Conv1D": lambda: Conv1D(9, 6),
}


class Two(nn.Module):
    def __init__(self, first):
        super().__init__()
        self.first = first
        self.second = nn.Linear(9, 4)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def adapted(make, dtype=torch.float64, **options):
    """A model with LoRA away from its start, and the same computed in one product."""
    torch.manual_seed(0)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=["first", "second"], **options)
    plain = peft.inject_adapter_in_model(config, Two(make())).to(dtype)
    with torch.no_grad():
        for name, p in plain.named_parameters():
            if "lora_B" in name:
                p.copy_(torch.randn(p.shape))
    ours = copy.deepcopy(plain)
    lora.in_one_product(ours)
    return plain, ours


def results(model, x, moves=True):
    x = x.clone().requires_grad_(moves)
    y = model(x)
    (y.float() ** 2).sum().backward()
    found = {"y": y} | {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    return found | ({"x": x.grad} if moves else {})


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 6)])
@pytest.mark.parametrize("moves", [True, False], ids=["input moves", "input is data"])
def test_values_and_gradients_are_those_of_peft(make, shape, moves):
    plain, ours = adapted(make)
    assert {type(ours.first), type(ours.second)} == {lora.Linear}
    x = torch.randn(shape, dtype=torch.float64)
    wanted, found = results(plain, x, moves), results(ours, x, moves)
    assert len(wanted) == 5 + moves
    for name, value in wanted.items():
        assert value.abs().max() > 1e-6, name
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-8, msg=name)
    assert all(p.grad is None for p in ours.parameters() if not p.requires_grad)


def test_gradients_are_the_slopes():
    W, b = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    shapes = ((6, 5), (2, 5), (4, 2))
    x, A, B = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    assert gradcheck(lambda x, A, B: lora._Product.apply(x, W, b, A, B, 0.7), (x, A, B))


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_an_answer_may_be_changed_in_place_behind_other_axes(make):
    """As DeBERTa's attention adds its biases."""

    class InPlace(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            heads = self.model.first(x).view(2, 4, 3, 3).permute(0, 2, 1, 3)
            heads *= 2.0
            return self.model.second(heads.transpose(1, 2).reshape(2, 4, 9))

    plain, ours = adapted(make)
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    wanted, found = results(InPlace(plain), x), results(InPlace(ours), x)
    assert len(wanted) == 6
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-8, msg=name)


def test_nothing_as_large_as_the_weights_or_the_answer_is_kept_for_the_backward_pass():
    _, ours = adapted(lambda: nn.Linear(6, 9), torch.float32)
    layer, kept = ours.first, []
    x = torch.randn(50, 6, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x)
    own = {p.data_ptr() for p in layer.parameters()} | {x.data_ptr()}
    assert kept
    assert {t.data_ptr() for t in kept} <= own


@pytest.mark.parametrize(
    "options", [{"lora_dropout": 0.2}, {"use_dora": True}, {"lora_bias": True}, {"bias": "all"}], ids=str
)
def test_what_is_more_than_lora_is_left_to_peft(options):
    _, ours = adapted(lambda: nn.Linear(6, 9), **options)
    assert lora.Linear not in {type(module) for module in ours.modules()}


def test_coarse_numbers_and_merged_layers_are_left_to_peft():
    for dtype, autocast in ((torch.bfloat16, False), (torch.float32, True)):
        plain, ours = adapted(lambda: nn.Linear(6, 9), dtype)
        x = torch.randn(5, 6, dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            assert torch.equal(ours(x), plain(x))
    plain, ours = adapted(lambda: nn.Linear(6, 9))
    x = torch.randn(5, 6, dtype=torch.float64)
    wanted = ours(x)
    for layer in (ours.first, ours.second):
        layer.merge()
    torch.testing.assert_close(ours(x), wanted, rtol=1e-6, atol=1e-8)
