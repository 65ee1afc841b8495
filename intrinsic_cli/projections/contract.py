"""The contract that every projection keeps, and the parts all of them share.

Training works on all tensors of a model at once, so P θ is cut in two: what depends on d alone is done once
per step (`encode`, `decode`), what depends on the tensor's seed and rows is done per tensor (`add_to`,
`fold`):

    x = P.encode(theta)              once, for every tensor of the model
    P.add_to(w0, x, scale, out)      per tensor: out = w0 + scale · P θ
    z = P.accumulator(dtype, device) once
    P.fold(v, scale, z)              per tensor: z += scale · (Pᵀ v before decoding)
    g = P.decode(z)                  once: Σ scale · Pᵀ v
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.projections.threads import run_all

# The sums of `fold` are kept in this many rows. A tensor's pieces go to fixed rows and each row is summed in
# the order of the calls, so the result does not depend on the number of threads.
ROWS = 8
_PIECE = 1 << 17  # a piece of work has at least this many rows of P, so that starting it costs little


class Projection(ABC):
    """A random matrix P of `shape` (D, d); each entry has mean 0 and variance 1/D, so E‖Pθ‖² = ‖θ‖².

    `version` names the draw: the same (kind, version, seed, shape) is the same matrix for ever. `versions` are
    all that can be drawn, the newest last, which None stands for. Arithmetic is float64 for float64 input and
    float32 otherwise. Vectors are contiguous and one-dimensional. CPU and other devices hold the same P; their
    sums may differ in the last bits.
    """

    kind: ClassVar[str]
    versions: ClassVar[tuple[int, ...]] = (1,)

    def __init__(
        self, shape: tuple[int, int], seed: int, cache: str = "auto", version: int | None = None
    ) -> None:
        D, d = shape
        if D < 1 or d < 1:
            raise ConfigError(f"projection of shape (D={D}, d={d}): both must be at least 1")
        if not 0 <= seed < 1 << 64:
            raise ConfigError(f"projection seed={seed} is out of range; use 0 to 2**64 - 1")
        if cache not in ("auto", "store", "regenerate"):
            raise ConfigError(f"projection.cache={cache!r} is not known; use one of auto, store, regenerate")
        self.shape = (int(D), int(d))
        self.seed = int(seed)
        if version not in (None, *self.versions):
            known = ", ".join(map(str, self.versions))
            raise ConfigError(
                f"draw version {version} of projection={self.kind} is not known; use one of {known}"
            )
        self.cache = cache
        self.version = self.versions[-1] if version is None else version

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, seed={self.seed}, version={self.version})"

    def matvec(self, theta: torch.Tensor) -> torch.Tensor:
        """P θ: (d,) -> (D,), float32 or float64, differentiable."""
        return _Apply.apply(self, theta, False)

    def rmatvec(self, v: torch.Tensor) -> torch.Tensor:
        """Pᵀ v: (D,) -> (d,), float32 or float64, differentiable."""
        return _Apply.apply(self, v, True)

    @abstractmethod
    def encode(self, theta: torch.Tensor) -> torch.Tensor:
        """θ (d,) -> x, the part of P θ that is the same for every seed and D. float32 or float64."""

    @abstractmethod
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """The adjoint of `encode`, after the rows of an `accumulator` are summed: z -> (d,)."""

    @property
    @abstractmethod
    def encoded_size(self) -> int:
        """The length of x."""

    def accumulator(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> torch.Tensor:
        """Zeros (ROWS, len(x)) for `fold`. Its inner product with x, broadcast, is ⟨Σ scale · v, Pθ⟩."""
        return torch.zeros(ROWS, self.encoded_size, dtype=dtype, device=device)

    def add_to(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        """out ← w0 + scale · P θ for x = encode(θ). w0 and out: (D,), float32, float64 or bfloat16.

        They may be the same tensor. float64 goes with float64 only.
        """
        add_to_all([self], [w0], x, [scale], [out])

    def fold(self, v: torch.Tensor, scale: float = 1.0, z: torch.Tensor | None = None) -> torch.Tensor:
        """z ← z + scale · (Pᵀ v before decoding), in place; a new `accumulator` if None. Returns z.

        v: (D,), float32, float64 or bfloat16. z is float64 for float64 and float32 otherwise. Blocks of v
        that are all zero (the embedding rows a batch did not use) cost no more than being read.
        """
        if z is None:
            z = self.accumulator(_arithmetic(v.dtype), v.device)
        fold_all([self], [v], [scale], z)
        return z

    @property
    @abstractmethod
    def _block_rows(self) -> int:
        """P is worked on in blocks of so many consecutive rows; the last may be shorter."""

    @property
    def _blocks(self) -> int:
        return -(-self.shape[0] // self._block_rows)

    @abstractmethod
    def prepare(self, device: torch.device | str = "cpu") -> None:
        """Draw what is stored, on `device`; the first use does it otherwise."""

    @abstractmethod
    def _add_blocks(
        self, begin: int, end: int, w0: np.ndarray, x: np.ndarray, scale, out: np.ndarray
    ) -> None:
        """`add_to` for the blocks begin … end − 1, without the GIL; bfloat16 comes as uint16."""

    @abstractmethod
    def _fold_blocks(self, runs: np.ndarray, v: np.ndarray, scale, z: np.ndarray) -> None:
        """`fold` into one row z for the blocks of `runs`, which lie end to end in v, without the GIL.

        runs: (r, 2) int64, ascending; run i is the blocks runs[i, 0] … runs[i, 1] − 1.
        """

    @abstractmethod
    def _add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        """`add_to` in torch operations, for any device."""

    @abstractmethod
    def _fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        """`fold` into one row z in torch operations, for any device."""

    @cached_property
    def _pieces(self) -> list[tuple[int, int, int]]:
        """(row, begin, end): the fixed split of the blocks, and the row of the accumulator of each piece."""
        count = max(1, min(ROWS, self._blocks, self.shape[0] // _PIECE))
        edges = [self._blocks * i // count for i in range(count + 1)]
        # Many small tensors should not all meet in row 0.
        return [((self.seed + i) % ROWS, edges[i], edges[i + 1]) for i in range(count)]

    def _check(self, name: str, v: torch.Tensor, size: int, arithmetic: torch.dtype | None) -> None:
        if v.shape != (size,):
            raise ConfigError(f"{self!r}: {name} has shape {tuple(v.shape)}, expected ({size},)")
        if arithmetic and _arithmetic(v.dtype) != arithmetic:
            raise ConfigError(
                f"{self!r}: {name} is {v.dtype}, which does not go with {arithmetic} arithmetic"
            )
        if not v.is_contiguous():
            raise ConfigError(f"{self!r}: {name} is not contiguous; pass {name}.contiguous()")


def add_to_all(
    projections: Sequence[Projection],
    w0: Sequence[torch.Tensor],
    x: torch.Tensor,
    scales: Sequence[float],
    out: Sequence[torch.Tensor],
) -> None:
    """`add_to` for many tensors that share x, in one go over the threads. All on the device of x."""
    on_cpu = x.device.type == "cpu"
    encoded = as_array(x) if on_cpu else None
    work: list[tuple] = []
    for P, source, scale, target in zip(projections, w0, scales, out, strict=True):
        P._check("x", x, P.encoded_size, x.dtype)
        P._check("w0", source, P.shape[0], x.dtype)
        P._check("out", target, P.shape[0], x.dtype)
        P.prepare(x.device)
        if on_cpu:
            arrays = as_array(source), encoded, as_scalar(scale, x.dtype), as_array(target)
            work += [(P, begin, end, *arrays) for _, begin, end in P._pieces]
        else:
            P._add_torch(source, x, scale, target)
    run_all(lambda piece: piece[0]._add_blocks(*piece[1:]), work)


def fold_all(
    projections: Sequence[Projection], v: Sequence[torch.Tensor], scales: Sequence[float], z: torch.Tensor
) -> None:
    """`fold` for many tensors into one accumulator z, in one go over the threads. All on the device of z."""
    sums = as_array(z) if z.device.type == "cpu" else None
    work: dict[int, list[tuple]] = {}
    for P, source, scale in zip(projections, v, scales, strict=True):
        P._check("v", source, P.shape[0], z.dtype)
        if z.shape != (ROWS, P.encoded_size):
            raise ConfigError(f"{P!r}: z has shape {tuple(z.shape)}, expected {(ROWS, P.encoded_size)}")
        P.prepare(z.device)
        if sums is not None:
            values, size = as_array(source), P._block_rows
            for row, begin, end in P._pieces:
                piece = np.array([[begin, end]]), values[begin * size : end * size], as_scalar(scale, z.dtype)
                work.setdefault(row, []).append((P, *piece, sums[row]))
        else:
            P._fold_torch(source, scale, z[0])
    run_all(fold_pieces, list(work.values()))


def fold_pieces(pieces: list[tuple]) -> None:
    """Fold (P, runs, v, scale, row of z) in order: all that goes to one row."""
    for P, *piece in pieces:
        P._fold_blocks(*piece)


def as_scalar(value: float, dtype: torch.dtype) -> np.floating:
    return np.float64(value) if dtype == torch.float64 else np.float32(value)


def _arithmetic(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.bfloat16 else dtype


def as_array(v: torch.Tensor) -> np.ndarray:
    v = v.detach() if v.requires_grad else v
    return v.view(torch.uint16).numpy() if v.dtype == torch.bfloat16 else v.numpy()


class _Apply(torch.autograd.Function):
    """P or Pᵀ as a differentiable function: the gradient of each is the other."""

    @staticmethod
    def forward(ctx, P: Projection, v: torch.Tensor, transposed: bool) -> torch.Tensor:
        ctx.P, ctx.transposed = P, transposed
        D, d = P.shape
        name, size = ("v", D) if transposed else ("theta", d)
        if v.dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"{P!r}: {name} is {v.dtype}, expected torch.float32 or torch.float64")
        v = v.contiguous()
        P._check(name, v, size, v.dtype)
        if transposed:
            return P.decode(P.fold(v))
        out = torch.zeros(D, dtype=v.dtype, device=v.device)
        P.add_to(out, P.encode(v), 1.0, out)
        return out

    @staticmethod
    def backward(ctx, *grads: torch.Tensor):
        return None, _Apply.apply(ctx.P, grads[0], not ctx.transposed), None
