"""The Walsh-Hadamard transform H_n in plain torch operations, unnormalised: n log₂ n additions, for n = 2^k.

H_n[a, b] = (−1)^popcount(a & b) (Sylvester's order), so H_n = H_{n/m} ⊗ H_m and H_n is its own adjoint.
"""

from __future__ import annotations

import torch

LANES = 16  # the smallest n, so that a block is whole vectors of the CPU kernel


def fwht(rows: torch.Tensor) -> torch.Tensor:
    """H_n applied to each row of a (…, n) tensor, on any device: a new tensor of the same dtype."""
    n = rows.shape[-1]
    h = 1
    while h < n:
        pairs = rows.reshape(*rows.shape[:-1], n // (2 * h), 2, h)
        a, b = pairs.unbind(-2)
        rows = torch.stack((a + b, a - b), dim=-2).reshape(rows.shape)
        h *= 2
    return rows
