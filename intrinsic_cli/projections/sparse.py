"""The very sparse projection of Li, Hastie, Church (2006), as Li et al. 2018 use it: ±1 with density 1/√D.

An entry is ±c with probability p = 1/√D and 0 otherwise, c² = 1/(p·D), so its variance is 1/D. The nonzeros
are found by drawing the gaps between them, which are geometric: gap = ⌊log u / log(1 − p)⌋. Blocks of rows
are drawn on the CPU, in order, at each use; nothing is stored. On another device the product is moved there.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from numba import njit

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.cast import narrow, widen
from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.contract import Projection
from intrinsic_cli.projections.draws import word

_ROWS = 1024  # rows of a block


class Sparse(Projection):
    """P with independent entries ±1/√(p·D) of density p = 1/√D."""

    kind: ClassVar[str] = "sparse"

    def __init__(
        self, shape: tuple[int, int], seed: int, cache: str = "auto", version: int | None = None
    ) -> None:
        super().__init__(shape, seed, cache, version)
        self._key = np.uint64(draws.key(self.seed, draws.STREAM_GAP))
        D = self.shape[0]
        self._gap_rate = 0.0 if D == 1 else 1 / _log(1 - 1 / math.sqrt(D))
        self._scale = D**-0.25

    @property
    def encoded_size(self) -> int:
        return self.shape[1]

    def encode(self, theta: torch.Tensor) -> torch.Tensor:
        self._check("theta", theta, self.shape[1], theta.dtype)
        return theta

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return z.view(-1, self.shape[1]).sum(dim=0)

    @property
    def _block_rows(self) -> int:
        return _ROWS

    def prepare(self, device: torch.device | str = "cpu") -> None:
        pass

    def _add_blocks(
        self, begin: int, end: int, w0: np.ndarray, x: np.ndarray, scale, out: np.ndarray
    ) -> None:
        _add(begin, end, self._key, self._gap_rate, w0, x, scale * x.dtype.type(self._scale), out)

    def _fold_blocks(self, runs: np.ndarray, v: np.ndarray, scale, z: np.ndarray) -> None:
        _fold(runs, self._key, self._gap_rate, v, scale * z.dtype.type(self._scale), z)

    def _add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        product = torch.zeros(self.shape[0], dtype=x.dtype)
        self.add_to(product, x.cpu(), scale, product)
        out.copy_(w0.to(x.dtype) + product.to(x.device))

    def _fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        z += self.fold(v.cpu().to(z.dtype), scale).sum(dim=0).to(z.device)


@cached_njit(nogil=True)
def _log(u):
    """Natural logarithm from +, *, / alone, so that every machine draws the same; 0 < u ≤ 1, to 1e-16."""
    mantissa, exponent = math.frexp(u)
    if mantissa < 0.7071067811865476:
        mantissa, exponent = 2 * mantissa, exponent - 1
    s = (mantissa - 1) / (mantissa + 1)
    total = 0.0
    for power in range(23, 0, -2):  # log m = 2 (s + s³/3 + s⁵/5 + …), |s| < 0.172
        total = total * s * s + 1 / power
    return exponent * 0.6931471805599453 + 2 * s * total


@njit(nogil=True, inline="always")
def _next(key, block, count, gap_rate):
    """The gap before nonzero `count` of a block, and its sign: 53 bits and the lowest bit of one draw."""
    bits = word(key, np.uint64(block) << np.uint64(40) | np.uint64(count))
    u = (np.float64(bits >> np.uint64(11)) + 1) * 1.1102230246251565e-16
    return np.int64(_log(u) * gap_rate), 1 - 2 * np.int64(bits & np.uint64(1))


@cached_njit(nogil=True)
def _add(begin, end, key, gap_rate, w0, x, scale, out):
    d = x.shape[0]
    sums = np.empty(_ROWS, x.dtype)
    for block in range(begin, end):
        first = block * _ROWS
        rows = min(_ROWS, out.shape[0] - first)
        sums[:] = 0
        count = 0
        place, sign = _next(key, block, count, gap_rate)
        while place < rows * d:
            sums[place // d] += sign * x[place % d]
            count += 1
            gap, sign = _next(key, block, count, gap_rate)
            place += 1 + gap
        for a in range(rows):
            out[first + a] = narrow(widen(w0[first + a]) + scale * sums[a], out[first + a])


@cached_njit(nogil=True)
def _fold(runs, key, gap_rate, v, scale, z):
    d = z.shape[0]
    first = 0
    for begin, end in runs:
        for block in range(begin, end):
            rows = min(_ROWS, v.shape[0] - first)
            count = 0
            place, sign = _next(key, block, count, gap_rate)
            while place < rows * d:
                z[place % d] += scale * sign * widen(v[first + place // d])
                count += 1
                gap, sign = _next(key, block, count, gap_rate)
                place += 1 + gap
            first += rows
