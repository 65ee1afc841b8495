"""The kernel for GPUs, in Triton: the weights of all tensors in one launch, their random numbers in registers.

A program transforms whole blocks of P for n ≤ 8,192, in registers, 32 numbers to a thread. A larger transform is
H_n = H_{n/m} ⊗ H_m with m = 8,192: across the block's parts of m numbers, and within each of those that hold rows
of the tensor, through a scratch of some million numbers. A table tells a program which rows of which tensor are its
own. The sums over blocks have a fixed order: two calls give the same bits. Nothing of size D is kept.

With TRITON_INTERPRET=1 it runs on CPU tensors, slowly, which is how it is tested without a GPU.
"""

# mypy: disable-error-code="attr-defined, call-arg, valid-type"
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.projections import draws
from intrinsic_cli.projections.contract import Projection, Scales
from intrinsic_cli.projections.fastfood import Fastfood
from intrinsic_cli.projections.kernels.torch import TorchKernel
from intrinsic_cli.projections.signs import Signs
from intrinsic_cli.projections.sorf import Sorf

_WARP = tl.constexpr(1024)  # numbers that a warp transforms
# The lowest bit of a number's place that tells warps apart: a thread holds vectors of 4, a warp has 32 threads.
_LOW = tl.constexpr(7)
_MOST = 8192  # numbers that a program transforms, at most
_SCRATCH = 1 << 24  # numbers of a pass over a part of the tensors, or a block's if that is more
_PARTIAL = 1 << 20  # numbers in the partial sums of an adjoint through the scratch, or z's if that is more
_REGISTERS = 128  # of a thread, at most
_RESIDENT = 16  # warps that the registers of a multiprocessor then hold

