"""The random numbers behind the projections: pinned for version 1, and distributed as they should be."""

import hashlib

import numpy as np
import pytest
import torch
from scipy import stats
from support.oracle import normal, quantiles, sign, word

from intrinsic_cli.projections import KINDS, draws, make_projection
from intrinsic_cli.projections.fastfood import Fastfood
from intrinsic_cli.projections.kernels.numba.draws import draw_normals
from intrinsic_cli.projections.kernels.numba.draws import word as compiled_word

CPU = torch.device("cpu")

# Version 1 of the draw, made by projections_oracle alone (Python integers and the standard library's normal
# quantiles). A change here changes what every saved theta means: it needs a new version number.
GOLDEN_NORMALS = [-5171, 3571, -2746, 3468, 1183, 3149, -2175, -5220]
GOLDEN_TABLE = "4dc7f1c7279a52642a4d867161353210d79e16ea7a268ea71e2e4e1c80a36d56"
GOLDEN_PERMUTATION = [15, 0, 10, 7, 14, 6, 5, 3, 8, 1, 12, 2, 4, 11, 13, 9]
GOLDEN_SHIFTS = [704, 32, 896, 80, 240, 128]


def normals(key, first, count):
    out = np.empty(count, np.int16)
    draw_normals(np.uint64(key), draws.normal_table(), first, out)
    return out


def test_the_hash_is_splitmix64():
    # The first five outputs for seed 1234567 that the reference C code of SplitMix64 is known by.
    published = [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ]  # fmt: skip
    on_tensors = draws.words(1234567, torch.arange(5))
    assert [int(w) % 2**64 for w in on_tensors] == published
    assert [int(compiled_word(np.uint64(1234567), np.uint64(i))) for i in range(5)] == published


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_keys_words_normals_and_signs_agree_with_plain_integers(seed):
    for stream in range(1, 7):
        key = draws.key(seed, stream)
        assert [int(w) % 2**64 for w in draws.words(key, torch.arange(3))] == [
            word(seed, stream, i) for i in range(3)
        ]
    key = draws.key(seed, draws.STREAM_NORMAL)
    expected = [normal(seed, i) * 4096 for i in range(8, 28)]
    assert normals(key, 8, 20).tolist() == expected
    assert draws.normals(key, 8, 20, CPU).tolist() == expected
    key = draws.key(seed, draws.STREAM_SIGN)
    assert draws.signs(key, 64, 100, CPU).tolist() == [sign(seed, 3, 64 + i) for i in range(100)]


def test_version_1_is_what_it_always_was():
    newest = {kind: make_projection(kind, shape=(1, 1), seed=0).version for kind in KINDS}
    assert newest == {"fastfood": 3, "sorf": 1, "dense": 1, "sparse": 1, "signs": 1}
    assert make_projection("fastfood", shape=(1, 4_096), seed=0, version=2).version == 1  # the same matrix
    key = draws.key(2024, draws.STREAM_NORMAL)
    assert normals(key, 0, 8).tolist() == GOLDEN_NORMALS
    assert hashlib.sha256(draws.normal_table().astype("<i2").tobytes()).hexdigest() == GOLDEN_TABLE
    assert draws.permutation(draws.key(16, draws.STREAM_PERMUTATION), 16).tolist() == GOLDEN_PERMUTATION
    P = make_projection("fastfood", shape=(10_000, 1_000), seed=2024)
    assert P._shifts(0, 6, CPU).tolist() == GOLDEN_SHIFTS


def test_the_normal_table_is_the_quantile_function():
    assert draws.normal_table().tolist() == quantiles()
    table = draws.normal_table() / 4096
    assert table.mean() == 0
    assert np.mean(table**2) == pytest.approx(1, abs=1e-6)
    assert np.mean(table**4) == pytest.approx(3, abs=2e-3)
    assert stats.kstest(table, "norm").statistic < 2e-4  # the grid of 2^-12 times the density's 0.4


