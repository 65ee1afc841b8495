"""Fastfood and sign blocks in as few trips through memory as there are numbers: the transform's first pass
multiplies as it loads and its last pass adds as it stores.

A forward block is out = w0 + scale · H (x · g), its adjoint z += g · H (scale · v). Blocks of n ≤ 256 are
loaded, transformed in registers and stored by one pass; larger ones keep a buffer in cache between passes.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from intrinsic_cli.projections.hadamard import LANES
from intrinsic_cli.projections.kernels.numba.cast import narrowed, widened
from intrinsic_cli.projections.kernels.numba.draws import word
from intrinsic_cli.projections.kernels.numba.hadamard import across, at, next8, next16, offsets, within

_CACHED = 4096  # numbers that passes share while in the L1 cache
_LINE = 64  # bytes of a cache line
_AHEAD = 2048  # numbers: what the first pass reads is fetched so far ahead; the hardware stops at pages


def _pass(count, first, last, forward):
    """One pass over `count` vectors `stride` apart; `first`, `last`: it begins or ends the transform.

    A numba function (buffer, wide, shift, g, g0, source, target, v0, scale, start, stride) -> None. wide is x
    or z, read from `shift` around its end; g is read from g0, int16 numbers or, in uint16, signs of one bit (set
    for −1), 16 of a number; the weights source and target are read from v0.
    """

    @intrinsic
    def fused(typingctx, buffer, wide, shift, g, g0, source, target, v0, scale, start, stride):
        def codegen(context, builder, signature, args):
            kinds = signature.args
            buffer, wide, shift, g, g0, source, target, v0, scale, start, stride = range(11)
            vector = ir.VectorType(context.get_data_type(kinds[buffer].dtype), LANES)
            scales = _spread(builder, args[scale], vector)
            size = context.make_array(kinds[buffer])(context, builder, value=args[buffer]).nitems

            def place(array, base, offset):
                return at(
                    context,
                    builder,
                    kinds[array],
                    args[array],
                    builder.add(args[base], offset),
                )

            def turned(offset):
                """Where x or z has number `offset` of the block; both are cyclic, turned by whole vectors."""
                around = builder.and_(builder.add(args[shift], offset), builder.sub(size, size.type(1)))
                return at(context, builder, kinds[wide], args[wide], around)

            def load(pointer, align):
                return builder.load(pointer, align=align)

            def weights(array, offset):
                return widened(builder, load(*place(array, v0, offset)), kinds[array].dtype)

            def weighed(v, offset):
                """v times the g at `offset`."""
                if kinds[g].dtype != types.uint16:
                    return builder.fmul(v, builder.sitofp(load(*place(g, g0, offset)), vector))
                data = context.make_array(kinds[g])(context, builder, value=args[g]).data
                word = builder.lshr(builder.add(args[g0], offset), offset.type(4))
                return _signed(builder, v, builder.load(builder.gep(data, [word])))

            def fetch(array, base, offset):
                _fetch(
                    builder,
                    place(array, base, builder.add(offset, offset.type(_AHEAD)))[0],
                )

            places = offsets(builder, args[start], args[stride], count)
            here = [at(context, builder, kinds[buffer], args[buffer], offset) for offset in places]
            if first:
                for offset in places:
                    fetch(source, v0, offset)
                if kinds[g].dtype != types.uint16:
                    for offset in places[::2]:
                        fetch(g, g0, offset)
                if forward:
                    vectors = [weighed(load(*turned(i)), i) for i in places]
                else:
                    vectors = [builder.fmul(weights(source, i), scales) for i in places]
                vectors = [within(builder, v) for v in vectors]
            else:
                vectors = [load(*p) for p in here]
            vectors = across(builder, vectors)
            if not last:
                ends = here
            elif forward:
                vectors = [
                    narrowed(
                        builder,
                        builder.fadd(weights(source, i), builder.fmul(v, scales)),
                        kinds[target].dtype,
                    )
                    for i, v in zip(places, vectors, strict=True)
                ]
                ends = [place(target, v0, i) for i in places]
            else:
                ends = [turned(i) for i in places]
                vectors = [
                    builder.fadd(load(*end), weighed(v, i))
                    for i, v, end in zip(places, vectors, ends, strict=True)
                ]
            put = _stream if last and forward else _store
            put(builder, vectors, ends)
            return context.get_dummy_value()

        index = types.int64
        return types.void(buffer, wide, index, g, index, source, target, index, scale, index, index), codegen

    return fused


def _spread(builder, number, vector):
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _signed(builder, v, bits):
    """v with the signs of 16 bits (an integer), the lowest for the first number and set for −1."""
    mask = builder.bitcast(bits, ir.VectorType(ir.IntType(1), LANES))
    return builder.select(mask, builder.fneg(v), v)


def _store(builder, vectors, ends):
    for v, (pointer, align) in zip(vectors, ends, strict=True):
        builder.store(v, pointer, align=align)


def _stream(builder, vectors, ends):
    """Store `vectors` past the caches where each fills a line, and so without reading what was there.

    They lie whole vectors apart, so that all begin a line if the first does.
    """
    first, itemsize = ends[0]
    if vectors[0].type.count * itemsize < _LINE:
        _store(builder, vectors, ends)
        return
    address = builder.ptrtoint(first, ir.IntType(64))
    whole = builder.icmp_unsigned("==", builder.and_(address, address.type(_LINE - 1)), address.type(0))
    past_caches = builder.module.add_metadata([ir.IntType(32)(1)])
    with builder.if_else(whole, likely=True) as (then, otherwise):
        with then:
            for v, (pointer, _) in zip(vectors, ends, strict=True):
                builder.store(v, pointer, align=_LINE).set_metadata("nontemporal", past_caches)
        with otherwise:
            _store(builder, vectors, ends)


@intrinsic
def add_product(typingctx, total, t0, a, a0, g, g0, sign):
    """total ← total + a · (sign · g) for LANES numbers, from t0, a0 and g0 on; g is int16."""

    def codegen(context, builder, signature, args):
        def place(array):
            return at(context, builder, signature.args[array], args[array], args[array + 1])

        (end, align), (factor, _), (gains, align_g) = place(0), place(2), place(4)
        kind = end.type.pointee
        product = builder.fmul(
            builder.sitofp(builder.load(gains, align=align_g), kind), _spread(builder, args[6], kind)
        )
        product = builder.fmul(builder.load(factor, align=align), product)
        builder.store(builder.fadd(builder.load(end, align=align), product), end, align=align)
        return context.get_dummy_value()

    index = types.int64
    return types.void(total, index, a, index, g, index, sign), codegen


@intrinsic
def add_signed(typingctx, total, t0, a, a0, bits):
    """total ← total ± a for LANES numbers, from t0 and a0 on; `bits` (uint16) has the signs."""

    def codegen(context, builder, signature, args):
        (end, align), (factor, _) = (
            at(context, builder, signature.args[array], args[array], args[array + 1]) for array in (0, 2)
        )
        moved = _signed(builder, builder.load(factor, align=align), args[4])
        builder.store(builder.fadd(builder.load(end, align=align), moved), end, align=align)
        return context.get_dummy_value()

    index = types.int64
    return types.void(total, index, a, index, types.uint16), codegen


@njit(nogil=True)
def signed_block(total, t0, factor, f0, key, first):
    """total ← total ± factor for the numbers of a short block: x into it, or it into z.

    `total` and `factor` are read from t0 and f0, around their ends, the shorter one again and again. The signs are
    the draws from `first` on, a multiple of LANES.
    """
    bits = np.uint64(0)
    for start in range(0, max(total.shape[0], factor.shape[0]), LANES):
        place = first + start
        if start == 0 or place & 63 == 0:
            bits = word(key, np.uint64(place >> 6))
        t, f = (t0 + start) & (total.shape[0] - 1), (f0 + start) & (factor.shape[0] - 1)
        add_signed(total, t, factor, f, np.uint16(bits >> np.uint64(place & 63)))  # type: ignore[call-arg]


@intrinsic
def _finish_stores(typingctx):
    """Have what was stored past the caches seen by all threads."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


