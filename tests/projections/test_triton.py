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

pytest.importorskip(
    "triton", reason="triton is not installed: pip install triton==3.9.0, then scripts/test-triton"
)
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs TRITON_INTERPRET=1: scripts/test-triton sets it", allow_module_level=True)

from intrinsic_cli.projections.kernels import triton as kernel

KINDS = ("fastfood", "signs", "sorf")
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
    kernel._pieces.cache_clear()
    sizes = (1, 40, 5_000, 384, 9_000)
    types = (torch.float32, torch.bfloat16, torch.float32, torch.bfloat16, torch.bfloat16)
    scales = (1.0, 0.5, 2.0, -1.5, 1.0)
    results = []
    for name in ("triton", "triton", "torch"):
        Ps = [make_projection(kind, shape=(D, 100), seed=i, kernel=name) for i, D in enumerate(sizes)]
        w0 = [randn(D, seed=10 + i, dtype=types[i]) for i, D in enumerate(sizes)]
        out = [torch.empty_like(w) for w in w0]
        add_to_all(Ps, w0, Ps[0].encode(randn(100, dtype=torch.float32)), scales, out)
        z = Ps[0].accumulator(torch.float32)
        fold_all(Ps, w0, scales, z)
        results.append((out, Ps[0].decode(z)))
    kernel._pieces.cache_clear()
    (ours, g), (again, g_again), (theirs, g_theirs) = results
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))
    assert torch.equal(g, g_again)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2 if a.dtype == torch.bfloat16 else 1e-5, atol=1e-5)
    torch.testing.assert_close(g, g_theirs, rtol=1e-4, atol=1e-4)


def test_rows_of_an_embedding():
    P, Q = (make_projection("fastfood", shape=(40, 48, 60), seed=5, kernel=k) for k in ("triton", "torch"))
    rows, values = torch.tensor([39, 2, 2]), randn(3, 48)
    a, b = (fold_rows(R, rows, values, 0.7, R.accumulator(torch.float64)) for R in (P, Q))
    torch.testing.assert_close(P.decode(a), Q.decode(b), rtol=0, atol=1e-12)


def test_a_kind_without_code_is_named():
    P = make_projection("dense", shape=(10, 3), seed=0, kernel="triton")
    with pytest.raises(ConfigError, match=r"projection\.kernel=triton has no code for projection=dense"):
        P.matvec(randn(3))


COMPILE = """
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from intrinsic_cli.projections.kernels import triton as kernel

def compiled(function, types, constants):
    places = {(function.arg_names.index(name),): getattr(v, "value", v) for name, v in constants.items()}
    signature = types | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=function, signature=signature, constexprs=places)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": kernel._WARPS})

types = {"table": "*i64", "tiles": "*i64", "scales": "*fp32", "normals": "*i16", "x": "*fp32", "scratch": "*fp32"}
same = {"TURNED": True, "REAL": tl.float32, "SOURCE": tl.float32, "TARGET": tl.bfloat16}
for n, way in (
    (1024, (kernel._FROM_X, kernel._NORMALS, kernel._NONE, kernel._TO_OUT)),
    (1 << 20, (kernel._FROM_V, kernel._NONE, kernel._SIGNS, kernel._TO_SCRATCH)),
):
    for options in kernel._whole(n, *way):
        assert compiled(kernel._pass, types, same | {"n": n} | options).asm["cubin"]
types = {"table": "*i64", "blocks": "*i64", "count": "i32", "scratch": "*fp32", "partial": "*fp32", "parts": "i32"}
constants = {"n": 1024, "TURNED": True, "COUNT": 256, "REAL": tl.float32}
assert compiled(kernel._reduce, types, constants).asm["cubin"]
"""


def test_it_compiles_for_a_gpu(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {
        "TRITON_CACHE_DIR": str(tmp_path)
    }
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
