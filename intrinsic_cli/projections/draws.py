"""Random numbers by counting: draw i of a stream is a hash of (key, i), the same on every device.

The hash is SplitMix64 (Steele, Lea, Flood 2014): 64-bit integer arithmetic that wraps, so that numba on the
CPU and torch's int64 on any device agree bit for bit. No generator with a state is involved, so any slice
of a stream can be drawn alone. N(0,1) comes from a table of 65,536 quantiles held as 16-bit fixed point.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numba import njit
from scipy.special import ndtri

from intrinsic_cli.projections.compiled import cached_njit

_MASK = (1 << 64) - 1
_GOLDEN, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_U_GOLDEN, _U_MIX1, _U_MIX2 = np.uint64(_GOLDEN), np.uint64(_MIX1), np.uint64(_MIX2)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)

# A normal draw g is the int16 number g · NORMAL_ONE.
NORMAL_ONE = 4096
# Each kind of random number of a projection has its own stream.
STREAM_NORMAL, STREAM_SHIFT, STREAM_SIGN, STREAM_SIGN2, STREAM_PERMUTATION, STREAM_GAP = range(1, 7)


def key(seed: int, stream: int) -> int:
    """The 64-bit key of a stream: the second SplitMix64 output, counted from the first of `seed`."""
    return _word(_word(seed, 0), stream)


def _word(start: int, counter: int) -> int:
    z = (start + (counter + 1) * _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * _MIX1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX2) & _MASK
    return z ^ (z >> 31)


@njit(nogil=True, inline="always")
def word(key, counter):
    """The 64-bit draw `counter` (uint64) of the stream `key` (uint64)."""
    z = key + (counter + np.uint64(1)) * _U_GOLDEN
    z = (z ^ (z >> _S30)) * _U_MIX1
    z = (z ^ (z >> _S27)) * _U_MIX2
    return z ^ (z >> _S31)


def torch_words(key: int, counters: torch.Tensor) -> torch.Tensor:
    """`word` for an int64 tensor of counters, on its device; the 64 bits are held as int64."""

    def signed(value: int) -> int:
        return value - (1 << 64) if value >> 63 else value

    def shifted(z: torch.Tensor, bits: int) -> torch.Tensor:
        return (z >> bits) & ((1 << (64 - bits)) - 1)  # int64 has no logical shift

    z = (counters + 1) * signed(_GOLDEN) + signed(key)
    z = (z ^ shifted(z, 30)) * signed(_MIX1)
    z = (z ^ shifted(z, 27)) * signed(_MIX2)
    return z ^ shifted(z, 31)


@lru_cache(maxsize=1)
def normal_table() -> np.ndarray:
    """(65536,) int16: the midpoint quantiles of N(0,1), scaled to unit variance, times `NORMAL_ONE`."""
    quantiles = ndtri((np.arange(65536) + 0.5) / 65536)
    return np.rint(quantiles / quantiles.std() * NORMAL_ONE).astype(np.int16)


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


def torch_normals(key: int, first: int, count: int, device: torch.device) -> torch.Tensor:
    """(count,) int16 on `device`: the same integers as `draw_normals`."""
    table = torch.from_numpy(normal_table()).to(device)
    words = torch_words(key, torch.arange(first >> 2, (first + count) >> 2, device=device))
    fields = words[:, None] >> torch.tensor([0, 16, 32, 48], device=device) & 0xFFFF
    return table[fields].flatten()


def torch_signs(key: int, first: int, count: int, device: torch.device) -> torch.Tensor:
    """(count,) int8 of ±1 on `device`: the signs that `flip` multiplies by."""
    words = torch_words(key, torch.arange(first >> 6, (first + count + 63) >> 6, device=device))
    bits = words[:, None] >> torch.arange(64, device=device) & 1
    return (1 - 2 * bits).to(torch.int8).flatten()[:count]


def permutation(key: int, n: int) -> torch.Tensor:
    """(n,) int64 on the CPU: a Fisher-Yates shuffle of 0 … n − 1."""
    return torch.from_numpy(_shuffle(np.uint64(key), n))


@cached_njit()
def _shuffle(key, n):
    order = np.arange(n)
    for i in range(n - 1, 0, -1):
        # The high word of a 32 × 32 bit product is uniform on 0 … i to within 2⁻³² · n.
        j = np.int64((word(key, np.uint64(i)) >> _S32) * np.uint64(i + 1) >> _S32)
        order[i], order[j] = order[j], order[i]
    return order
