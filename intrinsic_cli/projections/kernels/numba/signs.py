"""Sign blocks on the CPU: `fused` blocks whose signs are drawn some at a time, and a short last one."""

from __future__ import annotations

import numpy as np
from numba import njit

from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.kernels.numba.blocks import height, load, store
from intrinsic_cli.projections.kernels.numba.draws import word
from intrinsic_cli.projections.kernels.numba.fused import add_blocks, block_shift, fold_blocks, signed_block
from intrinsic_cli.projections.kernels.numba.hadamard import line_aligned
from intrinsic_cli.projections.signs import Signs

_DRAWN = 4096  # signs drawn at a time, or a block's if that is more


def add(P: Signs, begin: int, end: int, w0: np.ndarray, x: np.ndarray, scale, out: np.ndarray) -> None:
    keys = np.uint64(P.sign_key), np.uint64(P.shift_key)
    _add(begin, end, *keys, w0, x, scale * x.dtype.type(P.scale), out)


def fold(P: Signs, runs: np.ndarray, v: np.ndarray, scale, z: np.ndarray) -> None:
    _fold(runs, np.uint64(P.sign_key), np.uint64(P.shift_key), v, scale * z.dtype.type(P.scale), z)


@njit(nogil=True)
def _draw(key, first, last, words):
    """Fill `words` with the signs `first` … `last` − 1, 64 each; returns where in them the first is."""
    for i in range(first >> 6, (last + 63) >> 6):
        words[i - (first >> 6)] = word(key, np.uint64(i))
    return first & 63


@cached_njit(nogil=True)
def _add(begin, end, sign_key, shift_key, w0, x, scale, out):
    n = x.shape[0]
    buffer = line_aligned(n, x)
    words = np.empty(max(n, _DRAWN) // 64 + 1, np.uint64)
    bits = words.view(np.uint16)
    whole = min(end, out.shape[0] // n)
    step = max(1, _DRAWN // n)
    for k in range(begin, whole, step):
        last = min(k + step, whole)
        g0 = _draw(sign_key, k * n, last * n, words)
        add_blocks(buffer, x, shift_key, k, last, bits, g0, w0, out, scale)
    if whole < end:
        rows = out.shape[0] - whole * n
        part = buffer[: height(rows, n)]
        part[:] = 0
        signed_block(part, 0, x, block_shift(shift_key, whole, n), sign_key, whole * n)
        store(part, w0, scale, out, whole * n, rows)


@cached_njit(nogil=True)
def _fold(runs, sign_key, shift_key, v, scale, z):
    n = z.shape[0]
    buffer = line_aligned(n, z)
    words = np.empty(max(n, _DRAWN) // 64 + 1, np.uint64)
    bits = words.view(np.uint16)
    step = max(1, _DRAWN // n)
    first = 0
    for begin, end in runs:
        whole = min(end, begin + (v.shape[0] - first) // n)
        for k in range(begin, whole, step):
            last = min(k + step, whole)
            g0 = _draw(sign_key, k * n, last * n, words)
            fold_blocks(buffer, z, shift_key, k, last, bits, g0, v, first, scale)
            first += (last - k) * n
        if whole < end:
            rows = v.shape[0] - first
            part = buffer[: height(rows, n)]
            if load(part, v, scale, first, rows):
                signed_block(z, block_shift(shift_key, whole, n), part, 0, sign_key, whole * n)
