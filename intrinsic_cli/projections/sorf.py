"""Structured orthogonal random features (Yu et al. 2016, arXiv 1610.09072): blocks H D1 H D2 H D3 of signs.

Block k is c · H diag(a_k) H diag(b_k) H B with c = 1/(n √D) and B = D3 shared (see `blocks`). Its rows are
orthogonal and of one length, so ‖P θ‖² = ‖θ‖² exactly when n divides D. The signs are drawn in the loop,
one bit each, and nothing is stored.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.blocks import BlockProjection, height, load, store
from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.draws import flip
from intrinsic_cli.projections.hadamard import fwht, line_aligned, torch_fwht


class Sorf(BlockProjection):
    """P whose blocks are H D1 H D2 H D3. See the module's text; the contract is `Projection`'s."""

    kind: ClassVar[str] = "sorf"

    def __init__(
        self, shape: tuple[int, int], seed: int, cache: str = "auto", version: int | None = None
    ) -> None:
        super().__init__(shape, seed, cache, version)
        self._outer_key = np.uint64(draws.key(self.seed, draws.STREAM_SIGN))
        self._inner_key = np.uint64(draws.key(self.seed, draws.STREAM_SIGN2))
        self._scale = 1 / (self.n * self.shape[0] ** 0.5)

    @property
    def encoded_size(self) -> int:
        return self.n

    def encode(self, theta: torch.Tensor) -> torch.Tensor:
        return self._mix(theta)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return self._unmix(z.view(-1, self.n).sum(dim=0))

    def prepare(self, device: torch.device | str = "cpu") -> None:
        pass

    def _add_blocks(
        self, begin: int, end: int, w0: np.ndarray, x: np.ndarray, scale, out: np.ndarray
    ) -> None:
        _add(begin, end, self._outer_key, self._inner_key, w0, x, scale * x.dtype.type(self._scale), out)

    def _fold_blocks(self, runs: np.ndarray, v: np.ndarray, scale, z: np.ndarray) -> None:
        _fold(runs, self._outer_key, self._inner_key, v, scale * z.dtype.type(self._scale), z)

    def _add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        for begin, end, first, last in self._torch_chunks():
            rows = torch_fwht(x * self._torch_signs(self._inner_key, begin, end, x.device))
            rows = torch_fwht(rows * self._torch_signs(self._outer_key, begin, end, x.device))
            self._store_rows(rows, scale * self._scale, w0[first:last], out[first:last])

    def _fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        for begin, end, first, last in self._torch_chunks():
            rows = torch_fwht(self._load_rows(v[first:last], end - begin, z.dtype))
            rows = torch_fwht(rows * self._torch_signs(self._outer_key, begin, end, z.device))
            rows = rows * self._torch_signs(self._inner_key, begin, end, z.device)
            z += rows.sum(dim=0) * (scale * self._scale)

    def _torch_signs(self, key, begin: int, end: int, device: torch.device) -> torch.Tensor:
        """(end − begin, n) int8; a block starts at a new 64-bit word."""
        words = max(self.n // 64, 1)
        signs = draws.torch_signs(int(key), 64 * words * begin, 64 * words * (end - begin), device)
        return signs.view(end - begin, 64 * words)[:, : self.n]


@cached_njit(nogil=True)
def _add(begin, end, outer_key, inner_key, w0, x, scale, out):
    n = x.shape[0]
    buffer = line_aligned(n, x)
    for k in range(begin, end):
        rows = min(n, out.shape[0] - k * n)
        m = height(rows, n)
        buffer[:] = x
        flip(buffer, inner_key, k * max(n, 64))
        fwht(buffer)
        flip(buffer, outer_key, k * max(n, 64))
        for start in range(m, n, m):
            for i in range(m):
                buffer[i] += buffer[start + i]
        store(buffer[:m], w0, scale, out, k * n, rows)


@cached_njit(nogil=True)
def _fold(runs, outer_key, inner_key, v, scale, z):
    n = z.shape[0]
    buffer = line_aligned(n, z)
    place = 0
    for begin, end in runs:
        for k in range(begin, end):
            first, rows = place, min(n, v.shape[0] - place)
            place += rows
            m = height(rows, n)
            if not load(buffer[:m], v, scale, first, rows):
                continue
            for start in range(m, n, m):
                buffer[start : start + m] = buffer[:m]
            flip(buffer, outer_key, k * max(n, 64))
            fwht(buffer)
            flip(buffer, inner_key, k * max(n, 64))
            for i in range(n):
                z[i] += buffer[i]
