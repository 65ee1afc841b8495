"""How products with P are computed: one door to several kernels, all of the same P.

`numba` is compiled for the CPU and `triton` for GPUs; `torch` runs anywhere, in plain operations.
"""

from intrinsic_cli.projections.kernels.door import Kernel, choose

__all__ = ["Kernel", "choose"]
