"""Every projection again, as a dense float64 matrix built from its definition by slow, separate code.

Python integers for the hash, the standard library's normal quantiles and logarithm, explicit Hadamard,
permutation and diagonal matrices. Nothing is imported from the package under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from statistics import NormalDist

import numpy as np
from scipy.linalg import hadamard

NORMAL, SHIFT, SIGN, SIGN2, PERMUTATION, GAP = 1, 2, 3, 4, 5, 6


def splitmix64(seed: int, i: int) -> int:
    """Output number i (from 0) of SplitMix64 started with `seed`, as its reference C code has it."""
    z = (seed + 0x9E3779B97F4A7C15 * (i + 1)) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def word(seed: int, stream: int, i: int) -> int:
    """Draw i of a stream: three SplitMix64 in a chain, for seed, stream and counter."""
    return splitmix64(splitmix64(splitmix64(seed, 0), stream), i)


@cache
def quantiles() -> list[int]:
    """The 65,536 midpoint quantiles of N(0, 1), scaled to variance 1, in units of 1/4096."""
    raw = [NormalDist().inv_cdf((i + 0.5) / 65536) for i in range(65536)]
    deviation = math.sqrt(math.fsum(q * q for q in raw) / 65536)
    return [round(q / deviation * 4096) for q in raw]


def normal(seed: int, i: int) -> float:
    return quantiles()[word(seed, NORMAL, i // 4) >> (16 * (i % 4)) & 0xFFFF] / 4096


def sign(seed: int, stream: int, i: int) -> int:
    return -1 if word(seed, stream, i // 64) >> (i % 64) & 1 else 1


def block_size(d: int) -> int:
    n = 16
    while n < d:
        n *= 2
    return n


def permutation(n: int) -> list[int]:
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = (word(n, PERMUTATION, i) >> 32) * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    return order


@cache
def gains(D: int, n: int, k: int, seed: int, version: int) -> list[float]:
    """The n numbers g of block k of fastfood."""
    rows = min(n, D - k * n)
    if version == 3 and rows < n:
        return [sign(seed, SIGN, k * n + i) for i in range(n)]
    period = max(4096, 4 * block_size(rows)) if version == 2 and rows < n else n
    if period >= n:
        return [normal(seed, k * n + i) for i in range(n)]
    return [normal(seed, k * n + i % period) * sign(seed, SIGN, k * n // 16 + i // 16) for i in range(n)]


def fastfood(D: int, d: int, seed: int, version: int = 3) -> np.ndarray:
    n = block_size(d)
    return _permuted_blocks(D, d, seed, lambda k: gains(D, n, k, seed, version))


def signs(D: int, d: int, seed: int) -> np.ndarray:
    n = block_size(d)
    return _permuted_blocks(D, d, seed, lambda k: [sign(seed, SIGN, k * n + i) for i in range(n)])


def _permuted_blocks(D: int, d: int, seed: int, diagonal: Callable[[int], list[float]]) -> np.ndarray:
    n = block_size(d)
    assert n <= 4096  # so that a matrix can be held
    H = hadamard(n).astype(float)
    B = np.diag([sign(n, SIGN, i) for i in range(n)])
    Pi = np.eye(n)[permutation(n)]
    blocks = []
    for k in range(-(-D // n)):
        shift = word(seed, SHIFT, k) % (n // 16) * 16
        G = np.diag(diagonal(k))
        blocks.append(H @ G @ np.roll(Pi, -shift, axis=0) @ H @ B)
    return np.vstack(blocks)[:D, :d] / math.sqrt(n * D)


def fastfood_rows(rows: Iterable[int], D: int, seed: int, version: int, theta: np.ndarray) -> np.ndarray:
    """(P θ)[rows] of fastfood for a P that is too large for a matrix."""
    n = block_size(len(theta))
    padded = np.zeros(n)
    padded[: len(theta)] = theta
    padded *= [sign(n, SIGN, i) for i in range(n)]
    places = np.arange(n, dtype=np.uint32)
    mixed = padded.reshape([2] * (n.bit_length() - 1))
    for axis in range(mixed.ndim):
        a, b = mixed.take(0, axis), mixed.take(1, axis)
        mixed = np.stack((a + b, a - b), axis)
    mixed = mixed.reshape(n)[permutation(n)]
    result = []
    for row in rows:
        k, a = divmod(row, n)
        signs = 1.0 - 2.0 * (np.bitwise_count(places & a) & 1)
        turned = np.roll(mixed, -(word(seed, SHIFT, k) % (n // 16) * 16))
        result.append(np.sum(signs * gains(D, n, k, seed, version) * turned))
    return np.array(result) / math.sqrt(n * D)


def sorf(D: int, d: int, seed: int) -> np.ndarray:
    n = block_size(d)
    H = hadamard(n).astype(float)
    words = max(n // 64, 1)  # each block starts at a new word
    D3 = np.diag([sign(n, SIGN, i) for i in range(n)])
    blocks = []
    for k in range(-(-D // n)):
        D1 = np.diag([sign(seed, SIGN, 64 * words * k + i) for i in range(n)])
        D2 = np.diag([sign(seed, SIGN2, 64 * words * k + i) for i in range(n)])
        blocks.append(H @ D1 @ H @ D2 @ H @ D3)
    return np.vstack(blocks)[:D, :d] / (n * math.sqrt(D))


def dense(D: int, d: int, seed: int) -> np.ndarray:
    width = (d + 3) // 4 * 4
    return np.array([[normal(seed, a * width + j) for j in range(d)] for a in range(D)]) / math.sqrt(D)


def sparse(D: int, d: int, seed: int) -> np.ndarray:
    p = 1 / math.sqrt(D)
    P = np.zeros((D, d))
    for block, first in enumerate(range(0, D, 1024)):
        entries = P[first : first + 1024].reshape(-1)  # row by row
        place, count = -1, 0
        while True:
            bits = word(seed, GAP, block * 2**40 + count)
            u = ((bits >> 11) + 1) / 2**53
            place += 1 + (int(math.log(u) / math.log(1 - p)) if D > 1 else 0)
            if place >= len(entries):
                break
            entries[place] = -1 if bits & 1 else 1
            count += 1
    return P / math.sqrt(p * D)


MATRICES = {"fastfood": fastfood, "sorf": sorf, "dense": dense, "sparse": sparse, "signs": signs}
