"""The kernel for GPUs, in Triton: the weights of all tensors in one launch, their random numbers in registers.

A program works on a tile: whole blocks of P for n ≤ 4,096, a part of one block above that. A larger transform
is H_n = H_{n/m} ⊗ H_m with m = 4,096: tiles of m numbers first, then tiles across the block, through a scratch of a
few million numbers. A table tells a program which rows of which tensor are its own. The sums over blocks have a
fixed order: two calls give the same bits. Nothing of size D is kept.

With TRITON_INTERPRET=1 it runs on CPU tensors, slowly, which is how it is tested without a GPU.
"""

# mypy: disable-error-code="attr-defined, call-arg, valid-type"
from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.contract import Projection
from intrinsic_cli.projections.fastfood import Fastfood
from intrinsic_cli.projections.kernels.torch import TorchKernel
from intrinsic_cli.projections.signs import Signs
from intrinsic_cli.projections.sorf import Sorf

_MOST = 4096  # numbers that a program transforms: 16 KB in float32
_SCRATCH = 1 << 22  # numbers of a pass over a part of the tensors, or a block's if that is more
_WARPS = 8  # of a program
_PARTS = 128  # partial sums of an adjoint, at most
_PARTIAL = 1 << 17  # numbers in them together, or z's if that is more

# What a pass reads, what it writes, and the diagonal it multiplies by before and after its transform.
_FROM_X, _FROM_V, _FROM_SCRATCH = (tl.constexpr(i) for i in range(3))
_TO_OUT, _TO_SCRATCH = (tl.constexpr(i) for i in range(2))
_NONE, _NORMALS, _SIGNS, _OUTER, _INNER = (tl.constexpr(i) for i in range(5))
# Columns of a tensor's row in the table: addresses, rows, keys, period of a short block's normals (0: signs).
_SOURCE, _TARGET, _ROWS, _SIGN_KEY, _OTHER_KEY, _SHIFT_KEY, _PERIOD = (tl.constexpr(i) for i in range(7))
_COLUMNS = tl.constexpr(7)
_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64, torch.bfloat16: tl.bfloat16}


@triton.jit
def _word(key, counter):
    """SplitMix64: the 64-bit draw `counter` (int64) of the stream `key` (uint64)."""
    z = key + (counter.to(tl.uint64) + 1) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


@triton.jit
def _sign(key, i):
    """±1 as int32: draws i of a stream of signs."""
    return 1 - 2 * (_word(key, i >> 6) >> (i & 63).to(tl.uint64) & 1).to(tl.int32)


@triton.jit
def _normal(key, i, table):
    """int32: the normal draws i, in units of 1 / NORMAL_ONE."""
    field = _word(key, i >> 2) >> ((i & 3) * 16).to(tl.uint64) & 0xFFFF
    return tl.load(table + field.to(tl.int64)).to(tl.int32)


@triton.jit
def _key(row, column):
    return tl.load(row + column).to(tl.uint64, bitcast=True)