# What a pass reads, what it writes, and a diagonal of P.
# The scratch can hold, of a block, only the parts that hold rows of the tensor: _FROM_ROWS, _TO_ROWS.
_FROM_X, _FROM_V, _FROM_SCRATCH, _FROM_ROWS = (tl.constexpr(i) for i in range(4))
_TO_OUT, _TO_SCRATCH, _TO_ROWS = (tl.constexpr(i) for i in range(3))
_NONE, _NORMALS, _SIGNS, _OUTER, _INNER = (tl.constexpr(i) for i in range(5))
# Columns of a tensor's row in the table: its size, its keys, the period of a short block's normals (0: signs).
_ROWS, _SIGN_KEY, _OTHER_KEY, _SHIFT_KEY, _PERIOD = (tl.constexpr(i) for i in range(5))
_COLUMNS = tl.constexpr(5)
_TYPES = {
    torch.float32: tl.float32, torch.float64: tl.float64, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16,
}  # fmt: skip


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
    if WHICH == _SIGNS:
        g = _signs(_key(row, _SIGN_KEY), first, n, COUNT, STEP, False)
    elif WHICH == _OUTER:
        g = _signs(_key(row, _SIGN_KEY), first, n, COUNT, STEP, True)
    elif WHICH == _INNER:
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
    WARPS: tl.constexpr = _log2(COUNT // _WARP)
    HIGH: tl.constexpr = _log2(_WARP)
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
    WARPS: tl.constexpr = _log2(COUNT // _WARP)
    HIGH: tl.constexpr = _log2(_WARP)
    for s in tl.static_range(HIGH + WARPS):
        if (s < _LOW or s >= _LOW + WARPS) and _within(
            s - (HIGH - _LOW) * (SWAPPED and s >= HIGH), FIRST, LAST
        ):
            v = _butterfly(v, COUNT, 1 << s)
    if WARPS > 0:
        v = tl.gather(v, _swapped(tl.arange(0, COUNT), COUNT), 0)
        for s in tl.static_range(WARPS):
            if _within(s + (HIGH if SWAPPED else _LOW), FIRST, LAST):
                v = _butterfly(v, COUNT, _WARP << s)
    return v


@triton.jit
def _transformed(
    v, row, first, table, n: tl.constexpr, COUNT: tl.constexpr, STEP: tl.constexpr,
    BEFORE: tl.constexpr, BETWEEN: tl.constexpr, AFTER: tl.constexpr,
):  # fmt: skip
    """diag(AFTER) [H diag(BETWEEN)] H diag(BEFORE) v, each where it isn't _NONE, of blocks or a part of one.

    With STEP below COUNT of the numbers that many places apart, so that H is the factor across a block's parts.
    With AFTER v comes in the order of `_swapped`, without it the result does.
    """
    FIRST: tl.constexpr = _log2(STEP) if STEP < COUNT else 0
    LAST: tl.constexpr = _log2(_least(n, COUNT))
    swap = _swapped(tl.arange(0, COUNT), COUNT)
    if BEFORE != _NONE:
        v = v * _diagonal(row, first, n, COUNT, STEP, table, BEFORE).to(v.dtype)
    v = _butterflies(v, COUNT, FIRST, LAST, AFTER != _NONE)
    if BETWEEN != _NONE:
        if BEFORE != _NONE and COUNT > _WARP:
            v = tl.gather(v, swap, 0)
        v = v * _diagonal(row, first, n, COUNT, STEP, table, BETWEEN).to(v.dtype)
        if AFTER != _NONE and COUNT > _WARP:
            v = tl.gather(v, swap, 0)
        v = _butterflies(v, COUNT, FIRST, LAST, AFTER != _NONE)
    if AFTER != _NONE:
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
def _pass(
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
    if (FROM == _FROM_V or TO == _TO_OUT) and part * COUNT >= left:
        return  # this part holds no row of the tensor
    STEP: tl.constexpr = COUNT // PARTS if ACROSS else COUNT
    RUN: tl.constexpr = _least(STEP, 16)
    begin = part * STEP
    j = tl.arange(0, COUNT)
    at, to = begin + _spread(j, COUNT, STEP), begin + _spread(_swapped(j, COUNT), COUNT, STEP)
    if ACROSS:
        at = tl.max_contiguous(tl.multiple_of(at, RUN), RUN)
        to = tl.max_contiguous(tl.multiple_of(to, RUN), RUN)
    if AFTER != _NONE:
        at, to = to, at
    held = tl.cdiv(left, COUNT) * COUNT  # by the parts that hold rows of the tensor
    if FROM == _FROM_X:
        if not TURNED:
            v = tl.load(x + (at & (n - 1)))
        elif ACROSS:
            places = _turned(row, start // n + tl.arange(0, 1), at, n, RUN)
            v = tl.reshape(tl.load(x + places), (COUNT,))
        else:
            places = _turned(row, start // n + tl.arange(0, COUNT // n), tl.arange(0, n), n, 16)
            v = tl.reshape(tl.load(x + places), (COUNT,))
    elif FROM == _FROM_V:
        v = _read(_place(sources, tensor, start, SOURCE, ALIGNED), at, left, UNIT, REAL)
        tl.store(squares + tl.program_id(0), tl.sum(v * v))
    elif FROM == _FROM_ROWS:
        v = tl.load(scratch + u * UNIT + at, mask=at < held, other=0, cache_modifier=".cg")
    else:
        v = tl.load(scratch + u * UNIT + at, cache_modifier=".cg")
    v = _transformed(v, row, start + begin, normals, n, COUNT, STEP, BEFORE, BETWEEN, AFTER)
    if TO == _TO_OUT:
        w = _read(_place(sources, tensor, start, SOURCE, ALIGNED), to, left, UNIT, REAL)
        w = (w + tl.load(scales + tensor) * v).to(TARGET)
        target = _place(targets, tensor, start, TARGET, ALIGNED)
        if left >= UNIT:
            tl.store(target + to, w)
        else:
            tl.store(target + to, w, mask=to < left)
    elif TO == _TO_ROWS:
        tl.store(scratch + u * UNIT + to, v, mask=to < held)
    else:
        tl.store(scratch + u * UNIT + to, v)


@triton.jit
def _fold(
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
        v = _transformed(v, row, start, normals, n, COUNT, COUNT, _NONE, BETWEEN, AFTER) * tl.load(
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
def _reduce(
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


class TritonKernel(TorchKernel):
    """Fastfood, signs and sorf, for weights of any dtype that P takes, for d up to 2²⁴."""

    name = "triton"
    keeps_draws = False

    def supports(self, kind: str) -> bool:
        return kind in ("fastfood", "signs", "sorf")

    def transform(self, v: torch.Tensor) -> torch.Tensor:
        plan = _plan(v.numel())
        scratch = torch.zeros(plan.unit, dtype=v.dtype, device=v.device)
        scratch[: v.numel()] = v
        nothing = torch.zeros(5, dtype=torch.int64, device=v.device)
        for options in plan.passes([], _FROM_SCRATCH, _TO_SCRATCH):
            _pass[(plan.parts,)](
                nothing, nothing, nothing, nothing, nothing, nothing, scratch, scratch, scratch, TURNED=False,
                SOURCE=tl.float32, TARGET=tl.float32, REAL=_TYPES[v.dtype], ALIGNED=False, **options,
            )  # fmt: skip
        return scratch[: v.numel()]

    def add(
        self,
        projections: Sequence[Projection],
        w0: Sequence[torch.Tensor],
        x: torch.Tensor,
        scales: Scales,
        out: Sequence[torch.Tensor],
    ) -> None:
        diagonals = [{"BEFORE": which} for which in reversed(_diagonals(projections[0]))]
        for chosen, group, places in _groups(projections, w0, out, x, _weights_places):
            passes = group.plan.passes(diagonals, _FROM_X, _TO_OUT)
            for units in group.pieces:
                group.run(passes, units, places, group.scaled(scales, chosen), x)

    def fold(
        self, projections: Sequence[Projection], v: Sequence[torch.Tensor], scales: Scales, z: torch.Tensor
    ) -> None:
        self.fold_and_square(projections, v, scales, z)

    def fold_and_square(
        self, projections: Sequence[Projection], v: Sequence[torch.Tensor], scales: Scales, z: torch.Tensor
    ) -> torch.Tensor:
        diagonals = [{"AFTER": which} for which in _diagonals(projections[0])]
        squares = []
        for chosen, group, places in _groups(projections, v, v, z, _gradients_places):
            fold = group.fold if group.plan.parts == 1 else group.fold_by_scratch
            total, square = fold(diagonals, places, group.scaled(scales, chosen))
            z[0] += total
            squares.append(square)
        return squares[0] if len(squares) == 1 else torch.stack(squares).sum()


class _Plan:
    """How a transform of n numbers is cut: `unit` numbers, whole blocks, in `parts` of one program each."""

    def __init__(self, n: int) -> None:
        # Across parts that are more, runs would be shorter than the four normals of a word.
        if n > (most := _MOST * _MOST // 4):
            raise ConfigError(
                f"projection.kernel=triton transforms up to {most:,} numbers, not {n:,}; use torch"
            )
        self.n = n
        self.unit = max(n, _WARP.value)
        self.count = min(self.unit, _MOST)
        self.parts = self.unit // self.count
        self.launch = {"num_warps": self.count // _WARP.value, "maxnreg": _REGISTERS}

    def passes(self, diagonals: Sequence[dict[str, Any]], first: Any, last: Any) -> list[dict[str, Any]]:
        """The passes of a transform H_n for every one of `diagonals`, or of one with none.

        One pass in all, or through the scratch two for each transform: what a tensor is read from or written to
        is transformed within its parts, so that those without rows of it need none.
        """
        sizes = {"n": self.n, "UNIT": self.unit, "COUNT": self.count}
        none = {**sizes, **self.launch, "BEFORE": _NONE, "BETWEEN": _NONE, "AFTER": _NONE}
        if self.parts == 1:
            return [{**none, **_chained(diagonals), "FROM": first, "TO": last, "ACROSS": False}]
        found: list[dict[str, Any]] = []
        for diagonal in diagonals or [{}]:
            halves = [{**none, **diagonal, "ACROSS": True}, {**none, "ACROSS": False}]
            found += reversed(halves) if first is _FROM_V else halves
        for options in found:
            options |= {"FROM": _FROM_SCRATCH, "TO": _TO_SCRATCH}
        if first is _FROM_V:
            found[1]["FROM"] = _FROM_ROWS
        if last is _TO_OUT:
            found[-2]["TO"] = _TO_ROWS
        found[0]["FROM"], found[-1]["TO"] = first, last
        return found


def _chained(diagonals: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The diagonals of one or two transforms that follow each other in one program."""
    if len(diagonals) < 2:
        return {} if not diagonals else diagonals[0]
    (name, first), (_, second) = (next(iter(d.items())) for d in diagonals)
    return {"BEFORE": first, "BETWEEN": second} if name == "BEFORE" else {"BETWEEN": first, "AFTER": second}


class _Group:
    """Tensors of one pair of dtypes as the kernels see them: their rows of the table, the units of work."""

    def __init__(
        self,
        projections: tuple[Any, ...],
        source: torch.dtype,
        target: torch.dtype,
        real: torch.dtype,
        device: torch.device,
    ) -> None:
        self.plan = _plan(projections[0].n)
        self.real, self.device = real, device
        self.table = torch.tensor([[P.shape[0], *_constants(P)] for P in projections]).to(device)
        self.factors = _numbers(tuple(P.scale for P in projections), torch.float64, device)
        self.normals = draws.table_on(device)[1 << 15 :]
        self.pieces = _pieces(tuple(P.shape[0] for P in projections), self.plan, device)
        self.options = {
            "TURNED": not isinstance(projections[0], Sorf), "SOURCE": _TYPES[source], "REAL": _TYPES[real],
        }  # fmt: skip
        self.target = _TYPES[target]

    def scaled(self, scales: Scales, chosen: Sequence[int]) -> torch.Tensor:
        """(tensors,): `scales` of those chosen, times the factors of their projections."""
        if not isinstance(scales, torch.Tensor):
            return _scaled(self, tuple(float(scales[i]) for i in chosen))
        given = scales if len(chosen) == len(scales) else scales[list(chosen)]
        return (self.factors * given).to(self.real)

    def zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=self.real, device=self.device)

    def run(
        self,
        passes: Sequence[dict[str, Any]],
        units: torch.Tensor,
        places: _Places,
        scales: torch.Tensor,
        x: torch.Tensor,
        squares: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Do `passes` over some units; returns the scratch."""
        numbers = len(units) * self.plan.unit if self.plan.parts > 1 else 1
        scratch = torch.empty(numbers, dtype=self.real, device=self.device)
        for options in passes:
            _pass[(len(units) * self.plan.parts,)](
                self.table, units, places.sources, places.targets, scales, self.normals, x, scratch,
                scratch if squares is None else squares,
                TARGET=self.target, ALIGNED=places.aligned, **self.options, **options,
            )  # fmt: skip
        return scratch

    def fold(
        self, diagonals: Sequence[dict[str, Any]], places: _Places, scales: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(n,): the sum of all units' adjoints; and the sum of the squares of all they were of."""
        [units] = self.pieces
        at_once = _multiprocessors(self.device) * max(1, _RESIDENT // self.plan.launch["num_warps"])
        programs = min(len(units), at_once)
        partial, squares = self.zeros(programs, self.plan.count), self.zeros(programs)
        options = {"n": self.plan.n, "COUNT": self.plan.count, "BETWEEN": _NONE, **_chained(diagonals)}
        _fold[(programs,)](
            self.table, units, len(units), places.sources, scales, self.normals, partial, squares,
            ALIGNED=places.aligned, **self.plan.launch, **self.options, **options,
        )  # fmt: skip
        return partial.view(-1, self.plan.n).sum(dim=0), squares.sum()

    def fold_by_scratch(
        self, diagonals: Sequence[dict[str, Any]], places: _Places, scales: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`fold`, for transforms that no program holds."""
        n = self.plan.n
        passes = self.plan.passes(diagonals, _FROM_V, _TO_SCRATCH)
        partial, square = self.zeros(max(1, _PARTIAL // n), n), self.zeros()
        for units in self.pieces:
            squares = self.zeros(len(units) * self.plan.parts)
            scratch = self.run(passes, units, places, scales, partial, squares)
            square += squares.sum()
            _reduce[(n // 256, len(partial))](
                self.table, units, len(units), scales, scratch, partial, len(partial),
                n=n, TURNED=self.options["TURNED"], COUNT=256,
            )  # fmt: skip
        return partial.sum(dim=0), square


_plan = lru_cache(maxsize=64)(_Plan)
_group = lru_cache(maxsize=512)(_Group)


@dataclass(frozen=True)
class _Places:
    """Where a group's tensors lie: (tensors,) int64 on the device, and whether all begin a vector."""

    sources: torch.Tensor
    targets: torch.Tensor
    aligned: bool


def _groups(
    projections: Sequence[Projection],
    sources: Sequence[torch.Tensor],
    targets: Sequence[torch.Tensor],
    like: torch.Tensor,
    find: Callable[[tuple[int, ...], tuple[int, ...], torch.device], _Places],
) -> Iterator[tuple[Sequence[int], _Group, _Places]]:
    """The tensors in groups of one pair of dtypes, each for one launch: which of them, and where they lie now."""
    pairs = [(a.dtype, b.dtype) for a, b in zip(sources, targets, strict=True)]
    for pair in dict.fromkeys(pairs):
        chosen = [i for i, other in enumerate(pairs) if other == pair]
        group = _group(tuple(projections[i] for i in chosen), *pair, like.dtype, like.device)
        read = tuple(sources[i].data_ptr() for i in chosen)
        written = read if sources is targets else tuple(targets[i].data_ptr() for i in chosen)
        yield chosen, group, find(read, written, like.device)


def _places(read: tuple[int, ...], written: tuple[int, ...], device: torch.device) -> _Places:
    aligned = not any(place % 16 for place in (*read, *written))
    sources = _numbers(read, torch.int64, device)
    return _Places(sources, sources if read is written else _numbers(written, torch.int64, device), aligned)


# Apart: gradients lie elsewhere in most steps, and weights where a captured graph may look for them.
_weights_places, _gradients_places = (lru_cache(maxsize=512)(_places) for _ in range(2))


@lru_cache(maxsize=512)
def _scaled(group: _Group, scales: tuple[float, ...]) -> torch.Tensor:
    return (group.factors * _numbers(scales, torch.float64, group.device)).to(group.real)


@lru_cache(maxsize=8)
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _numbers(numbers: Sequence[float], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    # From pinned memory the copy does not wait for the device.
    return torch.tensor(numbers, dtype=dtype, pin_memory=device.type == "cuda").to(device, non_blocking=True)


@lru_cache(maxsize=512)
def _pieces(sizes: tuple[int, ...], plan: _Plan, device: torch.device) -> Sequence[torch.Tensor]:
    """The work on tensors of these sizes: (units, 2) int64, tensor and first row; in parts if by the scratch."""
    counts = torch.tensor([-(-size // plan.unit) for size in sizes])
    tensor = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    number = torch.arange(len(tensor)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    units = torch.stack((tensor, number * plan.unit), dim=1).to(device)
    return units.split(max(1, _SCRATCH // plan.n)) if plan.parts > 1 else [units]


def _diagonals(P: Projection) -> list[Any]:
    """Those between the transforms of a block, from its rows to x."""
    return [_OUTER, _INNER] if isinstance(P, Sorf) else [_SIGNS if isinstance(P, Signs) else _NORMALS]


def _constants(P: Any) -> tuple[int, ...]:
    """The keys of P, as int64, and the period of the normals of a short block."""
    if isinstance(P, Sorf):
        keys = P.outer_key, P.inner_key, 0
    else:
        keys = P.sign_key, P.normal_key if isinstance(P, Fastfood) else 0, P.shift_key
    period = P.period if isinstance(P, Fastfood) and P.version < 3 else 0
    return (*(key - (1 << 64) if key >> 63 else key for key in keys), period)
