"""The Triton kernel, in Triton's interpreter on CPU tensors, and compiled for a GPU that need not be there.

`scripts/test-triton` runs this. The interpreter has to be asked for before triton is imported.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.oracle import MATRICES, fastfood_rows

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.projections import make_projection
from intrinsic_cli.projections.contract import add_to_all, fold_all, fold_rows
from intrinsic_cli.projections.hadamard import fwht

pytest.importorskip(
    "triton", reason="triton is not installed: pip install triton==3.9.0, then scripts/test-triton"
)
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs TRITON_INTERPRET=1: scripts/test-triton sets it", allow_module_level=True)

from intrinsic_cli.projections.kernels import triton as kernel

KINDS = ("fastfood", "signs", "sorf")
TYPES = (torch.float32, torch.bfloat16, torch.float32)
# d = 1, d > D, powers of two and none, one block and several, a last block cut short or whole.
SHAPES = [(1, 1), (5, 13), (48, 16), (300, 17), (33, 100), (129, 128)]


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def agree(P, expected):
    """P θ and Pᵀ v against a matrix."""
    D, d = P.shape
    theta, v = randn(d), randn(D, seed=1)
    np.testing.assert_allclose(P.matvec(theta).numpy(), expected @ theta.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(P.rmatvec(v).numpy(), expected.T @ v.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("D", "d"), SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_is_the_matrix_of_its_definition(kind, D, d):
    agree(make_projection(kind, shape=(D, d), seed=12345, kernel="triton"), MATRICES[kind](D, d, 12345))


def test_version_1_is_the_matrix_of_its_definition():
    P = make_projection("fastfood", shape=(300, 100), seed=12345, kernel="triton", version=1)
    agree(P, MATRICES["fastfood"](300, 100, 12345, 1))


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize(
    ("D", "d", "rows"), [(384, 5_000, [0, 1, 200, 383]), (8_192 + 16, 8_000, [0, 8_191, 8_192, 8_207])]
)
def test_a_block_that_no_program_holds_is_that_of_its_definition(version, D, d, rows):
    P = make_projection("fastfood", shape=(D, d), seed=12345, kernel="triton", version=version)
    theta, v = randn(d), randn(D, seed=1)
    moved = P.matvec(theta)
    expected = fastfood_rows(rows, D, 12345, version, theta.numpy())
    np.testing.assert_allclose(moved[rows].numpy(), expected, rtol=0, atol=1e-13 * theta.norm())
    assert float(moved @ v) == pytest.approx(float(theta @ P.rmatvec(v)), rel=1e-10)
    assert P.stored.numel() == 0


@pytest.mark.parametrize("kind", ["signs", "sorf"])
def test_large_blocks_of_signs_are_those_of_the_torch_kernel(kind):
    P, Q = (make_projection(kind, shape=(9_000, 8_000), seed=4, kernel=name) for name in ("triton", "torch"))
    theta, v = randn(8_000), randn(9_000, seed=1)
    torch.testing.assert_close(P.matvec(theta), Q.matvec(theta), rtol=0, atol=1e-11)
    torch.testing.assert_close(P.rmatvec(v), Q.rmatvec(v), rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_many_tensors_of_several_types_at_once(kind, monkeypatch):
    monkeypatch.setattr(kernel, "_SCRATCH", 1 << 13)  # so that they come in several parts
    kernel._group.cache_clear()
    kernel._pieces.cache_clear()
    sizes = (1, 40, 5_000, 384, 9_000)
    types = (torch.float32, torch.bfloat16, torch.float32, torch.float16, torch.bfloat16)
    written = (torch.float32, torch.float32, torch.bfloat16, torch.float16, torch.float32)
    scales = torch.tensor((1.0, 0.5, 2.0, -1.5, 1.0))
    results = []
    for name in ("triton", "triton", "torch"):
        Ps = [make_projection(kind, shape=(D, 100), seed=i, kernel=name) for i, D in enumerate(sizes)]
        w0 = [randn(D, seed=10 + i, dtype=types[i]) for i, D in enumerate(sizes)]
        out = [torch.empty(D, dtype=written[i]) for i, D in enumerate(sizes)]
        add_to_all(Ps, w0, Ps[0].encode(randn(100, dtype=torch.float32)), scales, out)
        z = Ps[0].accumulator(torch.float32)
        fold_all(Ps, w0, scales, z)
        results.append((out, Ps[0].decode(z)))
    kernel._group.cache_clear()
    kernel._pieces.cache_clear()
    (ours, g), (again, g_again), (theirs, g_theirs) = results
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))
    assert torch.equal(g, g_again)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5 if a.dtype == torch.float32 else 1e-2, atol=1e-5)
    torch.testing.assert_close(g, g_theirs, rtol=1e-4, atol=1e-4)


def test_rows_of_an_embedding():
    P, Q = (make_projection("fastfood", shape=(40, 48, 60), seed=5, kernel=k) for k in ("triton", "torch"))
    rows, values = torch.tensor([39, 2, 2]), randn(3, 48)
    a, b = (fold_rows(R, rows, values, 0.7, R.accumulator(torch.float64)) for R in (P, Q))
    torch.testing.assert_close(P.decode(a), Q.decode(b), rtol=0, atol=1e-12)


def test_models_of_one_shape_share_their_units_of_work():
    """So that a process that makes one subspace after another does not fill the device with them."""
    kinds = torch.float32, torch.float32, torch.float32, torch.device("cpu")
    made = [
        tuple(make_projection("fastfood", shape=(D, 60), seed=seed) for D in (700, 40, 3)) for seed in (1, 2)
    ]
    first, second = (kernel._group(Ps, *kinds) for Ps in made)
    assert first is not second
    assert all(a is b for a, b in zip(first.pieces, second.pieces, strict=True))


def test_a_kind_without_code_is_named():
    P = make_projection("dense", shape=(10, 3), seed=0, kernel="triton")
    with pytest.raises(ConfigError, match=r"projection\.kernel=triton has no code for projection=dense"):
        P.matvec(randn(3))


@pytest.mark.parametrize("n", [16, 1024, 2048, 4096, 8192, 16384, 1 << 18])
def test_a_transform_is_the_one_of_plain_torch(n):
    v = randn(n)
    moved = kernel.TritonKernel().transform(v)
    torch.testing.assert_close(moved, fwht(v), rtol=0, atol=1e-11)
    assert torch.equal(v, randn(n))  # which is left as it was


@pytest.mark.parametrize(("D", "d"), [(2_060, 2_000), (4_200, 4_000), (20_000, 17_000)])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_that_several_warps_or_programs_share(kind, D, d):
    P, Q = (make_projection(kind, shape=(D, d), seed=4, kernel=name) for name in ("triton", "torch"))
    theta, v = randn(d), randn(D, seed=1)
    torch.testing.assert_close(P.matvec(theta), Q.matvec(theta), rtol=0, atol=1e-11)
    torch.testing.assert_close(P.rmatvec(v), Q.rmatvec(v), rtol=0, atol=1e-11)


@pytest.fixture
def small_programs(monkeypatch):
    """Programs of 1,024 numbers, so that blocks have many parts."""
    monkeypatch.setattr(kernel, "_MOST", 1024)
    kernel._plan.cache_clear()
    kernel._group.cache_clear()
    yield
    kernel._plan.cache_clear()
    kernel._group.cache_clear()


# One row, some of one part, a few of the next, whole blocks and some: runs of 256 numbers across the parts.
DRAWS = ("fastfood", 1), ("fastfood", 2), ("fastfood", 3), ("sorf", 1)
MANY_PARTS = [(*draw, D, 4_000) for draw in DRAWS for D in (1, 1_025, 9_300)]
MANY_PARTS.append(("fastfood", 2, 300, 100_000))  # runs of 8


@pytest.mark.parametrize(("kind", "version", "D", "d"), MANY_PARTS)
@pytest.mark.usefixtures("small_programs")
def test_blocks_of_many_parts_of_which_some_hold_no_rows(kind, version, D, d):
    P, Q = (
        make_projection(kind, shape=(D, d), seed=4, kernel=name, version=version)
        for name in ("triton", "torch")
    )
    theta, v = randn(d), randn(D, seed=1)
    torch.testing.assert_close(P.matvec(theta), Q.matvec(theta), rtol=0, atol=1e-11 * D**0.5)
    torch.testing.assert_close(P.rmatvec(v), Q.rmatvec(v), rtol=0, atol=1e-11 * D**0.5)


@pytest.mark.parametrize("d", [20, 9_000])
def test_a_fold_tells_the_squared_length_of_what_it_folds(d):
    sizes, scales = (700, 40, 3), (1.0, -2.0, 0.5)
    Ps = [make_projection("fastfood", shape=(D, d), seed=i, kernel="triton") for i, D in enumerate(sizes)]
    v = [randn(D, seed=i) for i, D in enumerate(sizes)]
    square = fold_all(Ps, v, scales, Ps[0].accumulator(torch.float64))
    assert float(square) == pytest.approx(sum(float(w @ w) for w in v), rel=1e-12)


def test_scales_may_be_a_tensor_that_stays_where_it_is():
    sizes, scales = (70, 40, 300), torch.tensor([1.0, -2.0, 0.5])
    Ps = [make_projection("fastfood", shape=(D, 20), seed=i, kernel="triton") for i, D in enumerate(sizes)]
    w0 = [randn(D, seed=i, dtype=t) for i, (D, t) in enumerate(zip(sizes, TYPES, strict=True))]
    given = [torch.empty_like(w) for w in w0], [torch.empty_like(w) for w in w0]
    x = Ps[0].encode(randn(20, dtype=torch.float32))
    for out, factors in zip(given, (scales, scales.tolist()), strict=True):
        add_to_all(Ps, w0, x, factors, out)
    assert all(torch.equal(a, b) for a, b in zip(*given, strict=True))


def test_a_d_that_is_too_large_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="up to 16,777,216 numbers, not 33,554,432; use torch"):
        kernel._Plan(1 << 25)


COMPILE = """
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from intrinsic_cli.projections.kernels import triton as kernel
from intrinsic_cli.projections.kernels.triton import programs