@triton.jit
def _diagonal(row, k, i, n: tl.constexpr, normals, WHICH: tl.constexpr):
    """int32: numbers i of the diagonals of blocks k of the tensor whose row of the table begins at `row`."""
    if WHICH == _SIGNS:
        g = _sign(_key(row, _SIGN_KEY), k * n + i)
    elif WHICH == _OUTER:
        g = _sign(_key(row, _SIGN_KEY), k * (n if n > 64 else 64) + i)
    elif WHICH == _INNER:
        g = _sign(_key(row, _OTHER_KEY), k * (n if n > 64 else 64) + i)
    else:
        period = tl.load(row + _PERIOD)
        short = (k + 1) * n > tl.load(row + _ROWS)
        g = _normal(
            _key(row, _OTHER_KEY), k * n + tl.where(short & (period > 0), i & (period - 1), i), normals
        )
        # The signs of a short block: of each of its numbers, or of 16 of them where its normals repeat.
        every = tl.where(period == 0, 1, 16)
        sign = _sign(_key(row, _SIGN_KEY), (k * n + i) // every)
        g = tl.where(short & (period == 0), sign * 4096, tl.where(short & (period < n), g * sign, g))
    return g


@triton.jit
def _shift(row, k, n: tl.constexpr):
    """Where blocks k of fastfood and signs start to read x."""
    return (_word(_key(row, _SHIFT_KEY), k) & (n // 16 - 1)).to(tl.int64) * 16


@triton.jit
def _stages(v, COUNT: tl.constexpr, STAGES: tl.constexpr, STEP: tl.constexpr):
    """`STAGES` butterfly stages of v (COUNT numbers), the first between numbers STEP apart."""
    for s in tl.static_range(STAGES):
        pairs = tl.reshape(v, (COUNT // (STEP << s) // 2, 2, STEP << s))
        second = tl.arange(0, 2)[None, :, None]
        total = tl.sum(pairs, axis=1, keep_dims=True)
        difference = tl.sum(pairs * (1 - 2 * second), axis=1, keep_dims=True)
        v = tl.reshape(tl.where(second == 0, total, difference), (COUNT,))
    return v


@triton.jit
def _pass(
    table, tiles, scales, normals, x, scratch,
    n: tl.constexpr, FROM: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr, TO: tl.constexpr,
    TURNED: tl.constexpr, ACROSS: tl.constexpr, COUNT: tl.constexpr, STAGES: tl.constexpr, STEP: tl.constexpr,
    SOURCE: tl.constexpr, TARGET: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Transform one tile of COUNT numbers: rows that follow each other, or STEP of every COUNT in a block."""
    tile = tiles + 3 * tl.program_id(0)
    tensor, index, place = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    row = table + tensor * _COLUMNS
    j = tl.arange(0, COUNT).to(tl.int64)
    if ACROSS:
        first = index // (n // COUNT) * n + index % (n // COUNT) * STEP
        p = first + j // STEP * COUNT + j % STEP
    else:
        p = index * COUNT + j
    k, i = p // n, p % n
    inside = p < tl.load(row + _ROWS)
    source = tl.load(row + _SOURCE).to(tl.pointer_type(SOURCE))
    scale = tl.load(scales + tensor)
    if FROM == _FROM_X:
        at = i
        if TURNED:
            at = (_shift(row, k, n) + i) & (n - 1)
        v = tl.load(x + at)
    elif FROM == _FROM_V:
        v = tl.load(source + p, mask=inside, other=0).to(REAL) * scale
    else:
        v = tl.load(scratch + place + p)
    if BEFORE != _NONE:
        v = v * _diagonal(row, k, i, n, normals, BEFORE).to(REAL)
    v = _stages(v, COUNT, STAGES, STEP)
    if AFTER != _NONE:
        v = v * _diagonal(row, k, i, n, normals, AFTER).to(REAL)
    if TO == _TO_OUT:
        target = tl.load(row + _TARGET).to(tl.pointer_type(TARGET))
        w = tl.load(source + p, mask=inside, other=0).to(REAL)
        tl.store(target + p, (w + scale * v).to(TARGET), mask=inside)
    else:
        tl.store(scratch + place + p, v)


@triton.jit
def _reduce(
    table, blocks, count, scratch, partial, parts,
    n: tl.constexpr, TURNED: tl.constexpr, COUNT: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """COUNT numbers of row r of `partial` ← themselves + those of blocks r, r + parts, … of the scratch."""
    r = tl.program_id(1)
    j = tl.program_id(0) * COUNT + tl.arange(0, COUNT).to(tl.int64)
    total = tl.load(partial + r * n + j)
    for q in range(r, count, parts):
        at = j
        if TURNED:
            row = table + tl.load(blocks + 2 * q) * _COLUMNS
            at = (j - _shift(row, tl.load(blocks + 2 * q + 1), n)) & (n - 1)
        total += tl.load(scratch + q * n + at)
    tl.store(partial + r * n + j, total)


class TritonKernel(TorchKernel):
    """Fastfood, signs and sorf, in float32, float64 and bfloat16, with n up to 2²⁰ or so."""

    name = "triton"
    keeps_draws = False

    def supports(self, kind: str) -> bool:
        return kind in ("fastfood", "signs", "sorf")

    def add(
        self,
        projections: Sequence[Projection],
        w0: Sequence[torch.Tensor],
        x: torch.Tensor,
        scales: Sequence[float],
        out: Sequence[torch.Tensor],
    ) -> None:
        for group in _alike(w0, out):
            Ps = [projections[i] for i in group]
            launch = _Launch(
                Ps, [w0[i] for i in group], [out[i] for i in group], [scales[i] for i in group], x
            )
            if isinstance(Ps[0], Sorf):
                passes = _whole(launch.n, _FROM_X, _INNER, _OUTER, _TO_SCRATCH)
                passes += _whole(launch.n, _FROM_SCRATCH, _NONE, _NONE, _TO_OUT)
            else:
                passes = _whole(launch.n, _FROM_X, launch.diagonal, _NONE, _TO_OUT)
            for chunk in _chunks(launch.sizes, launch.n, len(passes) > 1, x.device):
                launch.run(passes, chunk)

    def fold(
        self,
        projections: Sequence[Projection],
        v: Sequence[torch.Tensor],
        scales: Sequence[float],
        z: torch.Tensor,
    ) -> None:
        for group in _alike(v, v):
            sources = [v[i] for i in group]
            launch = _Launch(
                [projections[i] for i in group], sources, sources, [scales[i] for i in group], z[0]
            )
            if isinstance(projections[0], Sorf):
                passes = _whole(launch.n, _FROM_V, _NONE, _OUTER, _TO_SCRATCH)
                passes += _whole(launch.n, _FROM_SCRATCH, _NONE, _INNER, _TO_SCRATCH)
            else:
                passes = _whole(launch.n, _FROM_V, _NONE, launch.diagonal, _TO_SCRATCH)
            parts = min(_PARTS, max(1, _PARTIAL // launch.n))
            partial = torch.zeros(parts, launch.n, dtype=z.dtype, device=z.device)
            for chunk in _chunks(launch.sizes, launch.n, True, z.device):
                launch.reduce(launch.run(passes, chunk), chunk, partial)
            z[0] += partial.sum(dim=0)


class _Launch:
    """Tensors of one dtype as the kernels see them. `like` has the arithmetic: x, or a row of z."""

    def __init__(
        self,
        projections: Sequence[Any],
        sources: Sequence[torch.Tensor],
        targets: Sequence[torch.Tensor],
        scales: Sequence[float],
        like: torch.Tensor,
    ) -> None:
        self.n = projections[0].n
        self.sizes = tuple(P.shape[0] for P in projections)
        self.diagonal = _SIGNS if isinstance(projections[0], Signs) else _NORMALS
        self.turned = not isinstance(projections[0], Sorf)
        self.like = like
        self.types = {"SOURCE": _TYPES[sources[0].dtype], "TARGET": _TYPES[targets[0].dtype]}
        self.real = _TYPES[like.dtype]
        rows = zip(projections, sources, targets, strict=True)
        table = [[w.data_ptr(), out.data_ptr(), P.shape[0], *_constants(P)] for P, w, out in rows]
        self.table = torch.tensor(table, dtype=torch.int64).to(like.device)
        products = [scale * P.scale for P, scale in zip(projections, scales, strict=True)]
        self.scales = torch.tensor(products, dtype=like.dtype).to(like.device)

    def run(self, passes: list[dict[str, Any]], chunk: _Chunk) -> torch.Tensor:
        """Do `passes` over the tiles of a chunk; returns the scratch."""
        scratch = torch.empty(chunk.scratch, dtype=self.like.dtype, device=self.like.device)
        normals = draws.table_on(self.like.device)
        for options in passes:
            _pass[(len(chunk.tiles),)](
                self.table, chunk.tiles, self.scales, normals, self.like, scratch,
                n=self.n, TURNED=self.turned, REAL=self.real, num_warps=_WARPS, **self.types, **options,
            )  # fmt: skip
        return scratch

    def reduce(self, scratch: torch.Tensor, chunk: _Chunk, partial: torch.Tensor) -> None:
        """Add the blocks of the scratch to the rows of `partial`."""
        count = min(self.n, 256)
        _reduce[(self.n // count, len(partial))](
            self.table, chunk.blocks, len(chunk.blocks), scratch, partial, len(partial),
            n=self.n, TURNED=self.turned, COUNT=count, REAL=self.real,
        )  # fmt: skip


class _Chunk(NamedTuple):
    """A part of the tensors whose blocks fit the scratch."""

    tiles: (
        torch.Tensor
    )  # (t, 3) int64: tensor, number of the tile in it, scratch place of the tensor's first row
    blocks: torch.Tensor  # (b, 2) int64: tensor and number of each block of the scratch, in its order
    scratch: int  # numbers


@lru_cache(maxsize=64)
def _chunks(sizes: tuple[int, ...], n: int, scratch: bool, device: torch.device) -> list[_Chunk]:
    """The work on tensors of these sizes, in parts if it goes through the scratch."""
    unit = max(n, _MOST)
    counts = torch.tensor([-(-size // unit) for size in sizes])
    tensor = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    number = torch.arange(len(tensor)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)

    def each(parts: int, first: torch.Tensor) -> torch.Tensor:
        """(units · parts,): the numbers of the parts of each unit."""
        return (first[:, None] * parts + torch.arange(parts)).flatten()

    found = []
    step = max(1, _SCRATCH // unit) if scratch else max(1, len(tensor))
    for begin in range(0, len(tensor), step):
        owner, first = tensor[begin : begin + step], number[begin : begin + step]
        place = (torch.arange(len(owner)) - first) * unit
        tiles, blocks = unit // _MOST, unit // n
        rows = owner.repeat_interleave(tiles), each(tiles, first), place.repeat_interleave(tiles)
        found.append(
            _Chunk(
                torch.stack(rows, dim=1).to(device),
                torch.stack((owner.repeat_interleave(blocks), each(blocks, first)), dim=1).to(device),
                len(owner) * unit if scratch else 0,
            )
        )
    return found


def _whole(n: int, start: Any, before: Any, after: Any, to: Any) -> list[dict[str, Any]]:
    """The passes of one transform H_n, between two diagonals: one, or two through the scratch for a large n."""
    stages = n.bit_length() - 1
    ends = {"COUNT": _MOST, "FROM": start, "BEFORE": before, "AFTER": after, "TO": to}
    inner = min(stages, _MOST.bit_length() - 1)
    one = {**ends, "ACROSS": False, "STAGES": inner, "STEP": 1}
    if n <= _MOST:
        return [one]
    across = {**ends, "FROM": _FROM_SCRATCH, "BEFORE": _NONE, "ACROSS": True, "STAGES": stages - inner}
    return [{**one, "AFTER": _NONE, "TO": _TO_SCRATCH}, {**across, "STEP": _MOST * _MOST // n}]


def _constants(P: Any) -> tuple[int, ...]:
    """The keys of P, as int64, and the period of the normals of a short block."""
    if isinstance(P, Sorf):
        keys = P.outer_key, P.inner_key, 0
    else:
        keys = P.sign_key, P.normal_key if isinstance(P, Fastfood) else 0, P.shift_key
    period = P.period if isinstance(P, Fastfood) and P.version < 3 else 0
    return (*(key - (1 << 64) if key >> 63 else key for key in keys), period)


def _alike(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> Iterator[list[int]]:
    """The tensors in groups of one pair of dtypes, each in one launch."""
    groups: dict[tuple[torch.dtype, torch.dtype], list[int]] = {}
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        groups.setdefault((a.dtype, b.dtype), []).append(i)
    yield from groups.values()
