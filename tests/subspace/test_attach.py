"""Subspaces against their definition, θ_i = θ_{0,i} + λ_g s_i (P_i θ), in float64 with a dense P."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.projections import KINDS, make_projection
from intrinsic_cli.spec import ProjectionSpec, SubspaceSpec, stream_seed
from intrinsic_cli.subspace import attach as subspace
from intrinsic_cli.subspace.attach import Full, Subspace
from intrinsic_cli.subspace.selection import free_dimensions, select

SEED = 7


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return x + torch.tanh(self.linear(self.norm(x)))


class Toy(nn.Module):
    """Two layers, tied embeddings, a head, a frozen weight, a buffer, dropout, and a keyword-only input."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.layers = nn.ModuleList(Block(6) for _ in range(2))
        self.pool = nn.Linear(6, 6)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.embed.weight
        self.gain = nn.Parameter(torch.rand(6), requires_grad=False)
        self.register_buffer("centre", torch.randn(6))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(11, 3)

    def forward(self, ids, *, mask):
        x = self.embed(ids) * self.gain - self.centre
        for layer in self.layers:
            x = layer(x)
        x = self.drop(self.pool(x)) * mask.unsqueeze(-1)
        return self.head(self.out(x.mean(1)))


HEAD = ("head.weight", "head.bias")
N_HEAD = 3 * 11 + 3
MOVED = {
    "embed.weight", "pool.weight", "pool.bias", *HEAD,
    *(f"layers.{i}.{part}.{end}" for i in "01" for part in ("linear", "norm") for end in ("bias", "weight")),
}  # fmt: skip
# λ's, counted by hand. layer: embed, layers.0, layers.1, pool, head. module: embed, pool, head, and linear
# and norm of two layers. tensor: all of MOVED.
M = {"layer": 5, "module": 7, "tensor": 13}


@pytest.fixture
def toy():
    torch.manual_seed(0)
    return Toy().eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(11, (8, 5), generator=generator)
    mask = (torch.rand(8, 5, generator=generator) > 0.3).float()
    return {"ids": ids, "mask": mask}, torch.randint(3, (8,), generator=generator)


def attach(model, d=40, kind="did", seed=SEED, projection="fastfood", dtype=None, head_names=HEAD, **options):
    return Subspace(
        model,
        SubspaceSpec(kind, **options),
        d,
        seed,
        ProjectionSpec(projection),
        head=head_names,
        dtype=dtype,
    )


