"""Weights of a coarse dtype are trained as float32 numbers."""

import copy

import pytest
import torch
from torch import nn

from intrinsic_cli.spec import SubspaceSpec
from intrinsic_cli.subspace.attach import Full, Subspace
from intrinsic_cli.subspace.exact import narrowed


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))


def train(space, model, lr, parameters, steps=60):
    """Steps of AdamW towards one answer, whose gradients keep their signs."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    dtype = model[0].weight.dtype
    rows = torch.randn(32, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    for _ in range(steps):
        space.write()
        nn.functional.cross_entropy(model(rows).float(), torch.zeros(32, dtype=torch.long)).backward()
        space.collect()
        optimizer.step()
        optimizer.zero_grad()
    space.write()


def distance(trained, start):
    return torch.cat([(p.detach() - q).flatten() for p, q in zip(trained, start, strict=True)]).norm()


@pytest.mark.parametrize("lr", [1e-5, 3e-5, 1e-4])
def test_full_fine_tuning_goes_as_far_in_bfloat16(lr):
    went = []
    for dtype in (None, torch.bfloat16):
        model = network()
        start = [p.detach().clone() for p in model.parameters()]
        space = Full(model, dtype)
        train(space, model, lr, list(space.direct))
        went.append(distance(space.direct, start))
        assert all(p.dtype == (dtype or torch.float32) for p in model.parameters())
        for p, own in zip(model.parameters(), space.direct, strict=True):
            assert torch.equal(p, own.to(p.dtype))  # the model is what was trained, rounded once
    assert float(went[1] / went[0]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("lr", [1e-5, 1e-4])
def test_a_head_trained_beside_a_subspace_goes_as_far_in_bfloat16(lr):
    went = []
    for dtype in (None, torch.bfloat16):
        model = network()
        names = ["2.weight", "2.bias"]
        start = [p.detach().clone() for p in model[2].parameters()]
        space = Subspace(model, SubspaceSpec("did", head="trained"), 50, head=names, dtype=dtype)
        train(space, model, lr, list(space.direct))
        went.append(distance(space.direct, start))
        assert all(p.dtype == torch.float32 for p in space.parameters())
    assert float(went[1] / went[0]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_start_takes_two_bytes_a_number_where_these_hold_it_exactly(dtype):
    torch.manual_seed(0)
    own = {"a": torch.randn(60, 50), "head": torch.randn(3, 50), "norm": torch.ones(50)}
    coarse = own | {"a": own["a"].to(dtype).float(), "zero": torch.tensor([-0.0, 0.0, float("inf")])}
    found = narrowed(coarse)
    kept = {"a": dtype, "head": torch.float32, "norm": torch.bfloat16, "zero": torch.bfloat16}
    assert {name: values.dtype for name, values in found.items()} == kept
    for name, values in coarse.items():
        assert torch.equal(found[name].float().view(torch.int32), values.view(torch.int32))  # to the bit
    assert found["head"] is coarse["head"]
    # Of weights that are float32 nothing is turned: not even what could be, which would be a launch for little.
    assert all(values is own[name] for name, values in narrowed(own).items())
    # Nor what a half has no number for.
    for odd in (float("nan"), 1 + 2**-12):
        values = torch.full((4,), odd)
        assert narrowed({"w": values})["w"] is values


@pytest.mark.parametrize("target", [torch.float32, torch.bfloat16])
def test_narrow_starts_give_the_same_weights_to_the_bit(target):
    coarse = network().to(torch.bfloat16)
    written = []
    for model in (copy.deepcopy(coarse).float(), copy.deepcopy(coarse)):
        space = Subspace(model, "said", 40, seed=3, dtype=target)
        with torch.no_grad():
            space.theta.normal_(generator=torch.Generator().manual_seed(1))
            space.lam.uniform_(generator=torch.Generator().manual_seed(2))
        space.write()
        written.append(list(model.parameters()))
        assert all(p.dtype == target for p in model.parameters())
    for wide, narrow in zip(*written, strict=True):
        assert torch.equal(wide, narrow)


def test_float32_weights_are_trained_themselves():
    model = network()
    space = Full(model)
    assert all(p is own for p, own in zip(model.parameters(), space.direct, strict=True))


def test_gradients_of_several_passes_are_summed_in_float32():
    """1,000 passes of equal gradients: a bfloat16 sum of them stands still at 256 of the first."""
    model = nn.Linear(1, 1, bias=False)
    space = Full(model, torch.bfloat16)
    for _ in range(1000):
        model(torch.ones(1, 1, dtype=torch.bfloat16)).sum().backward()
        space.end_pass()
    space.collect()
    assert space.direct[0].grad.item() == 1000


def test_restoring_gives_back_the_head(tmp_path):
    model = network()
    before = copy.deepcopy(model.state_dict())
    space = Subspace(
        model, SubspaceSpec("did", head="trained"), 50, head=["2.weight", "2.bias"], dtype=torch.bfloat16
    )
    train(space, model, 1e-2, list(space.parameters()), steps=3)
    space.close(restore=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name].to(torch.bfloat16))
