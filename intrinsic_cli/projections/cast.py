"""Numbers of any weight type inside numba kernels: bfloat16 is read and written as its 16 bits (uint16)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I16, _I32 = ir.IntType(16), ir.IntType(32)


def _widen(typingctx, value):
    """A float as it is; the bits of a bfloat16 (uint16) as float32."""
    result = types.float32 if value == types.uint16 else value

    def codegen(context, builder, signature, args):
        if signature.args[0] != types.uint16:
            return args[0]
        bits = builder.shl(builder.zext(args[0], _I32), ir.Constant(_I32, 16))
        return builder.bitcast(bits, ir.FloatType())

    return result(value), codegen


def _narrow(typingctx, value, like):
    """`value` (a float) in the type of `like`; to bfloat16 by rounding to nearest, ties to even."""

    def codegen(context, builder, signature, args):
        source, target = signature.args
        if target != types.uint16:
            return context.cast(builder, args[0], source, target)
        bits = builder.bitcast(context.cast(builder, args[0], source, types.float32), _I32)
        upper = builder.lshr(bits, ir.Constant(_I32, 16))
        half = builder.add(builder.and_(upper, ir.Constant(_I32, 1)), ir.Constant(_I32, 0x7FFF))
        rounded = builder.trunc(builder.lshr(builder.add(bits, half), ir.Constant(_I32, 16)), _I16)
        # Rounding up the payload of a NaN could carry into an infinity or the sign.
        is_nan = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.select(is_nan, ir.Constant(_I16, 0x7FC0), rounded)

    return like(value, like), codegen


widen: Any = intrinsic(_widen)
narrow: Any = intrinsic(_narrow)
