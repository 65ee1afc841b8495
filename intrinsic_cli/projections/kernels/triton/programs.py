"""What runs on the GPU: programs that draw, transform and scale numbers of some blocks of P in registers.

A program transforms whole blocks for n ≤ 8,192, 32 numbers to a thread. A larger transform is
H_n = H_{n/m} ⊗ H_m with m = 8,192: across the block's parts of m numbers, and within each of those that hold rows
of the tensor. A table tells a program which rows of which tensor are its own.
"""

# mypy: disable-error-code="attr-defined, call-arg, valid-type"
from __future__ import annotations

import triton
import triton.language as tl

WARP = tl.constexpr(1024)  # numbers that a warp transforms
# The lowest bit of a number's place that tells warps apart: a thread holds vectors of 4, a warp has 32 threads.
_LOW = tl.constexpr(7)

# What a pass reads, what it writes, and a diagonal of P.
# The scratch can hold, of a block, only the parts that hold rows of the tensor: FROM_ROWS, TO_ROWS.
FROM_X, FROM_V, FROM_SCRATCH, FROM_ROWS = (tl.constexpr(i) for i in range(4))
TO_OUT, TO_SCRATCH, TO_ROWS = (tl.constexpr(i) for i in range(3))
NONE, NORMALS, SIGNS, OUTER, INNER = (tl.constexpr(i) for i in range(5))
# Columns of a tensor's row in the table: its size, its keys, the period of a short block's normals (0: signs).
_ROWS, _SIGN_KEY, _OTHER_KEY, _SHIFT_KEY, _PERIOD = (tl.constexpr(i) for i in range(5))
_COLUMNS = tl.constexpr(5)


@triton.constexpr_function
def _least(a, b):
    return min(a, b)


@triton.constexpr_function
def _log2(n):
    return n.bit_length() - 1


@triton.constexpr_function
def _bits(first, count):
    return (1 << count) - 1 << first


@triton.constexpr_function
def _within(bit, first, last):
    return first <= bit < last


@triton.jit
def _word(key, counter):
    """SplitMix64: the 64-bit draw `counter` (int64) of the stream `key` (uint64)."""
    z = key + (counter.to(tl.uint64) + 1) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


@triton.jit
def _key(row, column):
    return tl.load(row + column).to(tl.uint64, bitcast=True)


@triton.jit
def _spread(k, COUNT: tl.constexpr, STEP: tl.constexpr):
    """Where number k of COUNT lies, in runs of STEP that begin COUNT apart."""
    if STEP < COUNT:
        k = k // STEP * COUNT + k % STEP
    return k