def move(space, seed=3, size=0.3):
    """θ and λ away from their starts, where an error in P or in the adjoint can't hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        space.theta.copy_(size * torch.randn(space.theta.shape, generator=generator))
        if space.lam is not None:
            space.lam.copy_(1 + 0.2 * torch.randn(space.lam.shape, generator=generator))
    space.write()


def loss_of(model, batch, reduction="mean"):
    inputs, labels = batch
    return nn.functional.cross_entropy(model(**inputs), labels, reduction=reduction)


def copies(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def group_by_hand(name, groups):
    if groups == "tensor":
        return name
    if groups == "module":
        return name.rsplit(".", 1)[0]
    return "head" if name in HEAD else ".".join(name.split(".")[: 2 if name.startswith("layers") else 1])


def by_definition(start, space, names, normalize, groups, projection="fastfood", seed=SEED):
    """Weights as a differentiable float64 function of θ and λ, from dense matrices."""
    theta = space.theta.detach().double().requires_grad_()
    lam = space.lam.detach().double().requires_grad_() if space.lam is not None else None
    D = sum(start[name].numel() for name in names)
    # Groups are numbered in the order in which the model names them.
    order = list(dict.fromkeys(group_by_hand(name, groups) for name in start if name in names))
    weights = {}
    for name in names:
        w0 = start[name].double()
        P = make_projection(projection, shape=(w0.numel(), len(theta)), seed=stream_seed(seed, f"P/{name}"))
        dense = torch.stack([P.matvec(unit) for unit in torch.eye(len(theta), dtype=torch.float64)], dim=1)
        scale = math.sqrt(w0.numel() / D) if normalize == "global" else 1.0
        shift = scale * (dense @ theta).view(w0.shape)
        weights[name] = w0 + (shift if lam is None else lam[order.index(group_by_hand(name, groups))] * shift)
    return theta, lam, weights


GRID = [
    ("did", "global", "layer", "projected", "fastfood"),
    ("did", "tensor", "layer", "frozen", "sorf"),
    ("said", "global", "layer", "projected", "fastfood"),
    ("said", "tensor", "module", "projected", "dense"),
    ("said", "global", "tensor", "projected", "sparse"),
    ("said", "tensor", "layer", "trained", "fastfood"),
]


@pytest.mark.parametrize(("kind", "normalize", "groups", "head", "projection"), GRID)
def test_weights_and_gradients_are_those_of_the_definition(
    toy, batch, kind, normalize, groups, head, projection
):
    start, exact = copies(toy), copy.deepcopy(toy).double()
    space = attach(toy, d=90, kind=kind, normalize=normalize, groups=groups, head=head, projection=projection)
    move(space)
    names = MOVED if head == "projected" else MOVED - set(HEAD)
    theta, lam, weights = by_definition(start, space, names, normalize, groups, projection)
    assert sum(start[name].numel() for name in names) == space.D
    for name, expected in weights.items():
        torch.testing.assert_close(
            toy.get_parameter(name).double(), expected.detach(), rtol=1e-5, atol=1e-6, msg=name
        )

    loss_of(toy, batch).backward()
    space.collect()
    inputs, labels = batch
    inputs = {"ids": inputs["ids"], "mask": inputs["mask"].double()}
    wanted = [theta] if lam is None else [theta, lam]
    output = functional_call(exact, weights, kwargs=inputs)
    expected = torch.autograd.grad(nn.functional.cross_entropy(output, labels), wanted)
    for ours, oracle in zip([space.theta, space.lam], expected, strict=False):
        assert oracle.norm() > 1e-3  # a gradient worth comparing
        torch.testing.assert_close(ours.grad.double(), oracle, rtol=1e-4, atol=1e-5 * oracle.norm().item())


@pytest.mark.parametrize(
    ("normalize", "share"), [("global", lambda size, D: size / D), ("tensor", lambda *_: 1)]
)
@pytest.mark.parametrize("projection", KINDS)
def test_expected_square_length_of_each_tensors_move(normalize, share, projection):
    """E‖(Pθ)_i‖² is ‖θ‖²·D_i/D under `global` and ‖θ‖² under `tensor`, over the draws of P."""
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 3))
    start, D = copies(model), sum(p.numel() for p in model.parameters())
    squares = {name: [] for name in start}
    for seed in range(300):
        space = attach(model, d=5, seed=seed, normalize=normalize, head_names=(), projection=projection)
        with torch.no_grad():
            space.theta.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0]))
        space.write()
        for name, p in model.named_parameters():
            squares[name].append((p.detach() - start[name]).square().sum())
        space.close(restore=True)
    for name, found in squares.items():
        found = torch.stack(found)
        expected = 15.25 * share(start[name].numel(), D)
        standard_error = found.std() / math.sqrt(len(found))
        assert abs(found.mean() - expected) < 4.5 * standard_error + 1e-4, name


def test_at_theta_zero_the_weights_are_the_pretrained_ones(toy):
    start = copies(toy)
    attach(toy, kind="said").write()
    assert all(torch.equal(p, start[name]) for name, p in toy.named_parameters())


@pytest.mark.parametrize("head", ["projected", "trained", "frozen"])
def test_d_counts_every_number_that_an_optimizer_sees(toy, head):
    space = attach(toy, d=60, kind="said", head=head)
    m = M["layer"] - (head != "projected")  # the head's λ goes where its weights are not moved by P
    assert space.m == m
    assert sum(p.numel() for p in space.parameters()) == 60 == space.d
    assert len(space.theta) == 60 - m - (N_HEAD if head == "trained" else 0)
    trainable = {name for name, p in toy.named_parameters() if p.requires_grad}
    assert trainable == (MOVED - set(HEAD) if head == "frozen" else MOVED)


@pytest.mark.parametrize("head", ["trained", "frozen"])
def test_the_head_is_trained_or_frozen(toy, batch, head):
    start = copies(toy)
    space = attach(toy, d=60, head=head)
    optimizer = torch.optim.Adam(space.parameters(), lr=0.05)
    for _ in range(2):
        space.write()
        loss_of(toy, batch).backward()
        space.collect()
        optimizer.step()
        optimizer.zero_grad()
    changed = {name for name, p in toy.named_parameters() if not torch.equal(p, start[name])}
    assert changed == (MOVED if head == "trained" else MOVED - set(HEAD))


@pytest.mark.parametrize("groups", M)
def test_d_must_exceed_the_scales(toy, groups):
    m = M[groups]
    with pytest.raises(ConfigError, match=rf"d={m} .*m={m} scales .*{groups}.* use d > {m}$"):
        attach(toy, d=m, kind="said", groups=groups)
    space = attach(toy, d=m + 1, kind="said", groups=groups)
    assert (space.m, len(space.theta)) == (m, 1)


def test_d_must_exceed_a_directly_trained_head(toy):
    spec = SubspaceSpec("said", head="trained")
    with pytest.raises(ConfigError, match=rf"d=40 .*m=4 .* and {N_HEAD} .*; use d > 40$"):
        free_dimensions(toy, spec, 40, HEAD)
    assert free_dimensions(toy, spec, 41, HEAD) == 1


def test_a_refused_d_leaves_the_model_as_it_was(toy, batch):
    with pytest.raises(ConfigError):
        attach(toy, d=5, kind="said")
    loss_of(toy, batch).backward()
    assert all(p.grad is not None for p in toy.parameters() if p.requires_grad)


def test_include_and_exclude(toy):
    spec = SubspaceSpec("did", include=("layers.*", "head.*"), exclude=("*.bias", "*norm*"))
    moved, direct = select(toy, spec, HEAD)
    assert list(moved) == ["layers.0.linear.weight", "layers.1.linear.weight", "head.weight"]
    assert not direct


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ("layer.*",)}, r"subspace.include='layer.\*' matches no .*embed.weight"),
        ({"exclude": ("nope",)}, r"subspace.exclude='nope' matches no "),
        ({"include": ("gain",)}, r"subspace.include='gain' matches no trainable"),
        ({"exclude": ("*",)}, r"exclude=\['\*'\] leave no tensor"),
        ({"include": ("head.*",), "head": "frozen"}, "leave no tensor"),
    ],
)
def test_patterns_that_can_not_be_meant(toy, options, message):
    with pytest.raises(ConfigError, match=message):
        attach(toy, **options)


def test_what_is_not_selected_stays(toy, batch):
    start = copies(toy) | {"centre": toy.centre.clone()}
    space = attach(toy, include=("layers.*",))
    move(space)
    loss_of(toy, batch).backward()
    space.collect()
    now = copies(toy) | {"centre": toy.centre}
    for name, value in start.items():
        assert torch.equal(now[name], value) != name.startswith("layers."), name
    assert not toy.embed.weight.requires_grad
    space.close()
    assert {name for name, p in toy.named_parameters() if p.requires_grad} == MOVED


def test_tied_weights_stay_one_and_move_once(toy):
    w0 = toy.embed.weight.detach().clone()
    space = attach(toy, normalize="tensor")
    move(space)
    assert toy.out.weight is toy.embed.weight
    assert toy.out.weight.data_ptr() == toy.embed.weight.data_ptr()
    assert "out.weight" not in dict(space.moved())
    P = make_projection("fastfood", shape=(66, 40), seed=stream_seed(SEED, "P/embed.weight"))
    torch.testing.assert_close((toy.out.weight - w0).view(-1), P.matvec(space.theta.detach()))


def test_p_of_a_tensor_depends_on_nothing_but_its_name_shape_d_and_seed():
    def shift(model, name="a.weight", seed=SEED, d=8):
        start = copies(model)[name]
        space = attach(model, d=d, seed=seed, normalize="tensor", head_names=())
        with torch.no_grad():
            space.theta.fill_(0.25)
        space.write()
        return model.get_parameter(name).detach() - start

    def zeros(**layers):
        model = nn.ModuleDict(layers)
        for p in model.parameters():
            nn.init.zeros_(p)
        return model

    alone = shift(zeros(a=nn.Linear(4, 3, bias=False)))
    among_others = zeros(z=nn.Linear(9, 9), a=nn.Linear(4, 3, bias=False), b=nn.Embedding(8, 2))
    assert same_bits(shift(among_others), alone)
    renamed = shift(zeros(b=nn.Linear(4, 3, bias=False)), "b.weight")
    other_seed = shift(zeros(a=nn.Linear(4, 3, bias=False)), seed=SEED + 1)
    assert not torch.equal(renamed, alone)
    assert not torch.equal(other_seed, alone)


def test_a_seed_of_its_own_picks_p():
    moved = []
    for seed, own in ((1, None), (2, 1), (2, None)):
        torch.manual_seed(0)
        model = Toy()
        start = model.state_dict()["embed.weight"].clone()
        space = Subspace(model, SubspaceSpec("did"), 40, seed, ProjectionSpec(seed=own))
        move(space)
        space.write()
        moved.append(model.embed.weight.detach() - start)
    assert same_bits(moved[0], moved[1])
    assert not torch.allclose(moved[0], moved[2])


def test_accumulated_gradients_are_those_of_the_big_batch(toy, batch):
    inputs, labels = batch
    space = attach(toy, kind="said", groups="module")
    move(space)
    loss_of(toy, batch, "sum").backward()
    space.collect()
    whole = space.theta.grad.clone(), space.lam.grad.clone()
    for rows in (slice(0, 3), slice(3, 4), slice(4, 8)):
        part = {key: value[rows] for key, value in inputs.items()}, labels[rows]
        loss_of(toy, part, "sum").backward()
    space.collect()
    torch.testing.assert_close((space.theta.grad, space.lam.grad), whole, rtol=1e-5, atol=1e-5)
    space.collect()  # and nothing is counted twice
    assert not space.theta.grad.any()
    assert not space.lam.grad.any()


@pytest.mark.parametrize("kind", ["did", "said"])
@pytest.mark.parametrize("hooked", [40, 10**6])  # on some tensors, and on none
def test_gradients_are_the_same_by_a_few_hooks(toy, batch, monkeypatch, kind, hooked):
    def gradients():
        model = copy.deepcopy(toy)
        with attach(model, kind=kind) as space:
            move(space)
            loss_of(model, batch).backward()
            space.collect()
            held = [p.grad for name, p in space.named().items() if name in ("theta", "lam")]
            return torch.cat(held), space.passes, len(space._hooks)

    every, passes, hooks = gradients()
    monkeypatch.setitem(subspace.HOOKED, "cpu", hooked)
    monkeypatch.setitem(subspace.ENOUGH, "cpu", 2 * hooked)
    some, passes_of_some, few = gradients()
    assert few < hooks
    torch.testing.assert_close(some, every)
    torch.testing.assert_close(passes_of_some, passes)


def test_a_gradient_from_before_does_not_count(toy, batch):
    used = copy.deepcopy(toy)
    loss_of(used, batch).backward()
    gradients = []
    for model in (toy, used):
        space = attach(model)
        space.write()
        loss_of(model, batch).backward()
        space.collect()
        gradients.append(space.theta.grad)
    torch.testing.assert_close(*gradients)


def test_sparse_gradients_count_like_dense_ones():
    gradients = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(30, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 2))
        space = attach(model, d=10, head_names=())
        space.write()
        model(torch.tensor([[3, 3], [4, 29]])).square().sum().backward()
        space.collect()
        gradients.append(space.theta.grad)
    assert gradients[0].any()
    torch.testing.assert_close(*gradients)


def test_weights_that_are_not_contiguous_move_by_their_logical_order():
    """A transposed weight is the same matrix, so it gets the same P."""
    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    moved = []
    for weight in (values.clone(), values.t().contiguous().t()):
        model = nn.Linear(5, 3, bias=False)
        model.weight = nn.Parameter(weight)
        space = attach(model, d=6, head_names=())
        move(space)
        moved.append(model.weight.detach().clone())
    assert not torch.equal(moved[0], values)
    assert torch.equal(*moved)


def test_no_gradient_outlives_its_hook_and_no_optimizer_state_has_size_D(toy, batch):
    space = attach(toy, kind="said")
    alive = []
    for p in toy.parameters():
        if p.requires_grad:  # called after the subspace's own hook of this tensor
            p.register_post_accumulate_grad_hook(
                lambda _: alive.append(sum(q.grad is not None for q in toy.parameters()))
            )
    optimizer = torch.optim.Adam(space.parameters(), lr=0.1)
    space.write()
    loss_of(toy, batch).backward()
    assert len(alive) == len(MOVED)
    assert not any(alive)
    space.collect()
    optimizer.step()
    held = sum(t.numel() for state in optimizer.state.values() for t in state.values())
    assert held <= 2 * space.d + 2  # two moments of each number, and a step count of θ and of λ


def test_the_model_keeps_its_class_its_keys_and_its_modes(toy, batch):
    kind, names = type(toy), list(toy.state_dict())
    space = attach(toy)
    move(space)
    assert type(toy) is kind
    assert list(toy.state_dict()) == names
    inputs, _ = batch
    torch.manual_seed(0)
    toy.eval()
    assert torch.equal(toy(**inputs), toy(**inputs))
    toy.train()
    assert not torch.equal(toy(**inputs), toy(**inputs))
    unmasked = {**inputs, "mask": torch.ones_like(inputs["mask"])}
    toy.eval()
    assert not torch.equal(toy(**inputs), toy(**unmasked))


def test_close_lets_go(toy, batch):
    start = copies(toy)
    wanted = {name: p.requires_grad for name, p in toy.named_parameters()}
    space = attach(toy, kind="said", include=("layers.*",))
    move(space)
    moved = copies(toy)
    space.close()
    assert all(same_bits(p, moved[name]) for name, p in toy.named_parameters())  # kept unless asked otherwise
    assert {name: p.requires_grad for name, p in toy.named_parameters()} == wanted
    loss_of(toy, batch).backward()
    assert all((p.grad is not None) == wanted[name] for name, p in toy.named_parameters())
    space.close(restore=True)
    assert all(same_bits(p, start[name]) for name, p in toy.named_parameters())


def test_close_restores_a_head_that_was_trained(toy, batch):
    start = copies(toy)
    space = attach(toy, d=60, head="trained")
    space.write()
    loss_of(toy, batch).backward()
    space.collect()
    torch.optim.SGD(space.parameters(), lr=1.0).step()
    assert not torch.equal(toy.head.weight, start["head.weight"])
    space.close(restore=True)
    assert all(same_bits(p, start[name]) for name, p in toy.named_parameters())


def by_hand(space, start):
    """θ_0 + s P θ of every moved weight of a DID, float64."""
    return {
        part.name: start[part.name].double().view(-1)
        + part.scale * part.projection.matvec(space.theta.detach()).double()
        for part in space._slices
    }


@pytest.mark.parametrize("hooked", [1, 10**6])
@pytest.mark.parametrize("cache", ["auto", "stream"])
def test_a_model_leaves_the_loop_with_the_weights_of_the_last_step(toy, batch, monkeypatch, cache, hooked):
    monkeypatch.setitem(subspace.HOOKED, "cpu", hooked)
    start = copies(toy)
    with Subspace(toy, "did", d=40, seed=SEED, projection=ProjectionSpec(cache=cache), head=HEAD) as space:
        optimizer = torch.optim.Adam(space.parameters(), lr=0.3)
        for _ in range(3):
            space.write()
            loss_of(toy, batch).backward()
            space.collect()
            optimizer.step()
        loss_of(toy, batch).backward()  # which nobody collects
    assert all(p.grad is None for p in toy.parameters())
    for name, weights in by_hand(space, start).items():
        torch.testing.assert_close(toy.get_parameter(name).view(-1).double(), weights, rtol=1e-5, atol=1e-6)
    assert not torch.equal(toy.head.weight, start["head.weight"])
    loss_of(toy, batch).backward()  # and is an ordinary model again
    assert toy.head.weight.grad is not None


def test_gradients_of_weights_that_theta_does_not_say_are_refused(toy, batch):
    space = attach(toy, kind="said", groups="module")
    for p in (space.theta, space.lam):
        space.write()
        loss_of(toy, batch).backward()
        space.collect()
        with torch.no_grad():
            p.add_(0.1)
        loss_of(toy, batch).backward()
        with pytest.raises(ConfigError, match=r"θ has changed.*call write\(\) before each forward"):
            space.collect()


def test_what_is_no_subspace_of_a_model_is_one_line(toy):
    for words in (("did", "did"), (None, "said")):
        with pytest.raises(ConfigError, match="the first argument is the model"):
            Subspace(*words, d=40)
    with pytest.raises(ConfigError, match="subspace='dit' is not known; use one of full, did, said"):
        Subspace(toy, "dit", d=40)
    with pytest.raises(ConfigError, match="choose did or said"):
        Subspace(toy, "full", d=40)


# --- weights of 16 bits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "half", "size"), [(torch.bfloat16, 2**-8, 0.01), (torch.float16, 2**-11, 0.001)]
)
def test_short_weights_are_the_exact_sum_rounded_once(toy, dtype, half, size):
    start = copies(toy)
    space = attach(toy, kind="said", dtype=dtype)
    move(space, size=size)  # mostly less than half a step of θ_0's: lost if θ_0 were rounded first
    _, _, weights = by_definition(start, space, MOVED, "global", "layer")
    rounded_start = 0
    for name, exact in weights.items():
        w = toy.get_parameter(name)
        assert w.dtype == dtype
        error = (w.double() - exact.detach()).abs()
        # half of the spacing of significands, and float32's own error
        assert (error <= exact.detach().abs() * half * 1.001 + 1e-7).all(), name
        rounded_start += ((start[name].to(dtype).double() - exact.detach()).abs() > error + 1e-7).sum().item()
    assert rounded_start > 20  # θ_0 rounded alone is further off: the bound above could have been missed


def test_bfloat16_weights_do_not_drift(toy):
    """After 50 steps they are what one write to a fresh model gives, and θ_0 is still there to the bit."""
    start = copies(toy)
    fresh = copy.deepcopy(toy)
    space, once = attach(toy, dtype=torch.bfloat16), attach(fresh, dtype=torch.bfloat16)
    for seed in range(50):
        move(space, seed)
    move(once, 49)
    pairs = dict(fresh.named_parameters())
    assert all(torch.equal(p, pairs[name]) for name, p in toy.named_parameters())
    with torch.no_grad():
        space.theta.zero_()
    space.write()
    assert all(torch.equal(p, start[name].bfloat16()) for name, p in toy.named_parameters())


def test_bfloat16_gradients_reach_theta(toy, batch):
    exact_model = copy.deepcopy(toy)
    gradients = []
    for model, dtype in ((exact_model, None), (toy, torch.bfloat16)):
        space = attach(model, kind="said", dtype=dtype)
        move(space)
        inputs, labels = batch
        inputs = {"ids": inputs["ids"], "mask": inputs["mask"].to(model.head.weight.dtype)}
        loss_of(model, (inputs, labels)).float().backward()
        space.collect()
        assert space.theta.grad.dtype == torch.float32
        gradients.append(space.theta.grad)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_full_is_every_trainable_weight(toy):
    space = Full(toy)
    n = sum(p.numel() for name, p in toy.named_parameters() if name in MOVED)
    assert space.D == space.d == n == sum(p.numel() for p in space.parameters())
    assert space.m == 0


def test_more_numbers_than_weights_are_refused_with_both_counts():
    with pytest.raises(ConfigError, match=r"d=13 .*D=12"):
        attach(nn.ModuleDict({"a": nn.Linear(4, 3, bias=False)}), d=13, head_names=())
    attach(nn.ModuleDict({"a": nn.Linear(4, 3, bias=False)}), d=12, head_names=())


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def frozen():
    return net().requires_grad_(False)


@pytest.mark.parametrize(
    ("make", "d", "options", "message"),
    [
        (net, 5, {"head": ["classifier.weight"]}, r"head names 'classifier.weight'; .* such as '0.bias'"),
        (net, 5, {"head": "2.weight"}, "head='2.weight' is one text; it lists tensors"),
        (frozen, 5, {}, "no real tensor that requires a gradient"),
        (lambda: net().double(), 5, {}, r"0\.weight is float64.*model\.float\(\)"),
        (net, 0, {}, "d=0 leaves nothing for θ; use d > 0"),
        (net, -1, {}, "d=-1 leaves nothing for θ; use d > 0"),
        (net, 2.0, {}, r"d=2\.0 is no whole number"),
        (net, "10", {}, "d='10' is no whole number"),
        (net, None, {}, "d=None is no whole number"),
    ],
)
def test_what_can_not_be_trained_is_refused(make, d, options, message):
    with pytest.raises(ConfigError, match=message):
        Subspace(make(), "did", d, **options)


def test_a_module_has_one_open_subspace():
    """Another would train nothing: the first one's hooks take the gradients."""
    model = net()
    first = Subspace(model, "did", 5)
    with pytest.raises(
        ConfigError, match=r"0\.weight is moved by another subspace that is still open.*close\(\)"
    ):
        Subspace(model, "said", 20)
    first.close()
    with Subspace(model, "did", 5) as second:
        Subspace(copy.deepcopy(model), "did", 5).close()
        second.write()
        model(torch.ones(3, 4)).square().sum().backward()
        second.collect()
        assert second.theta.grad.norm() > 0
    Subspace(model, "did", 5).close()


def test_closing_follows_numbers_that_were_set_as_a_whole():
    """As evolution strategies set them, of which autograd counts nothing."""
    model = net()
    with Subspace(model, "did", 5) as space:
        space.write()
        before = model[0].weight.clone()
        nn.utils.vector_to_parameters(torch.ones(5), [space.theta])
    with Subspace(net(), "did", 5) as other:
        other.theta.data.fill_(1.0)
        other.write()
        weight = dict(other.moved())["0.weight"].clone()
    assert not torch.equal(model[0].weight, before)
    assert torch.equal(model[0].weight, weight)


def test_d_may_be_a_number_of_numpy():
    (d, *_) = np.geomspace(5, 50, 3).astype(int)
    with Subspace(net(), "did", d) as space:
        assert space.theta.shape == (5,)
    with pytest.raises(ConfigError, match="d=True is no whole number"):
        Subspace(net(), "did", True)