def compiled(function, **constants):
    options = {name: constants.pop(name) for name in ("num_warps", "maxnreg") if name in constants}
    places = {(function.arg_names.index(name),): getattr(v, "value", v) for name, v in constants.items()}
    signature = {name: POINTERS.get(name, "constexpr") for name in function.arg_names}
    source = ASTSource(fn=function, signature=signature, constexprs=places)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)

POINTERS = dict.fromkeys(["table", "units", "sources", "targets"], "*i64") | {"normals": "*i16"}
POINTERS |= dict.fromkeys(["scales", "x", "scratch", "partial", "squares"], "*fp32")
POINTERS |= {"count": "i32", "parts": "i32"}
for n, source in (128, tl.float16), (8192, tl.bfloat16), (1 << 20, tl.bfloat16):
    types = {"SOURCE": source, "REAL": tl.float32, "ALIGNED": True, "TURNED": True}
    plan = kernel._Plan(n)
    there = plan.passes([{"BEFORE": programs.NORMALS}], programs.FROM_X, programs.TO_OUT)
    back = plan.passes([{"AFTER": programs.SIGNS}], programs.FROM_V, programs.TO_SCRATCH)
    for options in there + back:
        assert compiled(programs.transform, TARGET=tl.float32, **types, **options).asm["cubin"]
    if plan.parts == 1:
        sizes = {"n": n, "COUNT": plan.count, **plan.launch}
        assert compiled(programs.fold, BETWEEN=programs.OUTER, AFTER=programs.INNER, **types, **sizes).asm["cubin"]
assert compiled(programs.reduce, n=1 << 20, TURNED=True, COUNT=256).asm["cubin"]
"""


def test_it_compiles_for_a_gpu(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {
        "TRITON_CACHE_DIR": str(tmp_path)
    }
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
