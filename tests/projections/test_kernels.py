"""All kernels compute one P; which one does is chosen by what the machine can do."""

import math

import pytest
import torch

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.projections import kernels, make_projection, sparse

# Every length of transform, with at least one whole block: n = 16, 32, … 16,384, and 131,072.
SHAPES = [(1, 1), (384, 5000), *((3 * n + 5, n) for n in (16 << i for i in range(11))), (140_000, 70_000)]


def randn(size, seed, dtype=torch.float64):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.long
@pytest.mark.parametrize(("D", "d"), SHAPES)
def test_the_kernel_agrees_with_the_definition_in_torch(make, kind, D, d):
    if D * d > (1e7 if kind == "dense" else 1e9 if kind == "sparse" else math.inf):
        pytest.skip(f"a {kind} projection of this size takes minutes")
    P = make(kind, shape=(D, d), seed=11)
    theta, v, w0 = randn(d, 0), randn(D, 1), randn(D, 2)
    x = P.encode(theta)
    out, expected = torch.empty_like(w0), torch.empty_like(w0)
    P.add_to(w0, x, 0.7, out)
    P.add_torch(w0, x, 0.7, expected)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-11)
    z = torch.zeros_like(x)
    P.fold_torch(v, 0.7, z)
    torch.testing.assert_close(P.fold(v, 0.7).sum(dim=0), z, rtol=0, atol=1e-11 * math.sqrt(D * len(x)))


def test_a_logarithm_has_the_same_bits_in_torch():
    # Gaps of `sparse` come from it: one bit of difference would move all that follow.
    u = torch.cat(
        ((torch.randint(0, 1 << 53, (5000,)).double() + 1) * 2.0**-53, torch.tensor([2.0**-53, 1.0]))
    )
    assert sparse._log_of(u).tolist() == [sparse.log(value) for value in u.tolist()]
    for value in u[:200].tolist():
        assert sparse.log(value) == pytest.approx(math.log(value), rel=1e-15, abs=1e-16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("D", "d"), [(100, 40), (3000, 100), (384, 5000)])
def test_cuda_has_the_same_projection(kind, D, d):
    P, on_gpu = (make_projection(kind, shape=(D, d), seed=11) for _ in range(2))
    theta, v = randn(d, 0), randn(D, 1)
    torch.testing.assert_close(on_gpu.matvec(theta.cuda()).cpu(), P.matvec(theta), rtol=0, atol=1e-11)
    torch.testing.assert_close(
        on_gpu.rmatvec(v.cuda()).cpu(), P.rmatvec(v), rtol=0, atol=1e-11 * math.sqrt(D)
    )


def test_a_tensor_has_the_projection_of_its_numbers(make, kind):
    # The kinds so far see a tensor as its numbers in a row; P knows its shape all the same.
    P, Q = make(kind, shape=(6, 10, 7), seed=1), make(kind, shape=(60, 7), seed=1)
    assert (P.rows, P.shape) == ((6, 10), (60, 7))
    assert torch.equal(P.matvec(randn(7, 0)), Q.matvec(randn(7, 0)))
    assert make(kind, shape=(7,), seed=1).shape == (1, 7)  # a scalar's


def test_a_kernel_is_asked_for_by_name_or_chosen():
    cpu = torch.device("cpu")
    for name, found in (("torch", "TorchKernel"), ("numba", "NumbaKernel"), ("auto", "NumbaKernel")):
        P = make_projection("fastfood", shape=(10, 3), seed=0, kernel=name)
        assert type(kernels.choose(P, cpu)).__name__ == found
    P = make_projection("fastfood", shape=(10, 3), seed=0, kernel="numba")
    with pytest.raises(ConfigError, match=r"projection\.kernel=numba does not compute on meta"):
        P.matvec(torch.zeros(3, device="meta"))
