"""Which kernel computes P: by the device, and by what works on this machine."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch

from intrinsic_cli.errors import ConfigError, one_line
from intrinsic_cli.registry import Registry

if TYPE_CHECKING:
    from intrinsic_cli.projections.contract import Projection, Scales

log = logging.getLogger(__name__)

_KERNELS = Registry(
    "projection.kernel",
    {
        "numba": "intrinsic_cli.projections.kernels.numba:NumbaKernel",
        "torch": "intrinsic_cli.projections.kernels.torch:TorchKernel",
        "triton": "intrinsic_cli.projections.kernels.triton:TritonKernel",
    },
)
# Kernels by type of device; on any other, torch alone. Triton's interpreter takes tensors of the CPU.
_DEVICES = {"cpu": ("numba", "torch", "triton"), "cuda": ("torch", "triton")}
_FAST = {"cpu": "numba", "cuda": "triton"}  # which of them `auto` tries first


class _Missing(ConfigError):
    """A kernel that has no code for a kind of projection."""


class Kernel(ABC):
    """Products with P on one kind of device. Callers have checked shapes and dtypes, and called `prepare`."""

    name: str  # of projection.kernel
    keeps_draws = True  # whether it reads the random numbers that `prepare` stores

    def supports(self, kind: str) -> bool:
        """Whether it computes this kind of projection."""
        return True

    @abstractmethod
    def transform(self, v: torch.Tensor) -> torch.Tensor:
        """H_n v, unnormalised, for v (n,) with n = 2^k ≥ 16: a new tensor."""

    @abstractmethod
    def normals(self, key: int, count: int, device: torch.device) -> torch.Tensor:
        """(count,) int16 on `device`: the first normal draws of the stream `key`; `count` is a multiple of 4."""

    @abstractmethod
    def add(
        self,
        projections: Sequence[Projection],
        w0: Sequence[torch.Tensor],
        x: torch.Tensor,
        scales: Scales,
        out: Sequence[torch.Tensor],
    ) -> None:
        """out[i] ← w0[i] + scales[i] · P_i θ for x = encode(θ): `contract.add_to_all`."""

    @abstractmethod
    def fold(
        self,
        projections: Sequence[Projection],
        v: Sequence[torch.Tensor],
        scales: Scales,
        z: torch.Tensor,
    ) -> None:
        """z ← z + Σ scales[i] · (P_iᵀ v[i] before decoding): `contract.fold_all`."""

    def fold_and_square(
        self, projections: Sequence[Projection], v: Sequence[torch.Tensor], scales: Scales, z: torch.Tensor
    ) -> torch.Tensor:
        """`fold`, and Σ ‖v[i]‖² as a number on its device."""
        self.fold(projections, v, scales, z)
        return torch.stack(torch._foreach_norm(list(v), 2, z.dtype)).square().sum()

    def fold_rows(
        self, P: Projection, rows: torch.Tensor, values: torch.Tensor, scale: float, z: torch.Tensor
    ) -> None:
        """`fold` of a matrix that is zero outside `rows`: `contract.fold_rows`."""
        width = values.shape[1]
        matrix = torch.zeros(P.shape[0] // width, width, dtype=z.dtype, device=z.device)
        self.fold([P], [matrix.index_add_(0, rows, values.to(z.dtype)).view(-1)], [scale], z)


def choose(P: Projection, device: torch.device) -> Kernel:
    """The kernel that computes P on `device`: the one P asks for; for `auto` the device's
    fast one (numba's, triton's) where it works, else torch's.

    Raises ConfigError where the one asked for is not for this kind or device, or does not work on this machine.
    """
    # A GPU's code is compiled anew for every d, so that it is tried at every d.
    return _choose(P.kernel, type(P), device.type, P.shape[1] if device.type == "cuda" else 3)


@cache
def _choose(name: str, kind: type[Projection], device: str, d: int) -> Kernel:
    if name != "auto":
        return _tried(name, kind, device, d)
    if fast := _FAST.get(device):
        try:
            return _tried(fast, kind, device, d)
        except _Missing:
            pass
        except ConfigError as error:
            _warn(f"{error}; going on with torch operations, which are slower and have the same P")
    return _tried("torch", kind, device, d)


def _tried(name: str, kind: type[Projection], device: str, d: int) -> Kernel:
    """That kernel, seen to compute a small P of this kind: code that can't be compiled shows when it is called."""
    if name not in _DEVICES.get(device, ("torch",)):
        raise ConfigError(f"projection.kernel={name} does not compute on {device}; use auto or torch")
    try:
        kernel: Kernel = _KERNELS[name]()
        d = d if name == "triton" else 3  # only its code is compiled for one d
        missing = not kernel.supports(kind.kind)
        right = missing or _agrees(kernel, kind((2 * d + 34, d), seed=0, cache="regenerate"), device)
    except Exception as error:  # of a compiler: of any type
        what = one_line(f"{type(error).__name__}: {error}")
        raise ConfigError(f"projection.kernel={name} does not work on this machine ({what:.200})") from error
    if missing:
        raise _Missing(f"projection.kernel={name} has no code for projection={kind.kind}")
    if not right:
        raise ConfigError(f"projection.kernel={name} computes another P than its definition on this machine")
    return kernel


def _agrees(kernel: Kernel, P: Projection, device: str) -> bool:
    """Whether matvec and rmatvec of P are those of its definition in torch, on whole blocks and a short one."""
    x = torch.linspace(-1, 1, P.encoded_size, device=device)
    v = torch.linspace(-1, 1, P.shape[0], device=device)
    out, expected = torch.empty_like(v), torch.empty_like(v)
    z = P.accumulator(x.dtype, device)
    expected_z = torch.zeros_like(z[0])
    kernel.add([P], [v], x, [0.5], [out])
    kernel.fold([P], [v], [0.5], z)
    P.add_torch(v, x, 0.5, expected)
    P.fold_torch(v, 0.5, expected_z)
    pairs = (out, expected), (z.sum(dim=0), expected_z)
    return all(torch.allclose(got, right, atol=1e-4 * float(right.abs().max())) for got, right in pairs)


@cache
def _warn(message: str) -> None:
    """Once in a process."""
    log.warning(message)
