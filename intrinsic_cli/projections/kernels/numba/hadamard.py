"""The fast Walsh-Hadamard transform H_n, unnormalised, in place: n log₂ n additions, for n = 2^k ≥ 16.

H_n[a, b] = (−1)^popcount(a & b) (Sylvester's order), so H_n = H_{n/m} ⊗ H_m and H_n is its own adjoint.
On the CPU a pass loads up to 16 vectors of 16 numbers, does up to eight of the log₂ n butterfly stages in
registers and stores them: two passes over a buffer in the L1 cache do n = 1,024. The four stages inside a
vector are y = x·(±1) + swap(x). The order of additions is fixed, and products with ±1 are exact, so the
bits are the same with and without fused multiply-add.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.hadamard import LANES

_L1 = 4096  # numbers: 16 KB in float32, 32 KB in float64


def within(builder, v):
    """The stages 1, 2, 4, 8 of a transform, inside one vector."""
    name = f"llvm.fmuladd.v{LANES}{'f32' if isinstance(v.type.element, ir.FloatType) else 'f64'}"
    fmuladd = cgutils.get_or_insert_function(builder.module, ir.FunctionType(v.type, [v.type] * 3), name)
    for bit in (1, 2, 4, 8):
        order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [i ^ bit for i in range(LANES)])
        sign = ir.Constant(v.type, [-1.0 if i & bit else 1.0 for i in range(LANES)])
        v = builder.call(fmuladd, [v, sign, builder.shuffle_vector(v, v, order)])
    return v


def across(builder, vectors):
    """The butterfly stages between `vectors`, whose number is a power of two."""
    h = 1
    while h < len(vectors):
        for i in range(len(vectors)):
            if not i & h:
                a, b = vectors[i], vectors[i + h]
                vectors[i], vectors[i + h] = builder.fadd(a, b), builder.fsub(a, b)
        h *= 2
    return vectors


def at(context, builder, kind, array, offset):
    """A pointer to LANES numbers of the numba array `array` of type `kind`, and their alignment in bytes."""
    data = context.make_array(kind)(context, builder, value=array).data
    vector = ir.VectorType(context.get_data_type(kind.dtype), LANES)
    return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer()), kind.dtype.bitwidth // 8


def _pass(count, inside):
    """A numba function (buffer, start, stride) -> None over `count` vectors, `stride` numbers apart."""

    @intrinsic
    def butterflies(typingctx, buffer, start, stride):
        def codegen(context, builder, signature, args):
            places = [
                at(context, builder, signature.args[0], args[0], offset)
                for offset in offsets(builder, args[1], args[2], count)
            ]
            vectors = [builder.load(pointer, align=align) for pointer, align in places]
            if inside:
                vectors = [within(builder, v) for v in vectors]
            for (pointer, align), v in zip(places, across(builder, vectors), strict=True):
                builder.store(v, pointer, align=align)
            return context.get_dummy_value()

        return types.void(buffer, types.int64, types.int64), codegen

    return butterflies


def offsets(builder, start, stride, count):
    """start, start + stride, …: `count` of them."""
    return [builder.add(start, builder.mul(stride, stride.type(i))) for i in range(count)]


_first1, _first2, _first4, _first8, _first16 = (_pass(count, True) for count in (1, 2, 4, 8, 16))
_next2, _next4, next8, next16 = (_pass(count, False) for count in (2, 4, 8, 16))


@njit(nogil=True, inline="always")
def _widen(buffer, start, n, h):
    """Turn the transforms of length `h` in buffer[start : start + n] into one of length `n`."""
    while h < n:
        count = min(n // h, 16)
        for base in range(start, start + n, count * h):
            for j in range(base, base + h, LANES):
                if count == 16:
                    next16(buffer, j, h)
                elif count == 8:
                    next8(buffer, j, h)
                elif count == 4:
                    _next4(buffer, j, h)
                else:
                    _next2(buffer, j, h)
        h *= count


@njit(nogil=True)
def fwht(buffer):
    """buffer ← H_n buffer, for a contiguous float32 or float64 array of n = 2^k ≥ 16 numbers."""
    n = buffer.shape[0]
    if n >= 256:
        for start in range(0, n, _L1):
            part = min(n, _L1)
            for i in range(start, start + part, 256):
                _first16(buffer, i, LANES)
            _widen(buffer, start, part, 256)
        _widen(buffer, 0, n, min(n, _L1))
    elif n == 128:
        _first8(buffer, 0, LANES)
    elif n == 64:
        _first4(buffer, 0, LANES)
    elif n == 32:
        _first2(buffer, 0, LANES)
    else:
        _first1(buffer, 0, LANES)


@njit(nogil=True)
def line_aligned(n, like):
    """`n` numbers of the type of `like`, not set, so placed that no vector straddles two cache lines."""
    raw = np.empty(n + 64 // like.itemsize, like.dtype)
    start = -(raw.ctypes.data // like.itemsize) % (64 // like.itemsize)
    return raw[start : start + n]


@cached_njit(nogil=True)
def fwht_inplace(buffer):
    """`fwht` to be called from Python."""
    fwht(buffer)
