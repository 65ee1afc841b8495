"""What a subspace does to a model that is refused, copied, cast or left in the middle of a step."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.spec import ProjectionSpec, SubspaceSpec
from intrinsic_cli.subspace import attach
from intrinsic_cli.subspace.attach import Subspace


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Linear(24, 3))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(10, (16, 3), generator=generator), torch.arange(16) % 3


def loss_of(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def gradients(batch, theta, kind="did"):
    """Of θ and λ, by a subspace that does nothing else."""
    with Subspace(network_ := network(), kind, d=20) as space:
        space.load_state_dict(theta)
        space.write()
        loss_of(network_, batch).backward()
        space.collect()
        return [p.grad.clone() for p in space.parameters()]


def stepped(space):
    with torch.no_grad():
        space.theta += torch.linspace(-1, 1, len(space.theta))


def drop_by_zero_grad(space):
    space.zero_grad()


def drop_by_another_theta(space):
    stepped(space)


def drop_by_refusal(space):
    stepped(space)
    with pytest.raises(ConfigError, match="θ has changed"):
        space.collect()


@pytest.mark.parametrize(
    "hooked", [1, 10**6]
)  # gradients that were taken, and such as still lie on the weights
@pytest.mark.parametrize("passes", [0, 1])  # closed by `end_pass`
@pytest.mark.parametrize("kind", ["did", "said"])
@pytest.mark.parametrize("drop", [drop_by_zero_grad, drop_by_another_theta, drop_by_refusal])
def test_a_gradient_that_is_not_to_count_is_dropped(batch, monkeypatch, drop, kind, passes, hooked):
    monkeypatch.setitem(attach.HOOKED, "cpu", hooked)
    with Subspace(model := network(), kind, d=20) as space:
        space.write()
        (loss_of(model, batch) * 100).backward()
        for _ in range(passes):
            space.end_pass()
        drop(space)
        space.write()
        loss_of(model, batch).backward()
        space.collect()
        found, squares = [p.grad.clone() for p in space.parameters()], space.passes
        state = copy.deepcopy(space.state_dict())
    for got, wanted in zip(found, gradients(batch, state, kind), strict=True):
        torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(squares[1], found[0].square().sum())


@pytest.mark.parametrize("kind", ["did", "said"])
def test_passes_with_a_write_before_each_add_up(batch, kind):
    halves = [(batch[0][:8], batch[1][:8]), (batch[0][8:], batch[1][8:])]
    with Subspace(model := network(), kind, d=20) as space:
        stepped(space)
        for half in halves:
            space.write()
            (loss_of(model, half) / 2).backward()
        space.collect()
        state = copy.deepcopy(space.state_dict())
        for p, wanted in zip(space.parameters(), gradients(batch, state, kind), strict=True):
            torch.testing.assert_close(p.grad, wanted)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("taken", [False, True])
def test_dropping_reaches_a_head(dtype, taken):
    head = ("2.weight", "2.bias")
    ids, labels = torch.arange(6).view(2, 3), torch.tensor([0, 1])
    model, spec = network(), SubspaceSpec("did", head="trained")
    with Subspace(model, spec, d=85, head=head, dtype=dtype) as space:
        space.write()
        loss_of(model, (ids, labels)).backward()
        if taken:
            space.end_pass()
        stepped(space)
        space.write()
        assert all(p.grad is None for p in (*space.direct, model[2].weight))


def test_the_steps_of_a_fused_optimizer_are_seen(batch):
    with Subspace(model := network(), "said", d=20) as space:
        optimizer = torch.optim.Adam(space.parameters(), lr=0.1, fused=True)
        space.write()
        loss_of(model, batch).backward()
        space.collect()
        optimizer.step()
        loss_of(model, batch).backward()  # of weights that were not written
        with pytest.raises(ConfigError, match="call write"):
            space.collect()


def test_a_theta_that_has_become_nan_has_not_changed(batch):
    """So that a run which diverges ends as one that did."""
    with Subspace(model := network(), "said", d=20) as space:
        with torch.no_grad():
            space.theta.fill_(torch.nan)
        space.write()
        loss_of(model, batch).backward()
        space.collect()


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda m: nn.Sequential(checkpoint_wrapper(m)),
        lambda m: torch.compile(m, backend="eager"),
        lambda m: nn.Sequential(torch.compile(m, backend="eager")),
    ],
)
def test_a_wrapped_model_would_have_another_p(wrap):
    with pytest.raises(ConfigError, match="wrap it afterwards"):
        Subspace(wrap(network()), "did", d=20)


def test_a_module_that_is_compiled_in_place_has_the_same_p(batch):
    weights = []
    for compiled in (False, True):
        with Subspace(model := network(), "said", d=20) as space:
            if compiled:
                model.compile(backend="eager")
            stepped(space)
            space.write()
            loss_of(model, batch).backward()
            space.collect()
            weights.append([p.detach().clone() for p in model.parameters()] + [space.theta.grad])
    assert all(map(torch.equal, *weights))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("wrong", [{"projection": ProjectionSpec("dens")}, {"version": 99}, {"seed": 1.5}])
def test_a_model_that_was_refused_is_as_it_was(wrong, dtype):
    model = network()
    before = [(p, p.data_ptr(), p.requires_grad) for p in model.parameters()]
    with pytest.raises(ConfigError):
        Subspace(model, SubspaceSpec("did", include=("2.*",)), 5, dtype=dtype, **wrong)
    assert [(p, p.data_ptr(), p.requires_grad) for p in model.parameters()] == before
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("seed", [3.0, np.float64(3), True, "3", None, torch.tensor(3)])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ConfigError, match="whole number"):
        Subspace(network(), "did", 5, seed)


def test_a_model_saved_in_between_can_be_taken_again(batch):
    with Subspace(model := network(), "did", d=20) as space:
        space.write()
        torch.save(model, saved := io.BytesIO())
        twin = copy.deepcopy(model)
    saved.seek(0)
    for other in (torch.load(saved, weights_only=False), twin):
        with Subspace(other, "did", d=20) as space:
            space.write()
            loss_of(other, batch).backward()
            space.collect()
            assert space.theta.grad.norm() > 0


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda space: torch.save(space, io.BytesIO())])
def test_a_space_is_not_copied(how):
    with Subspace(network(), "did", d=20) as space, pytest.raises(ConfigError, match="state_dict"):
        how(space)


def test_embeddings_that_scale_by_frequency_train(batch):
    model = network()
    model[0] = nn.Embedding(10, 8, scale_grad_by_freq=True)
    with Subspace(model, "did", d=20) as space:
        space.write()
        loss_of(model, batch).backward()
        space.collect()
        assert space.theta.grad.norm() > 0


def test_a_model_that_can_not_be_written_is_let_go():
    model = network()
    with pytest.raises(ConfigError), Subspace(model, SubspaceSpec("did", include=("2.*",)), d=5):
        model.double()
    assert all(p.requires_grad for p in model.parameters())
    assert not model[0].sparse
    Subspace(model.float(), "did", d=5).close()


def test_two_parameters_in_one_memory_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight.data = model[0].weight.data
    with pytest.raises(ConfigError, match=r"1\.weight and 0\.weight are two parameters in one memory"):
        Subspace(model, "did", d=5)


def test_a_lazy_module_is_refused():
    with pytest.raises(ConfigError, match=r"0\.weight has no shape yet"):
        Subspace(nn.Sequential(nn.LazyLinear(4)), "did", d=2)