def test_normal_draws_look_normal_and_uncorrelated():
    g = normals(draws.key(5, draws.STREAM_NORMAL), 0, 400_000) / 4096
    assert stats.kstest(g[::4], "norm").pvalue > 1e-3
    assert abs(g.mean()) < 5 / np.sqrt(len(g))
    assert abs(g.var() - 1) < 5 * np.sqrt(2 / len(g))
    for lag in (1, 2, 3, 4, 1024):
        assert abs(np.mean(g[:-lag] * g[lag:])) < 5 / np.sqrt(len(g))


def test_seeds_and_streams_are_independent():
    a = normals(draws.key(5, draws.STREAM_NORMAL), 0, 100_000) / 4096
    for other in (draws.key(6, draws.STREAM_NORMAL), draws.key(5, draws.STREAM_SHIFT)):
        b = normals(other, 0, 100_000) / 4096
        assert abs(np.mean(a * b)) < 5 / np.sqrt(len(a))


@pytest.mark.parametrize("kind", KINDS)
def test_two_seeds_give_unrelated_subspaces(kind):
    theta = torch.randn(60, generator=torch.Generator().manual_seed(0))
    a, b = (make_projection(kind, shape=(20_000, 60), seed=s).matvec(theta) for s in (1, 2))
    assert abs(torch.cosine_similarity(a, b, dim=0)) < 5 / np.sqrt(20_000)


def test_blocks_of_one_seed_are_unrelated():
    # Blocks share Π up to a shift and H B; their own g make their rows independent.
    theta = torch.randn(512, generator=torch.Generator().manual_seed(0))
    blocks = make_projection("fastfood", shape=(512 * 64, 512), seed=1).matvec(theta).view(64, 512)
    blocks = blocks / blocks.norm(dim=1, keepdim=True)
    cosines = (blocks @ blocks.T).fill_diagonal_(0)
    assert cosines.abs().max() < 6 / np.sqrt(512)


@pytest.mark.parametrize("n", [16, 1024, 4096])
def test_permutations_are_permutations(n):
    order = draws.permutation(draws.key(n, draws.STREAM_PERMUTATION), n)
    assert sorted(order.tolist()) == list(range(n))
    assert (order == torch.arange(n)).sum() < 10  # a random one leaves 1 in place on average


def test_a_shuffle_is_uniform():
    # 6,000 shuffles of 4: each of the 24 orders 250 times, by chi-squared.
    counts = {}
    for seed in range(6000):
        order = tuple(draws.permutation(draws.key(seed, draws.STREAM_PERMUTATION), 4).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_sparse_has_its_density():
    D, d = 2500, 40
    P = make_projection("sparse", shape=(D, d), seed=4)
    matrix = torch.stack([P.matvec(e) for e in torch.eye(d)], dim=1)
    entries = matrix[matrix != 0]
    expected = D * d / 50
    assert abs(len(entries) - expected) < 5 * np.sqrt(expected)
    assert abs((entries > 0).double().mean() - 0.5) < 5 * 0.5 / np.sqrt(expected)
    torch.testing.assert_close(entries.abs(), torch.full_like(entries, D**-0.25))


@pytest.mark.parametrize("shape", [(100, 16), (10_000, 1_000), (384, 3_000)])
def test_stored_and_regenerated_draws_give_the_same_bits(shape):
    D, d = shape
    stored, drawn = (
        make_projection("fastfood", shape=shape, seed=8, cache=c) for c in ("store", "regenerate")
    )
    theta, v = torch.randn(d), torch.randn(D)
    assert torch.equal(stored.matvec(theta), drawn.matvec(theta))
    assert torch.equal(stored.rmatvec(v), drawn.rmatvec(v))
    assert drawn.stored.numel() == 0
    assert stored.stored.numel() * stored.stored.element_size() <= 2 * D


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    P = Fastfood((500, 30), 3)
    P.rmatvec(P.matvec(torch.ones(30)))
    assert torch.equal(torch.get_rng_state(), before)