def _fetch(builder, pointer):
    """Have the line of `pointer` in the L2 cache: the L1 cache has too few places for lines on their way."""
    byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    to_read, into_l2, data = i32(0), i32(2), i32(1)
    builder.call(prefetch, [builder.bitcast(pointer, byte), to_read, into_l2, data])


@njit(nogil=True)
def block_shift(key, k, n):
    """s_k: where block k starts to read x, a multiple of LANES below n."""
    return np.int64(word(key, np.uint64(k)) & np.uint64(n // LANES - 1)) * LANES


@njit(nogil=True)
def _any_bits(words, first, last):
    """Whether any of words[first:last] (uint64) is set: a full block answers at once, an empty one at speed."""
    if words[first] != 0:
        return True
    seen = np.uint64(0)
    for bits in words[first:last]:  # an index would be checked for its sign, and the loop not vectorised
        seen |= bits
    return seen != 0


_add1, _add2, _add4, _add8, _add16 = (_pass(c, True, True, True) for c in (1, 2, 4, 8, 16))
_fold1, _fold2, _fold4, _fold8, _fold16 = (_pass(c, True, True, False) for c in (1, 2, 4, 8, 16))
_load16, _unload16 = _pass(16, True, False, True), _pass(16, True, False, False)
_store2, _store4, _store8, _store16 = (_pass(c, False, True, True) for c in (2, 4, 8, 16))
_pour2, _pour4, _pour8, _pour16 = (_pass(c, False, True, False) for c in (2, 4, 8, 16))


@njit(nogil=True)
def _middle(buffer, n):
    """The passes between the first (with all below 4,096 numbers) and the last; the length reached.

    By eights, as lines so far apart fall in one set of the first cache, which holds eight.
    """
    h = min(n, _CACHED) if n > _CACHED else 256
    while n // h > 16:
        for base in range(0, n, 8 * h):
            for i in range(base, base + h, LANES):
                next8(buffer, i, h)
        h *= 8
    return h


@njit(nogil=True)
def add_blocks(buffer, x, shift_key, begin, end, g, g0, w0, out, scale):
    """out ← w0 + scale · H (x · g) for the whole blocks begin … end − 1, whose g lie from g0."""
    n = buffer.shape[0]
    for k in range(begin, end):
        first = k * n
        shift = block_shift(shift_key, k, n)
        if n <= 256:
            if n == 256:
                _add16(buffer, x, shift, g, g0, w0, out, first, scale, 0, LANES)
            elif n == 128:
                _add8(buffer, x, shift, g, g0, w0, out, first, scale, 0, LANES)
            elif n == 64:
                _add4(buffer, x, shift, g, g0, w0, out, first, scale, 0, LANES)
            elif n == 32:
                _add2(buffer, x, shift, g, g0, w0, out, first, scale, 0, LANES)
            else:
                _add1(buffer, x, shift, g, g0, w0, out, first, scale, 0, LANES)
        else:
            for i in range(0, n, 256):
                _load16(buffer, x, shift, g, g0, w0, out, first, scale, i, LANES)
                if n > _CACHED and (i + 256) % _CACHED == 0:
                    for j in range(i + 256 - _CACHED, i + 512 - _CACHED, LANES):
                        next16(buffer, j, 256)
            h = _middle(buffer, n)
            for i in range(0, h, LANES):
                if n == 16 * h:
                    _store16(buffer, x, shift, g, g0, w0, out, first, scale, i, h)
                elif n == 8 * h:
                    _store8(buffer, x, shift, g, g0, w0, out, first, scale, i, h)
                elif n == 4 * h:
                    _store4(buffer, x, shift, g, g0, w0, out, first, scale, i, h)
                else:
                    _store2(buffer, x, shift, g, g0, w0, out, first, scale, i, h)
        g0 += n
    _finish_stores()  # type: ignore[call-arg]  # numba gives the context


@njit(nogil=True)
def fold_blocks(buffer, z, shift_key, begin, end, g, g0, v, first, scale):
    """z ← z + g · H (scale · v) for the whole blocks begin … end − 1; skips zeros.

    Their g lie from g0, their v from `first`.
    """
    n = buffer.shape[0]
    per_word = 8 // v.itemsize
    words = v[: v.size // per_word * per_word].view(np.uint64)
    for k in range(begin, end):
        if not _any_bits(words, first // per_word, (first + n) // per_word):
            g0 += n
            first += n
            continue
        shift = block_shift(shift_key, k, n)
        if n <= 256:
            if n == 256:
                _fold16(buffer, z, shift, g, g0, v, v, first, scale, 0, LANES)
            elif n == 128:
                _fold8(buffer, z, shift, g, g0, v, v, first, scale, 0, LANES)
            elif n == 64:
                _fold4(buffer, z, shift, g, g0, v, v, first, scale, 0, LANES)
            elif n == 32:
                _fold2(buffer, z, shift, g, g0, v, v, first, scale, 0, LANES)
            else:
                _fold1(buffer, z, shift, g, g0, v, v, first, scale, 0, LANES)
        else:
            for i in range(0, n, 256):
                _unload16(buffer, z, shift, g, g0, v, v, first, scale, i, LANES)
                if n > _CACHED and (i + 256) % _CACHED == 0:
                    for j in range(i + 256 - _CACHED, i + 512 - _CACHED, LANES):
                        next16(buffer, j, 256)
            h = _middle(buffer, n)
            for i in range(0, h, LANES):
                if n == 16 * h:
                    _pour16(buffer, z, shift, g, g0, v, v, first, scale, i, h)
                elif n == 8 * h:
                    _pour8(buffer, z, shift, g, g0, v, v, first, scale, i, h)
                elif n == 4 * h:
                    _pour4(buffer, z, shift, g, g0, v, v, first, scale, i, h)
                else:
                    _pour2(buffer, z, shift, g, g0, v, v, first, scale, i, h)
        g0 += n
        first += n
