"""The contract that every projection keeps, in torch. How its products are computed lies in `kernels`.

Training works on all tensors of a model at once, so P θ is cut in two: what depends on d alone is done once
per step (`encode`, `decode`), what depends on the tensor's seed and rows is done per tensor (`add_to`,
`fold`), for all of them together by `add_to_all`, `fold_all`:

    x = P.encode(theta)              once, for every tensor of the model
    P.add_to(w0, x, scale, out)      per tensor: out = w0 + scale · P θ
    z = P.accumulator(dtype, device) once
    P.fold(v, scale, z)              per tensor: z += scale · (Pᵀ v before decoding)
    g = P.decode(z)                  once: Σ scale · Pᵀ v
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch

from intrinsic_cli.errors import ConfigError, one_of
from intrinsic_cli.projections import kernels
from intrinsic_cli.spec import KERNELS, is_whole

# The sums of `fold` are kept in this many rows. A kernel that works in pieces gives each piece a fixed row and
# sums a row in the order of the calls, so that the result does not depend on who worked on what.
ROWS = 8

ARITHMETIC = (torch.float32, torch.float64)
KEPT = ("auto", "store", "regenerate")  # whether the random numbers of P are; a subspace can also stream

# A number for each of several tensors: floats, or one tensor of them, which can stay on the device that made it.
Scales = Sequence[float] | torch.Tensor


class Projection(ABC):
    """A random matrix P that maps (d,) to a tensor of shape `rows`, seen flat; each entry has mean 0 and
    variance 1/D, with D the tensor's size, so E‖Pθ‖² = ‖θ‖².

    `shape` is (D, d). `version` names the draw: the same (kind, version, seed, rows, d) is the same matrix for
    ever. `versions` are all that can be drawn, the newest last, which None stands for. Arithmetic is float64
    for float64 input and float32 otherwise. Vectors are contiguous and one-dimensional; what `add_to` and `fold`
    read and write of a model's tensors may have any shape. Every kernel and device has the same P; their sums may
    differ in the last bits.

    A kind states its definition in torch operations (`add_torch`, `fold_torch`), which run anywhere; faster
    kernels for it are modules of `kernels`.
    """

    kind: ClassVar[str]
    versions: ClassVar[tuple[int, ...]] = (1,)

    def __init__(
        self,
        shape: tuple[int, ...],
        seed: int,
        cache: str = "auto",
        version: int | None = None,
        kernel: str = "auto",
    ) -> None:
        if not all(map(is_whole, (*shape, seed))):
            raise ConfigError(
                f"projection of shape {tuple(shape)}, seed={seed!r}: all of them are whole numbers"
            )
        *rows, d = map(int, shape)
        D = math.prod(rows)
        if min(D, d, *rows) < 1:
            raise ConfigError(f"projection of shape (D={D}, d={d}): both must be at least 1")
        if not 0 <= seed < 1 << 64:
            raise ConfigError(f"projection seed={seed} is out of range; use 0 to 2**64 - 1")
        if cache not in KEPT:
            raise ConfigError(f"projection.cache={cache!r}{one_of(cache, KEPT)}")
        if kernel not in KERNELS:
            raise ConfigError(f"projection.kernel={kernel!r}{one_of(kernel, KERNELS)}")
        self.rows = tuple(rows)
        self.shape = (D, d)
        self.seed = int(seed)
        if version not in (None, *self.versions):
            known = one_of(version, [str(v) for v in self.versions])
            raise ConfigError(f"draw version {version} of projection={self.kind}{known}")
        self.cache = cache
        self.version = self.versions[-1] if version is None else version
        self.kernel = kernel
        self._set_up()

    def _set_up(self) -> None:  # noqa: B027 (a kind may have nothing to add)
        """What a kind adds: its keys, its scale."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, seed={self.seed}, version={self.version})"

    def matvec(self, theta: torch.Tensor) -> torch.Tensor:
        """P θ: (d,) -> (D,), float32 or float64, differentiable."""
        return _Apply.apply(self, theta, False)

    def rmatvec(self, v: torch.Tensor) -> torch.Tensor:
        """Pᵀ v: (D,) -> (d,), float32 or float64, differentiable."""
        return _Apply.apply(self, v, True)

    def encode(self, theta: torch.Tensor) -> torch.Tensor:
        """θ (d,) -> x, the part of P θ that is the same for every seed and D. float32 or float64."""
        self._check("theta", theta, self.shape[1], theta.dtype)
        return theta

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """The adjoint of `encode`, after the rows of an `accumulator` are summed: z -> (d,)."""
        return z.view(-1, self.encoded_size).sum(dim=0)

    @property
    def encoded_size(self) -> int:
        """The length of x."""
        return self.shape[1]

    def accumulator(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> torch.Tensor:
        """Zeros (ROWS, len(x)) for `fold`. Its inner product with x, broadcast, is ⟨Σ scale · v, Pθ⟩."""
        return torch.zeros(ROWS, self.encoded_size, dtype=dtype, device=device)

    def add_to(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        """out ← w0 + scale · P θ for x = encode(θ). w0 and out: D numbers, float32, float64, bfloat16 or float16.

        They may be the same tensor. float64 goes with float64 only. Autograd is not told that `out` changed.
        """
        add_to_all([self], [w0], x, [scale], [out])

    def fold(self, v: torch.Tensor, scale: float = 1.0, z: torch.Tensor | None = None) -> torch.Tensor:
        """z ← z + scale · (Pᵀ v before decoding), in place; a new `accumulator` if None. Returns z.

        v: D numbers, float32, float64, bfloat16 or float16. z is float64 for float64 and float32 otherwise. Blocks
        of v that are all zero (the embedding rows a batch did not use) cost no more than being read.
        """
        if z is None:
            z = self.accumulator(_arithmetic(v.dtype), v.device)
        fold_all([self], [v], [scale], z)
        return z

    @property
    @abstractmethod
    def block_rows(self) -> int:
        """P is worked on in blocks of so many consecutive rows; the last may be shorter."""

    @property
    def blocks(self) -> int:
        """How many blocks P has."""
        return -(-self.shape[0] // self.block_rows)

    def prepare(self, device: torch.device | str = "cpu") -> None:  # noqa: B027 (most kinds store nothing)
        """Draw what is stored, on `device`; the first use does it otherwise."""

    @abstractmethod
    def add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        """`add_to` in torch operations, for any device."""

    @abstractmethod
    def fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        """`fold` into one row z in torch operations, for any device."""

    def _kernel(self, device: torch.device) -> kernels.Kernel:
        return kernels.choose(self, device)

    def _check(
        self, name: str, v: torch.Tensor, size: int, arithmetic: torch.dtype, *, any_shape: bool = False
    ) -> None:
        if v.numel() != size or (v.dim() != 1 and not any_shape):
            expected = f"({size},)" + " or another of as many numbers" * any_shape
            raise ConfigError(f"{self!r}: {name} has shape {tuple(v.shape)}, expected {expected}")
        if arithmetic not in ARITHMETIC:
            raise ConfigError(f"{self!r}: {name} is {v.dtype}, expected {' or '.join(map(str, ARITHMETIC))}")
        if _arithmetic(v.dtype) != arithmetic:
            raise ConfigError(
                f"{self!r}: {name} is {v.dtype}, which does not go with {arithmetic} arithmetic"
            )
        if not v.is_contiguous():
            way_out = "a tensor to write to must be" if name == "out" else f"pass {name}.contiguous()"
            raise ConfigError(f"{self!r}: {name} is not contiguous; {way_out}")

    def _check_accumulator(self, z: torch.Tensor) -> None:
        if z.shape != (ROWS, self.encoded_size):
            raise ConfigError(f"{self!r}: z has shape {tuple(z.shape)}, expected {(ROWS, self.encoded_size)}")
        self._check("z", z, z.numel(), z.dtype, any_shape=True)


def add_to_all(
    projections: Sequence[Projection],
    w0: Sequence[torch.Tensor],
    x: torch.Tensor,
    scales: Scales,
    out: Sequence[torch.Tensor],
) -> None:
    """`add_to` for many tensors that share x, in one go, by the kernel of the first. All on the device of x."""
    for P in _of_each_size(projections):
        P._check("x", x, P.encoded_size, x.dtype)
    _check_all("w0", projections, w0, x.dtype)
    _check_all("out", projections, out, x.dtype)
    if projections:
        _prepared(projections, x.device).add(projections, w0, x, scales, out)


def fold_all(
    projections: Sequence[Projection], v: Sequence[torch.Tensor], scales: Scales, z: torch.Tensor
) -> torch.Tensor:
    """`fold` for many tensors into one accumulator z, in one go, by the kernel of the first. All on its device.

    Returns Σ ‖v[i]‖², a number of the dtype of z on its device.
    """
    for P in _of_each_size(projections):
        P._check_accumulator(z)
    _check_all("v", projections, v, z.dtype)
    if not projections:
        return z.new_zeros(())
    return _prepared(projections, z.device).fold_and_square(projections, v, scales, z)


def _check_all(
    name: str, projections: Sequence[Projection], tensors: Sequence[torch.Tensor], arithmetic: torch.dtype
) -> None:
    """`_check` of each, which is only called where one is wrong: a GPU's step has no time for hundreds of calls."""
    if (
        list(map(torch.Tensor.numel, tensors)) != [P.shape[0] for P in projections]
        or not all(map(torch.Tensor.is_contiguous, tensors))
        or any(_arithmetic(dtype) != arithmetic for dtype in {v.dtype for v in tensors})
    ):
        for P, v in zip(projections, tensors, strict=True):
            P._check(name, v, P.shape[0], arithmetic, any_shape=True)


def _of_each_size(projections: Sequence[Projection]) -> Iterable[Projection]:
    """One of each length of x among them: what is checked of x or z for it holds for the others."""
    return {P.encoded_size: P for P in projections}.values()


def _prepared(projections: Sequence[Projection], device: torch.device) -> kernels.Kernel:
    """The kernel of the first, with what it reads of the others drawn."""
    kernel = projections[0]._kernel(device)
    if kernel.keeps_draws:
        for P in projections:
            P.prepare(device)
    return kernel


def fold_rows(
    P: Projection, rows: torch.Tensor, values: torch.Tensor, scale: float, z: torch.Tensor
) -> torch.Tensor:
    """`P.fold` of a matrix that is zero outside `rows`, such as an embedding's gradient. Returns z.

    rows: (k,) int64 in any order; repeated rows add up, in the dtype of z. values: (k, width), of a dtype
    that `fold` takes; D is a multiple of width. The sums are those of folding the whole matrix, in its bits.
    """
    P._check_accumulator(z)
    P.prepare(z.device)
    P._kernel(z.device).fold_rows(P, rows, values, scale, z)
    return z


def _arithmetic(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


class _Apply(torch.autograd.Function):
    """P or Pᵀ as a differentiable function: the gradient of each is the other."""

    @staticmethod
    def forward(ctx, P: Projection, v: torch.Tensor, transposed: bool) -> torch.Tensor:
        ctx.P, ctx.transposed = P, transposed
        D, d = P.shape
        name, size = ("v", D) if transposed else ("theta", d)
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
