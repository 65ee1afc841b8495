"""Clipping by a length that means the same in every space."""

import copy

import pytest
import torch
from torch import nn

from intrinsic_cli.spec import SubspaceSpec, TrainSpec
from intrinsic_cli.subspace.attach import Full, Subspace
from intrinsic_cli.training.clipping import clip, weight_length

SPACES = [
    (kind, normalize, head)
    for kind in ("did", "said")
    for normalize in ("global", "tensor")
    for head in ("projected", "trained")
]


class Model(nn.Module):
    """Words whose rows repeat, a matrix and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(20, 6)
        self.layer = nn.Linear(6, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids):
        return self.head(torch.tanh(self.layer(self.embed(ids).mean(1))))


WORDS = torch.tensor([[1, 1, 2], [3, 1, 4], [19, 5, 5], [0, 6, 1]])
LABELS = torch.tensor([0, 2, 1, 0])


def backward(model, rows=slice(None)):
    nn.functional.cross_entropy(model(WORDS[rows]), LABELS[rows], reduction="sum").backward()


def attached(kind, normalize, head):
    model = Model()
    names = ["head.weight", "head.bias"]
    groups = "tensor" if kind == "said" else "layer"
    space = Subspace(
        model, SubspaceSpec(kind, normalize=normalize, groups=groups, head=head), 80, seed=3, head=names
    )
    with torch.no_grad():
        space.theta.copy_(torch.linspace(-1, 1, len(space.theta)))
    space.write()
    return model, space


def length_in_full(model):
    """Of the gradient of every weight, by autograd on a copy that no subspace holds."""
    plain = Model()
    plain.load_state_dict(model.state_dict())
    backward(plain)
    return torch.cat([p.grad.flatten() for p in plain.parameters()]).norm()


@pytest.mark.parametrize(("kind", "normalize", "head"), SPACES)
def test_the_length_is_that_of_the_weights_gradient(kind, normalize, head):
    model, space = attached(kind, normalize, head)
    expected = length_in_full(model)
    for _ in range(2):  # a second step starts anew
        backward(model)
        space.collect()
        torch.testing.assert_close(weight_length(space), expected)
        space.direct.zero_grad()


@pytest.mark.parametrize(("kind", "normalize", "head"), SPACES)
def test_equal_passes_add_up_exactly(kind, normalize, head):
    model, space = attached(kind, normalize, head)
    for _ in range(3):
        backward(model)
        space.end_pass()
    space.collect()
    torch.testing.assert_close(weight_length(space), 3 * length_in_full(model))


@pytest.mark.parametrize(("kind", "normalize", "head"), SPACES)
def test_passes_over_parts_of_a_batch_are_near_the_whole(kind, normalize, head):
    """Estimated through 80 directions: within a few times sqrt(2 / 80) of the square."""
    model, space = attached(kind, normalize, head)
    for rows in (slice(0, 1), slice(1, 3), slice(3, 4)):
        backward(model, rows)
        space.end_pass()
    space.collect()
    assert float(weight_length(space) / length_in_full(model)) == pytest.approx(1, abs=0.35)


def test_passes_change_no_gradient():
    gradients = []
    for ended in (False, True):
        model, space = attached("said", "tensor", "trained")
        for rows in (slice(0, 2), slice(2, 4)):
            backward(model, rows)
            if ended:
                space.end_pass()
        space.collect()
        gradients.append([p.grad for p in space.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("limit", [0.01, 1e6])
@pytest.mark.parametrize(("kind", "normalize", "head"), SPACES)
def test_gradients_are_scaled_to_the_limit_together(kind, normalize, head, limit):
    model, space = attached(kind, normalize, head)
    backward(model)
    space.collect()
    before = copy.deepcopy([p.grad for p in space.parameters()])
    factor = min(1.0, limit / float(length_in_full(model)))
    clip(space, list(space.parameters()), TrainSpec(max_grad_norm=limit, clip="weights"))
    for p, grad in zip(space.parameters(), before, strict=True):
        torch.testing.assert_close(p.grad, factor * grad, rtol=1e-3, atol=1e-9)


def test_the_trained_numbers_own_length_is_as_before():
    model, space = attached("did", "tensor", "projected")
    backward(model)
    space.collect()
    clip(space, list(space.parameters()), TrainSpec(max_grad_norm=0.5, clip="trained"))
    torch.testing.assert_close(space.theta.grad.norm(), torch.tensor(0.5), rtol=1e-4, atol=0)


def test_full_fine_tuning_is_clipped_the_same_either_way():
    grads = []
    for way in ("weights", "trained"):
        model = Model()
        space = Full(model)
        backward(model)
        space.collect()
        clip(space, list(space.direct), TrainSpec(max_grad_norm=0.1, clip=way))
        grads.append([p.grad for p in space.direct])
    torch.testing.assert_close(*grads, rtol=0, atol=0)


def test_nothing_is_made_of_no_gradient():
    model, space = attached("did", "global", "projected")
    (model(WORDS) * 0).sum().backward()
    space.collect()
    clip(space, list(space.parameters()), TrainSpec(clip="weights"))
    assert not space.theta.grad.any()
    assert float(weight_length(space)) == 0
