"""Numbers of any weight type inside numba kernels, which read and write bfloat16 and float16 as their 16 bits.

numba has neither type: uint16 stands for bfloat16 and int16 for float16.
"""

from __future__ import annotations

from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

VIEWED_AS = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}
_BITS = (types.uint16, types.int16)


def of_width(value, element):
    """The type of `value`, a number or a vector, with another element type."""
    return ir.VectorType(element, value.type.count) if isinstance(value.type, ir.VectorType) else element


def constant(kind, number):
    """`number` as a constant of type `kind`, in every lane if that is a vector."""
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def widened(builder, value, kind):
    """LLVM code: a float as it is; the bits of a bfloat16 or float16, by `kind`, as float32. Number or vector."""
    if kind == types.int16:
        half = builder.bitcast(value, of_width(value, ir.HalfType()))
        return builder.fpext(half, of_width(value, ir.FloatType()))
    if kind != types.uint16:
        return value
    wide = of_width(value, ir.IntType(32))
    bits = builder.shl(builder.zext(value, wide), constant(wide, 16))
    return builder.bitcast(bits, of_width(value, ir.FloatType()))


def narrowed(builder, value, kind):
    """LLVM code: a float32 to bits of a bfloat16 or float16 (`kind`), to nearest, ties to even; else as it is."""
    if kind == types.int16:
        half = builder.fptrunc(value, of_width(value, ir.HalfType()))
        return builder.bitcast(half, of_width(value, ir.IntType(16)))
    if kind != types.uint16:
        return value
    wide, narrow = of_width(value, ir.IntType(32)), of_width(value, ir.IntType(16))
    bits = builder.bitcast(value, wide)
    upper = builder.lshr(bits, constant(wide, 16))
    half = builder.add(builder.and_(upper, constant(wide, 1)), constant(wide, 0x7FFF))
    rounded = builder.trunc(builder.lshr(builder.add(bits, half), constant(wide, 16)), narrow)
    # Rounding up the payload of a NaN could carry into an infinity or the sign.
    is_nan = builder.fcmp_unordered("uno", value, value)
    return builder.select(is_nan, constant(narrow, 0x7FC0), rounded)


def _widen(typingctx, value):
    result = types.float32 if value in _BITS else value

    def codegen(context, builder, signature, args):
        return widened(builder, args[0], signature.args[0])

    return result(value), codegen


def _narrow(typingctx, value, like):
    def codegen(context, builder, signature, args):
        source, target = signature.args
        middle = types.float32 if target in _BITS else target
        return narrowed(builder, context.cast(builder, args[0], source, middle), target)

    return like(value, like), codegen


# numba functions: widen(value) reads a weight as a float; narrow(value, like) gives it the type of `like`.
widen: Any = intrinsic(_widen)
narrow: Any = intrinsic(_narrow)
