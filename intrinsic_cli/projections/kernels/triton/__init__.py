"""The kernel for GPUs, in Triton: the weights of all tensors in one launch, their random numbers in registers.

`programs` holds what runs on the GPU; here is which tensors go into a launch, in how many passes, over which units
of work. Transforms of n ≤ 8,192 numbers take one pass, larger ones several through a scratch of some million
numbers. The sums over blocks have a fixed order: two calls give the same bits. Nothing of size D is kept.

With TRITON_INTERPRET=1 it runs on CPU tensors, slowly, which is how it is tested without a GPU.
"""

# mypy: disable-error-code="attr-defined, call-arg, valid-type"
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton.language as tl

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.projections import draws
from intrinsic_cli.projections.contract import Projection, Scales
from intrinsic_cli.projections.fastfood import Fastfood
from intrinsic_cli.projections.kernels.torch import TorchKernel
from intrinsic_cli.projections.kernels.triton import programs
from intrinsic_cli.projections.signs import Signs
from intrinsic_cli.projections.sorf import Sorf

_MOST = 8192  # numbers that a program transforms, at most
_SCRATCH = 1 << 24  # numbers of a pass over a part of the tensors, or a block's if that is more
_PARTIAL = 1 << 20  # numbers in the partial sums of an adjoint through the scratch, or z's if that is more
_REGISTERS = 128  # of a thread, at most
_RESIDENT = 16  # warps that the registers of a multiprocessor then hold
_TYPES = {
    torch.float32: tl.float32, torch.float64: tl.float64, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16,
}  # fmt: skip


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
        for options in plan.passes([], programs.FROM_SCRATCH, programs.TO_SCRATCH):
            programs.transform[(plan.parts,)](
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
            passes = group.plan.passes(diagonals, programs.FROM_X, programs.TO_OUT)
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
        self.unit = max(n, programs.WARP.value)
        self.count = min(self.unit, _MOST)
        self.parts = self.unit // self.count
        self.launch = {"num_warps": self.count // programs.WARP.value, "maxnreg": _REGISTERS}

    def passes(self, diagonals: Sequence[dict[str, Any]], first: Any, last: Any) -> list[dict[str, Any]]:
        """The passes of a transform H_n for every one of `diagonals`, or of one with none.

        One pass in all, or through the scratch two for each transform: what a tensor is read from or written to
        is transformed within its parts, so that those without rows of it need none.
        """
        sizes = {"n": self.n, "UNIT": self.unit, "COUNT": self.count}
        none = {**sizes, **self.launch, **dict.fromkeys(("BEFORE", "BETWEEN", "AFTER"), programs.NONE)}
        if self.parts == 1:
            return [{**none, **_chained(diagonals), "FROM": first, "TO": last, "ACROSS": False}]
        found: list[dict[str, Any]] = []
        for diagonal in diagonals or [{}]:
            halves = [{**none, **diagonal, "ACROSS": True}, {**none, "ACROSS": False}]
            found += reversed(halves) if first is programs.FROM_V else halves
        for options in found:
            options |= {"FROM": programs.FROM_SCRATCH, "TO": programs.TO_SCRATCH}
        if first is programs.FROM_V:
            found[1]["FROM"] = programs.FROM_ROWS
        if last is programs.TO_OUT:
            found[-2]["TO"] = programs.TO_ROWS
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
        given = scales if len(chosen) == len(scales) else scales[_indices(tuple(chosen), self.device)]
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
            programs.transform[(len(units) * self.plan.parts,)](
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
        number = min(len(units), at_once)
        partial, squares = self.zeros(number, self.plan.count), self.zeros(number)
        sizes = {"n": self.plan.n, "COUNT": self.plan.count}
        options = {**sizes, "BETWEEN": programs.NONE, **_chained(diagonals)}
        programs.fold[(number,)](
            self.table, units, len(units), places.sources, scales, self.normals, partial, squares,
            ALIGNED=places.aligned, **self.plan.launch, **self.options, **options,
        )  # fmt: skip
        return partial.view(-1, self.plan.n).sum(dim=0), squares.sum()

    def fold_by_scratch(
        self, diagonals: Sequence[dict[str, Any]], places: _Places, scales: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`fold`, for transforms that no program holds."""
        n = self.plan.n
        passes = self.plan.passes(diagonals, programs.FROM_V, programs.TO_SCRATCH)
        partial, square = self.zeros(max(1, _PARTIAL // n), n), self.zeros()
        for units in self.pieces:
            squares = self.zeros(len(units) * self.plan.parts)
            scratch = self.run(passes, units, places, scales, partial, squares)
            square += squares.sum()
            programs.reduce[(n // 256, len(partial))](
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


@lru_cache(maxsize=512)
def _indices(chosen: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return _numbers(chosen, torch.int64, device)


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
    if isinstance(P, Sorf):
        return [programs.OUTER, programs.INNER]
    return [programs.SIGNS if isinstance(P, Signs) else programs.NORMALS]


def _constants(P: Any) -> tuple[int, ...]:
    """The keys of P, as int64, and the period of the normals of a short block."""
    if isinstance(P, Sorf):
        keys = P.outer_key, P.inner_key, 0
    else:
        keys = P.sign_key, P.normal_key if isinstance(P, Fastfood) else 0, P.shift_key
    period = P.period if isinstance(P, Fastfood) and P.version < 3 else 0
    return (*(key - (1 << 64) if key >> 63 else key for key in keys), period)
