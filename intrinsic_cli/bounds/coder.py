"""A quantised tensor in self-delimiting bits, to within two bits of the best that its counts allow, and back.

    δ          K − 1 (δ is Elias's delta code of n + 1, so that 0 can be written)
    1 bit      even K only: 1 where the codebook is mirrored, −c and c
    15 or 16   a float16 for each level, ascending; of a mirrored codebook its positive half, without signs
    δ          d − 1
    1 bit      K > 1 only: 0 uniform, 1 counted
    uniform    ⌈log2 K⌉ bits for each symbol
    counted    which of the C(d + K − 1, K − 1) tables of counts, then which of the d! / Πcₖ! rows that have
               these counts, each as one integer of fixed width (enumerative coding, Cover, IEEE Trans. IT 19, 1973)

No code is the beginning of another, so 2^-bits sums to at most one: it is a prior, which theory.py needs. The
integers are exact, so there is neither the end of an arithmetic coder to pay for nor a rounding to agree on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.bounds.quantise import MAX_D, MAX_LEVELS
from intrinsic_cli.errors import DataError

LEVEL_BITS = 16


def write(symbols: NDArray[np.integer], codebook: NDArray[np.float16]) -> dict[str, str]:
    """The bits, as text of 0 and 1, of symbols (d,) in 0…K−1 and an ascending codebook (K,) float16, in three
    parts that belong one behind the other: `codebook`, `d`, `symbols`. Raises DataError at what has no code."""
    symbols, codebook = np.asarray(symbols), np.asarray(codebook)
    _check(symbols, codebook)
    levels = codebook.size
    half = levels // 2
    mirrored = levels % 2 == 0 and codebook[half] > 0 and np.array_equal(codebook, -codebook[::-1])
    told = codebook[half:] if mirrored else codebook
    flag = "" if levels % 2 else str(int(mirrored))
    width = LEVEL_BITS - mirrored
    return {
        "codebook": delta(levels - 1) + flag + "".join(fixed(int(x), width) for x in told.view(np.uint16)),
        "d": delta(symbols.size - 1),
        "symbols": _write_symbols(symbols.tolist(), levels) if levels > 1 else "",
    }


def read(bits: Reader) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """The inverse of `write`: symbols (d,) and codebook (K,), taken off the front of `bits`.

    Raises DataError unless these bits are what `write` gives for the result. Damage that turns one code into
    another can't be seen from here: a checksum belongs to the file around it.
    """
    start = bits.at
    levels = bits.number() + 1
    if levels > MAX_LEVELS:
        raise DataError(f"the message is corrupt: {levels} levels where {MAX_LEVELS} is the most")
    mirrored = levels % 2 == 0 and bits.take(1) == 1
    width = LEVEL_BITS - mirrored
    raw = [bits.take(width) for _ in range(levels // 2 if mirrored else levels)]
    codebook = np.array(raw, dtype=np.uint16).view(np.float16)
    if mirrored:
        codebook = np.concatenate([-codebook[::-1], codebook])
    d = bits.number() + 1
    if d > MAX_D:
        raise DataError(f"the message is corrupt: d={d} where {MAX_D} is the most")
    symbols = np.array(_read_symbols(bits, d, levels) if levels > 1 else [0] * d, dtype=np.uint8)
    # The code is one-to-one, so writing the result again finds every kind of damage that can be found.
    if "".join(write(symbols, codebook).values()) != bits.text[start : bits.at]:
        raise DataError("the message is corrupt: its content, written again, gives other bits")
    return symbols, codebook


def _check(symbols: NDArray[Any], codebook: NDArray[Any]) -> None:
    if codebook.dtype != np.float16 or codebook.ndim != 1 or not 1 <= codebook.size <= MAX_LEVELS:
        raise DataError(f"a codebook {codebook.dtype}{codebook.shape} must be 1 to {MAX_LEVELS} float16")
    if not np.isfinite(codebook).all() or (np.diff(codebook.astype(np.float64)) <= 0).any():
        raise DataError("the codebook must be finite and ascending, without equal levels")
    if symbols.ndim != 1 or not 1 <= symbols.size <= MAX_D or symbols.dtype.kind not in "iu":
        raise DataError(f"symbols {symbols.dtype}{symbols.shape} must be one row of 1 to {MAX_D} integers")
    if symbols.min() < 0 or symbols.max() >= codebook.size:
        raise DataError(
            f"symbols reach {symbols.min()} to {symbols.max()}; the codebook has {codebook.size} levels"
        )


def _write_symbols(symbols: list[int], levels: int) -> str:
    """The shorter of both codes, with its flag."""
    d, width = len(symbols), (levels - 1).bit_length()
    counts = np.bincount(symbols, minlength=levels).tolist()
    tables, rows = math.comb(d + levels - 1, levels - 1), _multinomial(counts)
    if d * width <= _width(tables) + _width(rows):
        return "0" + "".join(fixed(symbol, width) for symbol in symbols)
    return "1" + fixed(_rank_counts(counts), _width(tables)) + fixed(_rank(symbols, counts), _width(rows))


def _read_symbols(bits: Reader, d: int, levels: int) -> list[int]:
    if not bits.take(1):
        width = (levels - 1).bit_length()
        return [bits.take(width) for _ in range(d)]
    tables = math.comb(d + levels - 1, levels - 1)
    counts = _counts_at(_below(bits.take(_width(tables)), tables), d, levels)
    rows = _multinomial(counts)
    return _row_at(_below(bits.take(_width(rows)), rows), counts)


def _multinomial(counts: Sequence[int]) -> int:
    """How many rows have these counts: d! / Πcₖ!."""
    totals = accumulate(counts)
    return math.prod(math.comb(total, count) for total, count in zip(totals, counts, strict=True))


def _rank_counts(counts: Sequence[int]) -> int:
    """The number of a table of counts among all of its sum and length: K − 1 bars among d + K − 1 places, in
    the combinatorial number system."""
    bars = [total + i for i, total in enumerate(accumulate(counts[:-1]))]
    return sum(math.comb(bar, i + 1) for i, bar in enumerate(bars))


def _counts_at(rank: int, d: int, levels: int) -> list[int]:
    """The inverse of `_rank_counts`."""
    bars, place = [], d + levels - 2
    for i in range(levels - 1, 0, -1):
        low, high = i - 1, place  # the largest bar with C(bar, i) ≤ rank
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if math.comb(middle, i) <= rank else (low, middle - 1)
        rank -= math.comb(low, i)
        bars.append(low)
        place = low - 1
    edges = [-1, *reversed(bars), d + levels - 1]
    return [edges[i + 1] - edges[i] - 1 for i in range(levels)]


def _rank(symbols: Sequence[int], counts: Sequence[int]) -> int:
    """The number of a row among all that have its counts, in lexical order."""
    left, rows, rank = list(counts), _multinomial(counts), 0
    for n, symbol in zip(range(len(symbols), 0, -1), symbols, strict=True):
        rank += rows * sum(left[:symbol]) // n
        rows = rows * left[symbol] // n
        left[symbol] -= 1
    return rank


def _row_at(rank: int, counts: Sequence[int]) -> list[int]:
    """The inverse of `_rank`."""
    left, rows, row = list(counts), _multinomial(counts), []
    for n in range(sum(counts), 0, -1):
        place, symbol = rank * n // rows, 0
        while place >= left[symbol]:
            place -= left[symbol]
            symbol += 1
        rank -= rows * sum(left[:symbol]) // n
        rows = rows * left[symbol] // n
        left[symbol] -= 1
        row.append(symbol)
    return row


def _width(options: int) -> int:
    """Bits of a number below `options`."""
    return (options - 1).bit_length()


def _below(rank: int, options: int) -> int:
    if rank >= options:
        raise DataError("the message is corrupt: a number in it is beyond the last that has a meaning")
    return rank


def fixed(number: int, width: int) -> str:
    """The number in `width` binary digits; nothing where width is 0."""
    return format(number, f"0{width}b") if width else ""


def delta(number: int) -> str:
    """Elias's delta code of number + 1: the length of its length in unary, its length, its digits."""
    digits = format(number + 1, "b")
    length = format(len(digits), "b")
    return "0" * (len(length) - 1) + length + digits[1:]


def packed(bits: str) -> bytes:
    """Bits, padded with zeros to whole bytes."""
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big")


class Reader:
    """Takes numbers off the front of a message."""

    def __init__(self, message: bytes) -> None:
        self.text, self.at = "".join(f"{byte:08b}" for byte in message), 0

    def take(self, count: int) -> int:
        """The next `count` bits as an integer. Raises DataError where fewer are left."""
        if self.at + count > len(self.text):
            raise DataError(
                f"the message is cut short: bit {self.at + count} of {len(self.text)} was asked for"
            )
        self.at += count
        return int(self.text[self.at - count : self.at] or "0", 2)

    def number(self) -> int:
        """The next integer in Elias's delta code. Raises DataError where the message can't hold it."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if 1 << zeros > len(self.text):  # of a length that no message has, and no memory
                raise DataError("the message is corrupt: a number of more digits than the message has")
        digits = (1 << zeros | self.take(zeros)) - 1
        return (1 << digits | self.take(digits)) - 1

    def finish(self) -> None:
        """Raise DataError unless fewer than eight zeros are left."""
        rest = self.text[self.at :]
        if len(rest) >= 8 or "1" in rest:
            raise DataError(f"the message is corrupt: {len(rest)} bits are left behind its end")
