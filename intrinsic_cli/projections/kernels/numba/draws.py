"""The random numbers of `draws` inside compiled loops: the same integers."""

from __future__ import annotations

import numpy as np
from numba import njit

from intrinsic_cli.projections.compiled import cached_njit
from intrinsic_cli.projections.draws import GOLDEN, MIX1, MIX2

_U_GOLDEN, _U_MIX1, _U_MIX2 = np.uint64(GOLDEN), np.uint64(MIX1), np.uint64(MIX2)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@njit(nogil=True, inline="always")
def word(key, counter):
    """The 64-bit draw `counter` (uint64) of the stream `key` (uint64)."""
    z = key + (counter + np.uint64(1)) * _U_GOLDEN
    z = (z ^ (z >> _S30)) * _U_MIX1
    z = (z ^ (z >> _S27)) * _U_MIX2
    return z ^ (z >> _S31)


@cached_njit(nogil=True)
def draw_normals(key, table, first, out):
    """Fill `out` (int16) with the normal draws `first`, `first` + 1, …; both lengths are multiples of 4."""
    for i in range(out.shape[0] >> 2):
        bits = word(key, np.uint64((first >> 2) + i))
        out[4 * i] = table[np.uint16(bits)]
        out[4 * i + 1] = table[np.uint16(bits >> np.uint64(16))]
        out[4 * i + 2] = table[np.uint16(bits >> _S32)]
        out[4 * i + 3] = table[np.uint16(bits >> np.uint64(48))]


@njit(nogil=True, inline="always")
def flip(buffer, key, first):
    """Multiply `buffer` by the ±1 draws `first`, …: bit i mod 64 of word i // 64, a set bit for −1.

    `first` is a multiple of 64.
    """
    for start in range(0, buffer.shape[0], 64):
        bits = word(key, np.uint64((first + start) >> 6))
        part = buffer[start : start + 64]
        for i in range(part.shape[0]):
            if (bits >> np.uint64(i)) & np.uint64(1):
                part[i] = -part[i]
