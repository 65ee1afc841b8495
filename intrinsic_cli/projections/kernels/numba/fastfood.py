"""Fastfood on the CPU: `fused` blocks, and a short last block whose g are drawn where they are used."""

from __future__ import annotations

import numpy as np
from numba import njit

from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.draws import NORMAL_ONE, normal_table
from intrinsic_cli.projections.fastfood import Fastfood
from intrinsic_cli.projections.hadamard import LANES
from intrinsic_cli.projections.kernels.numba.blocks import height, load, store
from intrinsic_cli.projections.kernels.numba.draws import draw_normals, flip
from intrinsic_cli.projections.kernels.numba.fused import (
    add_blocks,
    add_product,
    block_shift,
    fold_blocks,
    signed_block,
)
from intrinsic_cli.projections.kernels.numba.hadamard import line_aligned

_DRAWN = 4096  # numbers drawn at a time when they are not stored; divides every longer period


def add(P: Fastfood, begin: int, end: int, w0: np.ndarray, x: np.ndarray, scale, out: np.ndarray) -> None:
    _add(begin, end, *_gain_source(P), w0, x, scale * x.dtype.type(P.scale), out)


def fold(P: Fastfood, runs: np.ndarray, v: np.ndarray, scale, z: np.ndarray) -> None:
    _fold(runs, *_gain_source(P), v, scale * z.dtype.type(P.scale), z)


def _gain_source(P: Fastfood) -> tuple:
    """What the g and the shifts of blocks are read or drawn from; a period of 0 stands for signs."""
    keys = np.uint64(P.normal_key), np.uint64(P.sign_key), np.uint64(P.shift_key)
    return P.stored.numpy(), normal_table(), *keys, 0 if P.version == 3 else P.period


@njit(nogil=True)
def _short_block(total, t0, factor, f0, first, period, table, normal_key, sign_key, scratch):
    """total += factor · g: x times g into the numbers of a short block, or these times g into z.

    `total` and `factor` are read from t0 and f0, around their ends, the shorter one again and again. g are the
    draws from `first` on, made a piece at a time in `scratch`.
    """
    n = max(total.shape[0], factor.shape[0])
    g = scratch[: min(n, _DRAWN)]
    signs = np.ones(n // LANES, total.dtype)
    if period < n:
        flip(signs, sign_key, first // LANES)
    for base in range(0, period, g.shape[0]):
        draw_normals(normal_key, table, first + base, g)
        for start in range(base, n, period):
            for i in range(0, g.shape[0], LANES):
                t, f = (t0 + start + i) & (total.shape[0] - 1), (f0 + start + i) & (factor.shape[0] - 1)
                sign = signs[(start + i) // LANES]
                add_product(total, t, factor, f, g, i, sign)  # type: ignore[call-arg]  # numba gives the context


@cached_njit(nogil=True)
def _add(begin, end, stored, table, normal_key, sign_key, shift_key, period, w0, x, scale, out):
    n = x.shape[0]
    scratch = np.empty(max(n, _DRAWN), np.int16)
    buffer = line_aligned(n, x)
    whole = min(end, out.shape[0] // n)
    if whole * n <= stored.shape[0]:
        add_blocks(buffer, x, shift_key, begin, whole, stored, begin * n, w0, out, scale)
    else:
        step = scratch.shape[0] // n
        for k in range(begin, whole, step):
            last = min(k + step, whole)
            draw_normals(normal_key, table, k * n, scratch[: (last - k) * n])
            add_blocks(buffer, x, shift_key, k, last, scratch, 0, w0, out, scale)
    if whole < end:
        rows = out.shape[0] - whole * n
        part = buffer[: height(rows, n)]
        part[:] = 0
        shift = block_shift(shift_key, whole, n)
        if period == 0:
            signed_block(part, 0, x, shift, sign_key, whole * n)
            scale = scale * x.dtype.type(NORMAL_ONE)
        else:
            _short_block(part, 0, x, shift, whole * n, period, table, normal_key, sign_key, scratch)
        store(part, w0, scale, out, whole * n, rows)


@cached_njit(nogil=True)
def _fold(runs, stored, table, normal_key, sign_key, shift_key, period, v, scale, z):
    n = z.shape[0]
    scratch = np.empty(max(n, _DRAWN), np.int16)
    buffer = line_aligned(n, z)
    first = 0
    for begin, end in runs:
        whole = min(end, begin + (v.shape[0] - first) // n)
        if whole * n <= stored.shape[0]:
            fold_blocks(buffer, z, shift_key, begin, whole, stored, begin * n, v, first, scale)
        else:
            step = scratch.shape[0] // n
            for k in range(begin, whole, step):
                last = min(k + step, whole)
                draw_normals(normal_key, table, k * n, scratch[: (last - k) * n])
                fold_blocks(buffer, z, shift_key, k, last, scratch, 0, v, first + (k - begin) * n, scale)
        first += (whole - begin) * n
        if whole < end:
            rows = v.shape[0] - first
            part = buffer[: height(rows, n)]
            shift = block_shift(shift_key, whole, n)
            if period == 0:
                if load(part, v, scale * z.dtype.type(NORMAL_ONE), first, rows):
                    signed_block(z, shift, part, 0, sign_key, whole * n)
            elif load(part, v, scale, first, rows):
                _short_block(z, shift, part, 0, whole * n, period, table, normal_key, sign_key, scratch)
