"""The dense Gaussian projection: every entry of P is an independent draw of N(0, 1/D).

The reference that the structured kinds are compared with. The D·d numbers are drawn anew at each use, a row
at a time, and never stored: matvec and rmatvec cost D·d draws.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from intrinsic_cli.projections import draws
from intrinsic_cli.projections.cast import narrow, widen
from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.contract import Projection
from intrinsic_cli.projections.draws import draw_normals, normal_table

_ROWS = 64  # rows of a block
_CHUNK = 1 << 22  # entries of P held at a time by the torch operations


class Dense(Projection):
    """P with independent N(0, 1/D) entries; entry (a, j) is normal draw a · (d rounded up to 4) + j."""

    kind: ClassVar[str] = "dense"

    def __init__(
        self, shape: tuple[int, int], seed: int, cache: str = "auto", version: int | None = None
    ) -> None:
        super().__init__(shape, seed, cache, version)
        self._key = np.uint64(draws.key(self.seed, draws.STREAM_NORMAL))
        self._width = -(-self.shape[1] // 4) * 4  # four draws come from one hash
        self._scale = 1 / (draws.NORMAL_ONE * self.shape[0] ** 0.5)

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
        rows = slice(begin * _ROWS, end * _ROWS)
        scale = scale * x.dtype.type(self._scale)
        _add(rows.start, self._width, self._key, normal_table(), w0[rows], x, scale, out[rows])

    def _fold_blocks(self, runs: np.ndarray, v: np.ndarray, scale, z: np.ndarray) -> None:
        _fold(runs, self._width, self._key, normal_table(), v, scale * z.dtype.type(self._scale), z)

    def _add_torch(self, w0: torch.Tensor, x: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        for first, last, entries in self._torch_rows(x):
            out[first:last] = w0[first:last] + (entries @ x) * (scale * self._scale)

    def _fold_torch(self, v: torch.Tensor, scale: float, z: torch.Tensor) -> None:
        for first, last, entries in self._torch_rows(z):
            z += (v[first:last].to(z.dtype) @ entries) * (scale * self._scale)

    def _torch_rows(self, like: torch.Tensor):
        """(first, last, entries of P · NORMAL_ONE · √D) of runs of rows, in the type and place of `like`."""
        D, d = self.shape
        step = max(1, _CHUNK // self._width)
        for first in range(0, D, step):
            last = min(first + step, D)
            size = (last - first) * self._width
            entries = draws.torch_normals(int(self._key), first * self._width, size, like.device)
            yield first, last, entries.view(-1, self._width)[:, :d].to(like.dtype)


# Sums may be reordered, so that they use vectors; the order is fixed when the function is compiled.
@cached_njit(nogil=True, fastmath={"reassoc", "nsz"})
def _dot(entries, x):
    total = x.dtype.type(0)
    for j in range(x.shape[0]):
        total += x[j] * x.dtype.type(entries[j])
    return total


@cached_njit(nogil=True)
def _add(first, width, key, table, w0, x, scale, out):
    entries = np.empty(width, np.int16)
    for a in range(out.shape[0]):
        draw_normals(key, table, (first + a) * width, entries)
        out[a] = narrow(widen(w0[a]) + scale * _dot(entries, x), out[a])


@cached_njit(nogil=True)
def _fold(runs, width, key, table, v, scale, z):
    entries = np.empty(width, np.int16)
    place = 0
    for begin, end in runs:
        for a in range(begin * _ROWS, min(end * _ROWS, begin * _ROWS + v.shape[0] - place)):
            value = scale * widen(v[place])
            place += 1
            if value == 0:
                continue
            draw_normals(key, table, a * width, entries)
            for j in range(z.shape[0]):
                z[j] += value * z.dtype.type(entries[j])