@triton.jit
def _every(first, EACH: tl.constexpr, COUNT: tl.constexpr, STEP: tl.constexpr):
    """(COUNT // EACH,): every EACH-th of COUNT places from `first` on, in the runs of `_spread`."""
    return first + _spread(tl.arange(0, COUNT // EACH) * EACH, COUNT, STEP)


@triton.jit
def _signs(key, first, n: tl.constexpr, COUNT: tl.constexpr, STEP: tl.constexpr, APART: tl.constexpr):
    """(COUNT,) int32 of ±1: draws of a stream, or with APART those of blocks that begin at new words."""
    EACH: tl.constexpr = _least(_least(n, STEP), 32)
    start = _every(first, EACH, COUNT, STEP)
    if APART and n < 64:
        words = _word(key, start // n)
    else:
        words = _word(key, start >> 6) >> (start & 63).to(tl.uint64)
    bits = words.to(tl.uint32)[:, None] >> tl.arange(0, EACH).to(tl.uint32)[None, :] & 1
    return tl.reshape(1 - 2 * bits.to(tl.int32), (COUNT,))


@triton.jit
def _normals(key, counters, COUNT: tl.constexpr, table):
    """(COUNT,) int32, in units of 1 / NORMAL_ONE: the four normal draws of each of the words `counters`."""
    fields = (_word(key, counters)[:, None] >> (tl.arange(0, 4) * 16).to(tl.uint64)[None, :]).to(tl.int32)
    # The lower quantiles are the upper ones with a minus sign, from the end: half a table stays in the L1 cache.
    lower = (fields & 0x8000) - 0x8000 >> 31  # −1 or 0
    g = tl.load(table + ((fields ^ lower) & 0x7FFF)).to(tl.int32)
    return tl.reshape((g ^ lower) - lower, (COUNT,))


@triton.jit
def _short_normals(row, first, period, n: tl.constexpr, COUNT: tl.constexpr, STEP: tl.constexpr, table):
    """Those of a short block in versions 1 and 2: with a period below n they repeat, 16 of them with one sign."""
    at = _every(first, 4, COUNT, STEP)
    g = _normals(_key(row, _OTHER_KEY), at // n * n + (at & (period - 1)) >> 2, COUNT, table)
    EACH: tl.constexpr = _least(STEP, 16)
    lanes = _every(first, EACH, COUNT, STEP) >> 4
    signs = _word(_key(row, _SIGN_KEY), lanes >> 6) >> (lanes & 63).to(tl.uint64) & 1
    every = tl.where(period < n, 1 - 2 * signs.to(tl.int32), 1)
    return tl.reshape(tl.reshape(g, (COUNT // EACH, EACH)) * every[:, None], (COUNT,))


@triton.jit
def _diagonal(
    row, first, n: tl.constexpr, COUNT: tl.constexpr, STEP: tl.constexpr, table, WHICH: tl.constexpr
):  # fmt: skip
    """(COUNT,) int32: a diagonal's numbers of rows `first`, … (`_every`) of a tensor with this row of the table."""
    if WHICH == SIGNS:
        g = _signs(_key(row, _SIGN_KEY), first, n, COUNT, STEP, False)
    elif WHICH == OUTER:
        g = _signs(_key(row, _SIGN_KEY), first, n, COUNT, STEP, True)
    elif WHICH == INNER:
        g = _signs(_key(row, _OTHER_KEY), first, n, COUNT, STEP, True)
    else:
        g = _normals(_key(row, _OTHER_KEY), _every(first, 4, COUNT, STEP) >> 2, COUNT, table)
        whole = tl.load(row + _ROWS) // n * n - first
        if whole < COUNT:
            period = tl.load(row + _PERIOD)
            if period == 0:
                short = _signs(_key(row, _SIGN_KEY), first, n, COUNT, STEP, False) * 4096
            else:
                short = _short_normals(row, first, period, n, COUNT, STEP, table)
            g = tl.where(tl.arange(0, COUNT) < whole, g, short)
    return g


@triton.jit
def _butterfly(v, COUNT: tl.constexpr, STEP: tl.constexpr):
    """a + b and a − b of numbers STEP apart."""
    pairs = tl.reshape(v, (COUNT // STEP // 2, 2, STEP))
    total = tl.sum(pairs, axis=1, keep_dims=True)
    # a − b = (a + b) − 2b: between threads this takes one exchange, the difference itself two.
    second = tl.arange(0, 2)[None, :, None] == 1
    return tl.reshape(tl.where(second, total - 2 * pairs, total), (COUNT,))


@triton.jit
def _swapped(j, COUNT: tl.constexpr):
    """j with the bits that tell a program's warps apart exchanged for its highest ones: its own inverse."""
    WARPS: tl.constexpr = _log2(COUNT // WARP)
    HIGH: tl.constexpr = _log2(WARP)
    if WARPS > 0:
        up = (j & _bits(_LOW, WARPS)) << HIGH - _LOW
        down = (j & _bits(HIGH, WARPS)) >> HIGH - _LOW
        j = j & ~_bits(_LOW, WARPS) & ~_bits(HIGH, WARPS) | up | down
        j = tl.max_contiguous(tl.multiple_of(j, 16), 16)
    return j


@triton.jit
def _butterflies(v, COUNT: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr, SWAPPED: tl.constexpr):
    """Butterfly stages of v (COUNT numbers), between numbers 2^FIRST to 2^(LAST − 1) apart in memory's order.

    With SWAPPED v comes in the order of `_swapped` and the result in memory's; without, the other way round. A
    thread holds the numbers that differ in the highest bits, so that only the swap is an exchange between warps.
    """
    WARPS: tl.constexpr = _log2(COUNT // WARP)
    HIGH: tl.constexpr = _log2(WARP)
    for s in tl.static_range(HIGH + WARPS):
        if (s < _LOW or s >= _LOW + WARPS) and _within(
            s - (HIGH - _LOW) * (SWAPPED and s >= HIGH), FIRST, LAST
        ):
            v = _butterfly(v, COUNT, 1 << s)
    if WARPS > 0:
        v = tl.gather(v, _swapped(tl.arange(0, COUNT), COUNT), 0)
        for s in tl.static_range(WARPS):
            if _within(s + (HIGH if SWAPPED else _LOW), FIRST, LAST):
                v = _butterfly(v, COUNT, WARP << s)
    return v


@triton.jit
def _transformed(
    v, row, first, table, n: tl.constexpr, COUNT: tl.constexpr, STEP: tl.constexpr,
    BEFORE: tl.constexpr, BETWEEN: tl.constexpr, AFTER: tl.constexpr,
):  # fmt: skip
    """diag(AFTER) [H diag(BETWEEN)] H diag(BEFORE) v, each where it isn't NONE, of blocks or a part of one.

    With STEP below COUNT of the numbers that many places apart, so that H is the factor across a block's parts.
    With AFTER v comes in the order of `_swapped`, without it the result does.
    """
    FIRST: tl.constexpr = _log2(STEP) if STEP < COUNT else 0
    LAST: tl.constexpr = _log2(_least(n, COUNT))
    swap = _swapped(tl.arange(0, COUNT), COUNT)
    if BEFORE != NONE:
        v = v * _diagonal(row, first, n, COUNT, STEP, table, BEFORE).to(v.dtype)
    v = _butterflies(v, COUNT, FIRST, LAST, AFTER != NONE)
    if BETWEEN != NONE:
        if BEFORE != NONE and COUNT > WARP:
            v = tl.gather(v, swap, 0)
        v = v * _diagonal(row, first, n, COUNT, STEP, table, BETWEEN).to(v.dtype)
        if AFTER != NONE and COUNT > WARP:
            v = tl.gather(v, swap, 0)
        v = _butterflies(v, COUNT, FIRST, LAST, AFTER != NONE)
    if AFTER != NONE:
        v = v * _diagonal(row, first, n, COUNT, STEP, table, AFTER).to(v.dtype)
    return v


@triton.jit
def _turned(row, k, i, n: tl.constexpr, RUN: tl.constexpr):
    """(blocks, numbers) int32: where blocks k of fastfood and signs find numbers i of x, in runs of RUN."""
    shift = (_word(_key(row, _SHIFT_KEY), k) & (n // 16 - 1)).to(tl.int32) * 16
    at = shift[:, None] + i[None, :] & (n - 1)
    return tl.max_contiguous(tl.multiple_of(at, (1, RUN)), (1, RUN))


@triton.jit
def _place(pointers, tensor, start, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """Where row `start` of a tensor lies."""
    pointer = tl.load(pointers + tensor).to(tl.pointer_type(TYPE))
    if ALIGNED:  # to vectors of four, whatever the dtype: `_LOW` counts on it
        pointer = tl.multiple_of(pointer, 8 if TYPE.primitive_bitwidth == 16 else 16)
    return pointer + start


@triton.jit
def _read(pointer, at, left, UNIT: tl.constexpr, REAL: tl.constexpr):
    """Numbers `at` of a unit of which a tensor has `left`; zeros beyond. Whole units are read in whole vectors."""
    # Read once, they would push the quantiles out of the L1 cache.
    if left >= UNIT:
        v = tl.load(pointer + at, cache_modifier=".cg").to(REAL)
    else:
        v = tl.load(pointer + at, mask=at < left, other=0, cache_modifier=".cg").to(REAL)
    return v


@triton.jit
def transform(
    table, units, sources, targets, scales, normals, x, scratch, squares,
    n: tl.constexpr, UNIT: tl.constexpr, COUNT: tl.constexpr, FROM: tl.constexpr, TO: tl.constexpr,
    BEFORE: tl.constexpr, BETWEEN: tl.constexpr, AFTER: tl.constexpr, ACROSS: tl.constexpr, TURNED: tl.constexpr,
    SOURCE: tl.constexpr, TARGET: tl.constexpr, REAL: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Transform COUNT numbers of a unit of blocks: some that follow each other, or ACROSS the parts of a block."""
    PARTS: tl.constexpr = UNIT // COUNT
    u = (tl.program_id(0) // PARTS).to(tl.int64)
    part = tl.program_id(0) % PARTS
    tensor, start = tl.load(units + 2 * u), tl.multiple_of(tl.load(units + 2 * u + 1), COUNT)
    row = table + tensor * _COLUMNS
    left = tl.minimum(tl.load(row + _ROWS) - start, UNIT).to(tl.int32)
    if (FROM == FROM_V or TO == TO_OUT) and part * COUNT >= left:
        return  # this part holds no row of the tensor
    STEP: tl.constexpr = COUNT // PARTS if ACROSS else COUNT
    RUN: tl.constexpr = _least(STEP, 16)
    begin = part * STEP
    j = tl.arange(0, COUNT)
    at, to = begin + _spread(j, COUNT, STEP), begin + _spread(_swapped(j, COUNT), COUNT, STEP)
    if ACROSS:
        at = tl.max_contiguous(tl.multiple_of(at, RUN), RUN)
        to = tl.max_contiguous(tl.multiple_of(to, RUN), RUN)
    if AFTER != NONE:
        at, to = to, at
    held = tl.cdiv(left, COUNT) * COUNT  # by the parts that hold rows of the tensor
    if FROM == FROM_X:
        if not TURNED:
            v = tl.load(x + (at & (n - 1)))
        elif ACROSS:
            places = _turned(row, start // n + tl.arange(0, 1), at, n, RUN)
            v = tl.reshape(tl.load(x + places), (COUNT,))
        else:
            places = _turned(row, start // n + tl.arange(0, COUNT // n), tl.arange(0, n), n, 16)
            v = tl.reshape(tl.load(x + places), (COUNT,))
    elif FROM == FROM_V:
        v = _read(_place(sources, tensor, start, SOURCE, ALIGNED), at, left, UNIT, REAL)
        tl.store(squares + tl.program_id(0), tl.sum(v * v))
    elif FROM == FROM_ROWS:
        v = tl.load(scratch + u * UNIT + at, mask=at < held, other=0, cache_modifier=".cg")
    else:
        v = tl.load(scratch + u * UNIT + at, cache_modifier=".cg")
    v = _transformed(v, row, start + begin, normals, n, COUNT, STEP, BEFORE, BETWEEN, AFTER)
    if TO == TO_OUT:
        w = _read(_place(sources, tensor, start, SOURCE, ALIGNED), to, left, UNIT, REAL)
        w = (w + tl.load(scales + tensor) * v).to(TARGET)
        target = _place(targets, tensor, start, TARGET, ALIGNED)
        if left >= UNIT:
            tl.store(target + to, w)
        else:
            tl.store(target + to, w, mask=to < left)
    elif TO == TO_ROWS:
        tl.store(scratch + u * UNIT + to, v, mask=to < held)
    else:
        tl.store(scratch + u * UNIT + to, v)


@triton.jit
def fold(
    table, units, count, sources, scales, normals, partial, squares,
    n: tl.constexpr, COUNT: tl.constexpr, BETWEEN: tl.constexpr, AFTER: tl.constexpr, TURNED: tl.constexpr,
    SOURCE: tl.constexpr, REAL: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """The program's own row of `partial` (programs, COUNT) ← itself + the adjoints of its share of the units.

    squares (programs,) ← the sum of the squares of what these are of.
    """
    share = tl.cdiv(count, tl.num_programs(0))
    first = tl.program_id(0) * share
    own = partial + tl.program_id(0) * COUNT
    j = tl.arange(0, COUNT)
    k, i = tl.arange(0, COUNT // n), tl.arange(0, n)
    square = tl.zeros((), REAL)
    for u in range(first, tl.minimum(first + share, count)):
        tensor, start = tl.load(units + 2 * u), tl.multiple_of(tl.load(units + 2 * u + 1), COUNT)
        row = table + tensor * _COLUMNS
        left = tl.minimum(tl.load(row + _ROWS) - start, COUNT).to(tl.int32)
        v = _read(_place(sources, tensor, start, SOURCE, ALIGNED), _swapped(j, COUNT), left, COUNT, REAL)
        square += tl.sum(v * v)
        v = _transformed(v, row, start, normals, n, COUNT, COUNT, NONE, BETWEEN, AFTER) * tl.load(
            scales + tensor
        )
        at = k[:, None] * n
        if TURNED:
            at += _turned(row, start // n + k, i, n, 16)
        else:
            at += i[None, :]
        # In the L2 cache: the L1 cache is for the quantiles.
        total = tl.load(own + at, cache_modifier=".cg") + tl.reshape(v, (COUNT // n, n))
        tl.store(own + at, total, cache_modifier=".cg")
        tl.debug_barrier()  # another thread reads what this one wrote
    tl.store(squares + tl.program_id(0), square)


@triton.jit
def reduce(
    table, units, count, scales, scratch, partial, parts,
    n: tl.constexpr, TURNED: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """COUNT numbers of row r of `partial` ← themselves + those of blocks r, r + parts, … of the scratch."""
    r = tl.program_id(1)
    j = tl.program_id(0) * COUNT + tl.arange(0, COUNT)
    total = tl.load(partial + r * n + j)
    for q in range(r, count, parts):
        tensor, at = tl.load(units + 2 * q), j
        if TURNED:
            k = tl.load(units + 2 * q + 1) // n
            word = _word(_key(table + tensor * _COLUMNS, _SHIFT_KEY), k)
            at = j - (word & (n // 16 - 1)).to(tl.int32) * 16 & (n - 1)
        total += tl.load(scales + tensor) * tl.load(scratch + q * n + at)
    tl.store(partial + r * n + j, total)
