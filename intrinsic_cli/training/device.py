"""Where a model computes, and in what numbers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from intrinsic_cli.projections import make_projection
from intrinsic_cli.projections.kernels import choose
from intrinsic_cli.spec import RunSpec


def resolve_precision(precision: str) -> str:
    """`auto` is `bf16` on hardware with bfloat16 matrix products, and `fp32` elsewhere."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


@dataclass(frozen=True)
class Compute:
    """A device, and `fp32`, `bf16` (products of float32 weights in bfloat16) or `pure_bf16` (weights too)."""

    device: torch.device
    precision: str

    @classmethod
    def here(cls, precision: str = "auto") -> Compute:
        """This process's accelerator (the GPU that `ranks.start` chose), or the CPU where there is none."""
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return cls(accelerator or torch.device("cpu"), resolve_precision(precision))

    def __str__(self) -> str:
        """`cpu in bf16 with 2 threads`."""
        threads = torch.get_num_threads()
        own = f" with {threads} thread{'s' * (threads > 1)}" if self.device.type == "cpu" else ""
        return f"{self.device} in {self.precision}{own}"

    def words(self, spec: RunSpec) -> str:
        """What a run of `spec` uses: `trained on cpu in bf16 with 2 threads, random matrix P computed by numba`."""
        if not spec.subspace.has_theta:
            return f"trained on {self}"
        P = make_projection(
            spec.projection.kind, shape=(1, spec.d or 1), seed=0, kernel=spec.projection.kernel
        )
        return f"trained on {self}, random matrix P computed by {choose(P, self.device).name}"

    @property
    def weights(self) -> torch.dtype | None:
        """The dtype that the weights are kept in; None leaves them in float32."""
        return torch.bfloat16 if self.precision == "pure_bf16" else None

    def autocast(self) -> AbstractContextManager[object]:
        """Around a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def batch(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a batch on the device."""
        if self.device.type != "cuda":
            return {name: tensor.to(self.device) for name, tensor in tensors.items()}
        # From pinned memory the copy does not wait for the device.
        return {n: tensor.pin_memory().to(self.device, non_blocking=True) for n, tensor in tensors.items()}
