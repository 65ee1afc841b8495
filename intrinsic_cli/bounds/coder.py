"""A quantised θ as one self-delimiting message that counts every bit a decoder needs, and back.

The message, bit by bit (δ is Elias's delta code of n + 1, so that 0 can be written):

    1 bit      coder: 0 adaptive, 1 frequency
    1 bit      codebook: 0 float16, 1 float32
    δ, δ …     how many `choices` follow, then each (seed, projection, … in an order the reader knows)
    δ          K − 1, then K levels in 16 or 32 bits each, ascending
    δ          d − 1
    δ × (K−1)  frequency only: how often each level but the last occurs
    δ          number of 32-bit words, then the words of a range coder

No message is the beginning of another, so 2^-bits sums to at most one: it is a prior, which bounds.py needs.
Both coders predict each symbol from a table of weights and move one weight after it. `adaptive` begins at ½
and adds 1 (Krichevsky and Trofimov 1981). `frequency` begins at the transmitted counts and takes 1 away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.bounds.quantise import CODEBOOKS, MAX_D, MAX_LEVELS, symbol_dtype
from intrinsic_cli.errors import ConfigError, DataError, to_install

CODERS = ("adaptive", "frequency")
WORD = 32


def encode(
    symbols: NDArray[np.integer], codebook: NDArray[Any], choices: Sequence[int] = (), coder: str = "adaptive"
) -> bytes:
    """The message of symbols (d,) in 0…K−1, an ascending codebook (K,) and further integers ≥ 0, zero-padded
    to whole bytes. Raises ConfigError at an unknown coder, DataError at an input that has no message."""
    bits = "".join(_write(symbols, codebook, choices, coder).values())
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")


def description_bits(
    symbols: NDArray[np.integer], codebook: NDArray[Any], choices: Sequence[int] = (), coder: str = "adaptive"
) -> int:
    """Length of the same message in bits, before the padding: all that a decoder needs, prefix-free."""
    return sum(bits_of_parts(symbols, codebook, choices, coder).values())


def bits_of_parts(
    symbols: NDArray[np.integer], codebook: NDArray[Any], choices: Sequence[int] = (), coder: str = "adaptive"
) -> dict[str, int]:
    """The same length part by part: `form` (both first bits), `choices`, `codebook` with K, `d`, `symbols`."""
    return {name: len(bits) for name, bits in _write(symbols, codebook, choices, coder).items()}


def decode(message: bytes) -> tuple[NDArray[Any], NDArray[Any], tuple[int, ...]]:
    """The inverse of `encode`: symbols (d,) uint8 or uint16, codebook (K,), choices.

    Raises DataError unless `message` is, bit for bit, what `encode` writes for the result. Damage that turns
    one message into another can't be seen from here: a checksum belongs to the file around it.
    """
    reader = _Reader("".join(f"{byte:08b}" for byte in message))
    coder = CODERS[reader.take(1)]
    dtype = CODEBOOKS[reader.take(1)]
    choices = tuple(reader.number() for _ in range(reader.number()))
    levels = reader.number() + 1
    if levels > MAX_LEVELS:
        raise DataError(f"the message is corrupt: {levels} levels where {MAX_LEVELS} is the most")
    size = dtype.itemsize * 8
    codebook = np.array([reader.take(size) for _ in range(levels)], dtype=f"u{dtype.itemsize}").view(dtype)
    d = reader.number() + 1
    if d > MAX_D:
        raise DataError(f"the message is corrupt: d={d} where {MAX_D} is the most")
    counts = [reader.number() for _ in range(levels - 1)] if coder == "frequency" else []
    if sum(counts) > d:
        raise DataError(f"the message is corrupt: {sum(counts)} symbols counted where d={d}")
    words = np.array([reader.take(WORD) for _ in range(reader.number())], dtype=np.uint32)
    symbols = _decompress(words, d, levels, np.array([*counts, d - sum(counts)]) if counts else None)
    # The code is one-to-one, so writing the result again finds every other kind of damage.
    if encode(symbols, codebook, choices, coder) != message:
        raise DataError("the message is corrupt: its content, written again, gives other bytes")
    return symbols, codebook, choices


def _write(
    symbols: NDArray[np.integer], codebook: NDArray[Any], choices: Sequence[int], coder: str
) -> dict[str, str]:
    symbols, codebook = np.asarray(symbols), np.asarray(codebook)
    if coder not in CODERS:
        raise ConfigError(f"coder={coder!r} is not known; use one of {', '.join(CODERS)}")
    if codebook.dtype not in CODEBOOKS or codebook.ndim != 1 or not 1 <= codebook.size <= MAX_LEVELS:
        raise DataError(
            f"a codebook {codebook.dtype}{codebook.shape} must be 1 to {MAX_LEVELS} float16 or float32"
        )
    if not np.isfinite(codebook).all() or (np.diff(codebook.astype(np.float64)) <= 0).any():
        raise DataError("the codebook must be finite and ascending, without equal levels")
    if symbols.ndim != 1 or not 1 <= symbols.size <= MAX_D or symbols.dtype.kind not in "iu":
        raise DataError(f"symbols {symbols.dtype}{symbols.shape} must be one row of 1 to {MAX_D} integers")
    if symbols.min() < 0 or symbols.max() >= codebook.size:
        raise DataError(
            f"symbols reach {symbols.min()} to {symbols.max()}; the codebook has {codebook.size} levels"
        )
    if any(choice < 0 for choice in choices):
        raise DataError(f"choices={list(choices)} must be integers of at least 0")
    size = codebook.itemsize * 8
    counts = np.bincount(symbols, minlength=codebook.size) if coder == "frequency" else None
    words = _compress(symbols, codebook.size, counts)
    counted = [] if counts is None else [_delta(int(count)) for count in counts[:-1]]
    return {
        "form": f"{CODERS.index(coder)}{CODEBOOKS.index(codebook.dtype)}",
        "choices": "".join(map(_delta, (len(choices), *choices))),
        "codebook": _delta(codebook.size - 1)
        + "".join(format(int(level), f"0{size}b") for level in codebook.view(f"u{codebook.itemsize}")),
        "d": _delta(symbols.size - 1),
        "symbols": "".join(
            [*counted, _delta(words.size), *(format(int(word), f"0{WORD}b") for word in words)]
        ),
    }


class _Weights:
    """The adaptive prediction that writer and reader share: one weight per level, moved after each symbol."""

    def __init__(self, levels: int, counts: NDArray[Any] | None) -> None:
        self.weights = np.full(levels, 0.5) if counts is None else counts.astype(np.float64)
        self.step = 1 if counts is None else -1

    def model(self) -> Any:
        # Sums of halves are exact, so every machine rounds these probabilities to the same float32.
        probabilities = (self.weights / self.weights.sum()).astype(np.float32)
        return _constriction().model.Categorical(probabilities, lazy=True)

    def move(self, symbol: int) -> None:
        self.weights[symbol] += self.step
        if self.weights[symbol] < 0:
            raise DataError(f"the message is corrupt: level {symbol} occurs more often than was counted")


def _compress(symbols: NDArray[Any], levels: int, counts: NDArray[Any] | None) -> NDArray[np.uint32]:
    encoder = _constriction().queue.RangeEncoder()
    weights = _Weights(levels, counts)
    if levels > 1:
        for symbol in symbols.tolist():
            encoder.encode(symbol, weights.model())
            weights.move(symbol)
    return encoder.get_compressed()


def _decompress(words: NDArray[np.uint32], d: int, levels: int, counts: NDArray[Any] | None) -> NDArray[Any]:
    decoder = _constriction().queue.RangeDecoder(words)
    weights = _Weights(levels, counts)
    symbols = np.zeros(d, dtype=symbol_dtype(levels))
    if levels > 1:
        for i in range(d):
            try:
                symbols[i] = decoder.decode(weights.model())
            except AssertionError as error:
                raise DataError(f"the message is corrupt at symbol {i} of {d}: {error}") from error
            weights.move(symbols[i])
    return symbols


def _delta(number: int) -> str:
    """Elias's delta code of number + 1: the length of its length in unary, its length, its digits."""
    digits = format(number + 1, "b")
    length = format(len(digits), "b")
    return "0" * (len(length) - 1) + length + digits[1:]


class _Reader:
    """Takes numbers off the front of a string of bits."""

    def __init__(self, bits: str) -> None:
        self.bits, self.at = bits, 0

    def take(self, count: int) -> int:
        """The next `count` bits as an integer. Raises DataError where fewer are left."""
        if self.at + count > len(self.bits):
            raise DataError(
                f"the message is cut short: bit {self.at + count} of {len(self.bits)} was asked for"
            )
        self.at += count
        return int(self.bits[self.at - count : self.at] or "0", 2)

    def number(self) -> int:
        """The next integer in Elias's delta code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        digits = (1 << zeros | self.take(zeros)) - 1
        return (1 << digits | self.take(digits)) - 1


def _constriction() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise ConfigError(f"coding theta needs the package constriction: {to_install('bounds')}") from error
    return constriction.stream
