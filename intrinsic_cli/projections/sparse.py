"""The very sparse projection of Li, Hastie, Church (2006), as Li et al. 2018 use it: ±1 with density 1/√D.

An entry is ±c with probability p = 1/√D and 0 otherwise, c² = 1/(p·D), so its variance is 1/D. The nonzeros
are found by drawing the gaps between them, which are geometric: gap = ⌊log u / log(1 − p)⌋. Blocks of rows
are drawn on the CPU, in order, at each use; nothing is stored. On another device the product is moved there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.contract import Projection

ROWS = 1024  # rows of a block
UNIT = 1.1102230246251565e-16  # 2⁻⁵³
_SQRT_HALF, _LOG_TWO = 0.7071067811865476, 0.6931471805599453
_CHUNK = 1 << 20  # nonzeros drawn at a time by the torch operations, about


class Sparse(Projection):
    """P with independent entries ±1/√(p·D) of density p = 1/√D."""

    kind: ClassVar[str] = "sparse"

    def _set_up(self) -> None:
        self.key = draws.key(self.seed, draws.STREAM_GAP)
        D = self.shape[0]
        self.gap_rate = 0.0 if D == 1 else 1 / log(1 - 1 / math.sqrt(D))
        self.scale = D**-0.25

    @property
    def block_rows(self) -> int:
        return ROWS

    def add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        product, theta = torch.zeros(self.shape[0], dtype=x.dtype), x.cpu()
        for row, column, sign in self._nonzeros():
            product.index_add_(0, row, theta[column] * sign.to(x.dtype))
        out.copy_(w0.to(x.dtype) + (product * (scale * self.scale)).to(x.device))

    def fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        values, sums = v.cpu().to(z.dtype), torch.zeros(z.numel(), dtype=z.dtype)
        for row, column, sign in self._nonzeros():
            sums.index_add_(0, column, values[row] * sign.to(z.dtype))
        z += (sums * (scale * self.scale)).to(z.device)

    def _nonzeros(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Row, column and sign (int64, on the CPU) of all nonzeros, in order, some blocks at a time."""
        D, d = self.shape
        # Of one block: their mean and ten deviations. A block that has more draws on.
        mean = min(ROWS, D) * d / math.sqrt(D)
        width = math.ceil(mean + 10 * math.sqrt(mean) + 10)
        step = max(1, _CHUNK // width)
        for begin in range(0, self.blocks, step):
            block = torch.arange(begin, min(begin + step, self.blocks))
            sizes = (D - block * ROWS).clamp(max=ROWS) * d  # entries
            start, counted = torch.full_like(block, -1), 0
            while (start < sizes).any():
                place, sign = self._draw(block, counted, width)
                place = start[:, None] + place.cumsum(dim=1)
                inside = place < sizes[:, None]
                row = block[:, None] * ROWS + place // d
                yield row[inside], (place % d)[inside], sign[inside]
                start, counted = place[:, -1], counted + width

    def _draw(self, block: torch.Tensor, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(blocks, count) int64: the steps to the nonzeros `first`, …, of each block, and their signs.

        Of one draw, 53 bits give the step and the lowest bit the sign.
        """
        bits = draws.words(self.key, block[:, None] << 40 | torch.arange(first, first + count))
        u = ((bits >> 11 & (1 << 53) - 1).double() + 1) * UNIT
        gaps = (_log_of(u) * self.gap_rate).long()
        return 1 + gaps, 1 - 2 * (bits & 1)


def log(u: float) -> float:
    """Natural logarithm from +, *, / alone, so that every machine draws the same; 0 < u ≤ 1, to 1e-16."""
    mantissa, exponent = math.frexp(u)
    if mantissa < _SQRT_HALF:
        mantissa, exponent = 2 * mantissa, exponent - 1
    s = (mantissa - 1) / (mantissa + 1)
    total = 0.0
    for power in range(23, 0, -2):  # log m = 2 (s + s³/3 + s⁵/5 + …), |s| < 0.172
        total = total * s * s + 1 / power
    return exponent * _LOG_TWO + 2 * s * total


def _log_of(u: torch.Tensor) -> torch.Tensor:
    """`log` of each number: the same operations, and so the same bits."""
    mantissa, exponent = torch.frexp(u)
    low = mantissa < _SQRT_HALF
    mantissa, exponent = torch.where(low, 2 * mantissa, mantissa), exponent.double() - low.double()
    s = (mantissa - 1) / (mantissa + 1)
    total = torch.zeros_like(s)
    for power in range(23, 0, -2):
        total = total * s * s + 1 / power
    return exponent * _LOG_TWO + 2 * s * total
