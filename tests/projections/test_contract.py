"""The contract of every kind: P is the matrix its definition gives, and rmatvec is its transpose."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracle import MATRICES, fastfood_rows

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.projections import KINDS, make_projection

# (D, d): d = 1, d > D, powers of two and none, one block and several, a last block cut short or whole.
SHAPES = [
    (1, 1),
    (7, 1),
    (64, 2),
    (5, 13),
    (48, 16),
    (100, 16),
    (300, 17),
    (33, 100),
    (129, 128),
    (2100, 200),
]
# Too large for a matrix, so that the transform needs every kind of pass: n = 1,024, 8,192 and 131,072.
LARGE = [(5_000, 1_000), (384, 5_000), (20_000, 8_192), (1_536, 70_000), (140_000, 70_000)]


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_every_kind_has_an_oracle():
    assert set(MATRICES) == set(KINDS)


@pytest.mark.parametrize(("D", "d"), SHAPES)
def test_is_the_matrix_of_its_definition(make, kind, D, d):
    P = make(kind, shape=(D, d), seed=12345)
    expected = MATRICES[kind](D, d, 12345)
    assert P.shape == expected.shape == (D, d)
    theta, v = randn(d), randn(D, seed=1)
    size = np.linalg.norm(expected) + 1e-300
    np.testing.assert_allclose(P.matvec(theta).numpy(), expected @ theta.numpy(), rtol=0, atol=1e-13 * size)
    np.testing.assert_allclose(P.rmatvec(v).numpy(), expected.T @ v.numpy(), rtol=0, atol=1e-13 * size * D)


@pytest.mark.long
@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize(
    ("D", "d", "rows"),
    [
        (384, 5_000, [0, 1, 200, 383]),  # one short block, whose g repeat after 4,096
        (8_192 + 16, 8_000, [0, 8_191, 8_192, 8_207]),  # a short block after a whole one
        (2_000, 30_000, [0, 1_023, 1_024, 1_999]),  # after 8,192
        (5_000, 30_000, [0, 4_999]),  # more than an eighth of a block: they do not repeat
    ],
)
def test_large_blocks_are_those_of_their_definition(make, version, D, d, rows):
    P = make("fastfood", shape=(D, d), seed=12345, version=version)
    assert P.version == version
    theta = randn(d)
    expected = fastfood_rows(rows, D, 12345, version, theta.numpy())
    np.testing.assert_allclose(P.matvec(theta)[rows].numpy(), expected, rtol=0, atol=1e-13 * theta.norm())


@pytest.mark.parametrize("version", [1, 3])
def test_versions_of_small_blocks_are_those_of_their_definition(make, version):
    P = make("fastfood", shape=(300, 100), seed=12345, version=version)
    theta = randn(100)
    expected = MATRICES["fastfood"](300, 100, 12345, version) @ theta.numpy()
    np.testing.assert_allclose(P.matvec(theta).numpy(), expected, rtol=0, atol=1e-13 * theta.norm())


def test_a_short_block_draws_fewer_numbers_in_version_2(make):
    theta = randn(5_000)
    for D, same in ((8_192, True), (384, False), (5_000, True), (8_193, False)):
        one, two = (make("fastfood", shape=(D, 5_000), seed=4, version=v) for v in (1, 2))
        a, b = one.matvec(theta), two.matvec(theta)
        assert torch.equal(a[:8_192], b[:8_192]) == (same or D > 8_192)
        assert torch.equal(a, b) == same


@pytest.mark.parametrize("D", [20, 384])
def test_a_block_whose_draws_repeat_keeps_the_norm_on_average(make, D):
    # E‖Pθ‖² = ‖θ‖², also for a θ whose H B θ repeats with the draws: without new signs it would be 2 ‖θ‖² or 0.
    n = 8_192
    one = make("fastfood", shape=(D, n), seed=0, version=2)
    for encoded in (randn(n), randn(4_096).repeat(2)):
        theta = one.decode(encoded)
        torch.testing.assert_close(one.encode(theta), n * encoded)
        ratios = [
            float(make("fastfood", shape=(D, n), seed=s).matvec(theta).square().sum()) for s in range(300)
        ]
        share = np.array(ratios) / float(theta.square().sum())
        assert abs(share.mean() - 1) <= 5 * share.std() / math.sqrt(len(share))


@pytest.mark.parametrize(("D", "d"), SHAPES + LARGE)
def test_rmatvec_is_the_exact_adjoint(make, kind, D, d):
    if D * d > {"dense": 1e7, "sparse": 1e9}.get(kind, math.inf):
        pytest.skip(f"a {kind} projection of this size takes minutes")
    P = make(kind, shape=(D, d), seed=7)
    theta, v = randn(d), randn(D, seed=1)
    Px, Pv = P.matvec(theta), P.rmatvec(v)
    assert abs(Px @ v - theta @ Pv) <= 1e-10 * max(Px.norm() * v.norm(), theta.norm() * Pv.norm())


def test_adjoint_over_several_tensors_together(make, kind):
    # What training does: one θ, tensors of many sizes, scales of their own, one decoded gradient.
    sizes, scales, d = (1, 40, 384, 5000), (1.0, 0.5, 2.0, -1.5), 100
    Ps = [make(kind, shape=(D, d), seed=i) for i, D in enumerate(sizes)]
    theta = randn(d)
    x = Ps[0].encode(theta)
    z = Ps[0].accumulator(torch.float64)
    total = 0.0
    for i, (P, scale) in enumerate(zip(Ps, scales, strict=True)):
        w0, v = randn(P.shape[0], seed=10 + i), randn(P.shape[0], seed=20 + i)
        out = torch.empty_like(w0)
        P.add_to(w0, x, scale, out)
        torch.testing.assert_close(out, w0 + scale * P.matvec(theta), rtol=0, atol=1e-12)
        assert P.fold(v, scale, z) is z
        total += float((out - w0) @ v)
    assert total == pytest.approx(float(theta @ Ps[0].decode(z)), rel=1e-10)
    assert total == pytest.approx(float((x * z).sum()), rel=1e-10)


@given(st.sampled_from(KINDS), st.integers(1, 400), st.integers(1, 70), st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_linear_and_adjoint_for_any_shape_and_seed(make, kind, D, d, seed):
    P = make(kind, shape=(D, d), seed=seed)
    a, b, v = randn(d), randn(d, seed=1), randn(D, seed=2)
    torch.testing.assert_close(P.matvec(2 * a - 3 * b), 2 * P.matvec(a) - 3 * P.matvec(b), rtol=0, atol=1e-10)
    assert abs(P.matvec(a) @ v - a @ P.rmatvec(v)) <= 1e-10 * (P.matvec(a).norm() * v.norm() + 1)


@pytest.mark.parametrize(("D", "d"), [(40, 30), (257, 20), (1000, 3)])
def test_norm_is_kept_on_average(make, kind, D, d):
    # E‖Pθ‖² = ‖θ‖² over seeds, within five standard errors of the mean.
    theta = randn(d)
    ratios = [
        float(make(kind, shape=(D, d), seed=s).matvec(theta).square().sum() / theta.square().sum())
        for s in range(400)
    ]
    assert abs(np.mean(ratios) - 1) <= 5 * np.std(ratios) / math.sqrt(len(ratios)) + 1e-9


@pytest.mark.long
def test_every_row_has_the_same_share_of_the_norm(make, kind):
    # Each entry of P has variance 1/D: rows at the start, in the middle and in the cut last block alike.
    D, d = 90, 20  # n = 32: two blocks and 26 rows
    squares = np.mean(
        [make(kind, shape=(D, d), seed=s).matvec(randn(d, seed=s)).square().numpy() for s in range(1500)],
        axis=0,
    )
    shares = squares * D / d
    for rows in (slice(0, 16), slice(32, 64), slice(64, 90)):
        assert shares[rows].mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", ["sorf", "signs"])
def test_signs_keep_every_norm_exactly_when_blocks_are_whole(make, kind):
    P = make(kind, shape=(64 * 7, 50), seed=3)
    for theta in (randn(50), torch.eye(50, dtype=torch.float64)[7], torch.ones(50, dtype=torch.float64)):
        assert float(P.matvec(theta).norm()) == pytest.approx(float(theta.norm()), rel=1e-12)


def rows_of(P, rows):
    """(len(rows), d): these rows of P."""
    unit = torch.zeros(len(rows), P.shape[0], dtype=torch.float64)
    unit[torch.arange(len(rows)), rows] = 1
    return torch.stack([P.rmatvec(e) for e in unit])


def condition(P):
    """Largest ÷ smallest eigenvalue of P Pᵀ: how unevenly a step −P Pᵀ g moves the rows of P."""
    rows = rows_of(P, torch.arange(P.shape[0]))
    values = torch.linalg.eigvalsh(rows @ rows.T)
    return float(values[-1] / values[0])


def condition_of_gaussians(D, d):
    rows = np.random.default_rng(0).normal(size=(D, d))
    values = np.linalg.eigvalsh(rows @ rows.T)
    return values[-1] / values[0]


@pytest.mark.long
@pytest.mark.parametrize(("D", "d"), [(20, 100), (384, 1_000), (384, 8_192), (700, 8_000)])
def test_the_rows_of_a_short_tensor_are_conditioned_as_a_dense_matrix_has_them(kind, D, d):
    assert condition(make_projection(kind, shape=(D, d), seed=6)) <= 1.5 * condition_of_gaussians(D, d)


def test_the_conditioning_of_the_shortcut_of_version_2_is_seen():
    P = make_projection("fastfood", shape=(700, 8_192), seed=6, version=2)
    assert condition(P) > 1.5 * condition_of_gaussians(700, 8_192)


@pytest.mark.parametrize("kind", ["fastfood", "signs"])
@pytest.mark.parametrize("D", [1, 48, 384, 8_191])
def test_the_rows_of_a_short_block_of_signs_are_orthogonal(kind, D):
    P = make_projection(kind, shape=(D, 8_192), seed=6)
    some = torch.arange(D)[:: max(1, D // 40)]
    rows = rows_of(P, some)
    torch.testing.assert_close(rows @ rows.T, 8_192 / D * torch.eye(len(some), dtype=torch.float64))


@pytest.mark.parametrize(("D", "d"), [(5, 3), (70, 20)])
def test_gradcheck(make, kind, D, d):
    P = make(kind, shape=(D, d), seed=5)
    theta, v = randn(d).requires_grad_(), randn(D).requires_grad_()
    assert torch.autograd.gradcheck(P.matvec, theta)
    assert torch.autograd.gradcheck(P.rmatvec, v)
    assert torch.autograd.gradgradcheck(lambda t: P.matvec(t).pow(3), theta)


@pytest.mark.parametrize(("D", "d"), [(3000, 100), (20_000, 5_000)])
def test_float32_agrees_with_float64(make, kind, D, d):
    if kind == "dense" and D * d > 1e7:
        pytest.skip("a dense projection of this size takes minutes")
    P = make(kind, shape=(D, d), seed=9)
    theta, v = randn(d, dtype=torch.float32), randn(D, seed=1, dtype=torch.float32)
    for product, x in ((P.matvec, theta), (P.rmatvec, v)):
        exact = product(x.double())
        assert product(x).dtype == torch.float32
        assert (product(x) - exact).norm() <= 3e-6 * exact.norm()


def test_non_contiguous_input_is_read_right(make, kind):
    P = make(kind, shape=(50, 10), seed=1)
    pairs = randn(10, 2)
    torch.testing.assert_close(P.matvec(pairs[:, 1]), P.matvec(pairs[:, 1].clone()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "fastfod"}, "did you mean fastfood"),
        ({"kind": "fourier"}, "fastfood, sorf, dense, sparse, signs"),
        ({"shape": (10, 0)}, "d=0"),
        ({"shape": (0, 10)}, "D=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**64}, "out of range"),
        ({"cache": "disk"}, "auto, store, regenerate"),
        ({"kernel": "cuda"}, "projection.kernel='cuda' is not known; use one of auto, numba, torch, triton"),
        ({"shape": (10, 0, 3)}, "D=0"),
        ({"version": 4}, "draw version 4 of projection=fastfood is not known; use one of 1, 2, 3"),
        ({"kind": "sorf", "version": 2}, "use one of 1"),
        ({"version": 0}, "draw version 0"),
    ],
)
def test_bad_options_are_named(make, change, message):
    options = {"kind": "fastfood", "shape": (10, 3), "seed": 0, "cache": "auto", **change}
    with pytest.raises(ConfigError, match=message):
        make(options.pop("kind"), **options)


def test_autograd_sees_neither_what_is_written_nor_what_is_folded(make, kind):
    P, x = make(kind, shape=(4, 3), seed=1), torch.randn(3)
    out = torch.zeros(4, requires_grad=True)
    P.add_to(torch.ones(4, requires_grad=True), P.encode(x), 1.0, out)
    assert (out._version, out.is_leaf) == (0, True)
    assert torch.equal(out.detach(), 1 + P.matvec(x))
    assert not P.fold(torch.ones(4, requires_grad=True)).requires_grad


def test_what_P_moves_may_have_any_shape(make, kind):
    P, w0, theta = make(kind, shape=(4, 6, 5), seed=1), torch.randn(4, 6), torch.randn(5)
    out, flat = torch.empty(4, 6), torch.empty(24)
    P.add_to(w0, P.encode(theta), 0.5, out)
    P.add_to(w0.view(-1), P.encode(theta), 0.5, flat)
    assert torch.equal(out.view(-1), flat)
    assert torch.equal(P.fold(w0), P.fold(w0.view(-1)))
    with pytest.raises(
        ConfigError, match=r"v has shape \(4, 7\), expected \(24,\) or another of as many numbers"
    ):
        P.fold(torch.zeros(4, 7))
    with pytest.raises(ConfigError, match="v is not contiguous"):
        P.fold(torch.zeros(6, 4).T)


def test_bad_vectors_are_named(make, kind):
    P = make(kind, shape=(10, 3), seed=0)
    with pytest.raises(ConfigError, match=r"theta has shape \(4,\), expected \(3,\)$"):
        P.matvec(torch.zeros(4))
    with pytest.raises(ConfigError, match=r"v has shape \(2, 5\), expected \(10,\)"):
        P.rmatvec(torch.zeros(2, 5))
    with pytest.raises(ConfigError, match=r"theta is torch\.int64"):
        P.matvec(torch.zeros(3, dtype=torch.int64))
    x = P.encode(torch.zeros(3))
    with pytest.raises(ConfigError, match="out has shape"):
        P.add_to(torch.zeros(10), x, 1.0, torch.zeros(9))
    with pytest.raises(ConfigError, match="does not go with"):
        P.add_to(torch.zeros(10, dtype=torch.float64), x, 1.0, torch.zeros(10))
    with pytest.raises(ConfigError, match="not contiguous"):
        P.add_to(torch.zeros(10), x, 1.0, torch.zeros(10, 2)[:, 0])
    for name, call in (
        ("theta", lambda: P.encode(torch.zeros(3, dtype=torch.bfloat16))),
        ("x", lambda: P.add_to(torch.zeros(10), x.bfloat16(), 1.0, torch.zeros(10))),
        ("z", lambda: P.fold(torch.zeros(10), 1.0, P.accumulator(torch.bfloat16))),
    ):
        with pytest.raises(
            ConfigError, match=f"{name} is torch.bfloat16, expected torch.float32 or torch.float64"
        ):
            call()
    with pytest.raises(ConfigError, match="z has shape"):
        P.fold(torch.zeros(10), 1.0, torch.zeros(1, 1))
