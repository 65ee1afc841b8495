"""Random numbers by counting: draw i of a stream is a hash of (key, i), the same on every device.

The hash is SplitMix64 (Steele, Lea, Flood 2014): 64-bit integer arithmetic that wraps, so that compiled loops
and torch's int64 on any device agree bit for bit. No generator with a state is involved, so any slice of a
stream can be drawn alone. N(0,1) comes from a table of 65,536 quantiles held as 16-bit fixed point.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.special import ndtri

_MASK = (1 << 64) - 1
GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

# A normal draw g is the int16 number g · NORMAL_ONE.
NORMAL_ONE = 4096
# Each kind of random number of a projection has its own stream.
STREAM_NORMAL, STREAM_SHIFT, STREAM_SIGN, STREAM_SIGN2, STREAM_PERMUTATION, STREAM_GAP = range(1, 7)


def key(seed: int, stream: int) -> int:
    """The 64-bit key of a stream: the second SplitMix64 output, counted from the first of `seed`."""
    return _word(_word(seed, 0), stream)


def _word(start: int, counter: int) -> int:
    z = (start + (counter + 1) * GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * MIX1) & _MASK
    z = ((z ^ (z >> 27)) * MIX2) & _MASK
    return z ^ (z >> 31)


def words(key: int, counters: torch.Tensor) -> torch.Tensor:
    """The 64-bit draws `counters` (int64) of the stream `key`, on their device; the bits are held as int64."""

    def signed(value: int) -> int:
        return value - (1 << 64) if value >> 63 else value

    def shifted(z: torch.Tensor, bits: int) -> torch.Tensor:
        return (z >> bits) & ((1 << (64 - bits)) - 1)  # int64 has no logical shift

    z = (counters + 1) * signed(GOLDEN) + signed(key)
    z = (z ^ shifted(z, 30)) * signed(MIX1)
    z = (z ^ shifted(z, 27)) * signed(MIX2)
    return z ^ shifted(z, 31)


@lru_cache(maxsize=1)
def normal_table() -> np.ndarray:
    """(65536,) int16: the midpoint quantiles of N(0,1), scaled to unit variance, times `NORMAL_ONE`."""
    quantiles = ndtri((np.arange(65536) + 0.5) / 65536)
    return np.rint(quantiles / quantiles.std() * NORMAL_ONE).astype(np.int16)


@lru_cache(maxsize=8)
def table_on(device: torch.device) -> torch.Tensor:
    """`normal_table` on `device`."""
    return torch.from_numpy(normal_table()).to(device)


def normals(key: int, first: int, count: int, device: torch.device) -> torch.Tensor:
    """(count,) int16 on `device`: the normal draws `first`, …; both numbers are multiples of 4.

    A word is four of them, the lowest 16 bits first.
    """
    bits = words(key, torch.arange(first >> 2, (first + count) >> 2, device=device))
    fields = bits[:, None] >> torch.tensor([0, 16, 32, 48], device=device) & 0xFFFF
    return table_on(device)[fields].flatten()


def signs(key: int, first: int, count: int, device: torch.device) -> torch.Tensor:
    """(count,) int8 of ±1 on `device`: the draws `first`, …, where `first` is a multiple of 64.

    Draw i is bit i mod 64 of word i // 64, a set bit for −1.
    """
    bits = words(key, torch.arange(first >> 6, (first + count + 63) >> 6, device=device))
    bits = bits[:, None] >> torch.arange(64, device=device) & 1
    return (1 - 2 * bits).to(torch.int8).flatten()[:count]


def permutation(key: int, n: int) -> torch.Tensor:
    """(n,) int64 on the CPU: a Fisher-Yates shuffle of 0 … n − 1."""
    high = words(key, torch.arange(n)) >> 32 & 0xFFFFFFFF
    # The high word of a 32 × 32 bit product is uniform on 0 … i to within 2⁻³² · n.
    partners = (high * torch.arange(1, n + 1) >> 32).tolist()
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = partners[i]
        order[i], order[j] = order[j], order[i]
    return torch.tensor(order)
