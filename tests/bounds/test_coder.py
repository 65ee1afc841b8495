"""The code of θ: round trips, lengths against entropy and hand arithmetic, damage."""

import math
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intrinsic_cli.bounds.coder import CODERS, decode, description_bits, encode
from intrinsic_cli.bounds.quantise import quantise
from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.spec import stream_seed

coding = pytest.mark.skipif(
    find_spec("constriction") is None, reason="needs constriction, the extra [bounds]"
)
LEVELS = np.array([-0.5, 0, 0.25, 1], dtype=np.float16)


@st.composite
def inputs(draw):
    levels = draw(st.sampled_from([1, 2, 3, 8, 300]))
    symbols = draw(st.lists(st.integers(0, levels - 1), min_size=1, max_size=60))
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    start = draw(st.integers(-300, 0))
    codebook = (np.arange(start, start + levels) / 8).astype(dtype)
    choices = draw(st.lists(st.integers(0, 2**63), max_size=4))
    return np.array(symbols), codebook, tuple(choices), draw(st.sampled_from(CODERS))


def to_bits(arguments):
    return "".join(f"{byte:08b}" for byte in encode(*arguments))[: description_bits(*arguments)]


def from_bits(bits):
    size = math.ceil(len(bits) / 8)
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size)


def entropy(symbols):
    """Bits of the symbols at their empirical frequencies: d·H."""
    counts = np.unique(symbols, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


@coding
@settings(max_examples=200, deadline=None)
@given(inputs())
def test_round_trip(arguments):
    symbols, codebook, choices, _ = arguments
    got, levels, others = decode(encode(*arguments))
    assert got.tolist() == symbols.tolist()
    assert got.dtype == (np.uint8 if codebook.size <= 256 else np.uint16)
    assert levels.dtype == codebook.dtype
    assert levels.tobytes() == codebook.tobytes()
    assert others == choices


@coding
@settings(max_examples=100, deadline=None)
@given(inputs())
def test_bits_are_the_message_without_its_padding(arguments):
    bits = description_bits(*arguments)
    message = encode(*arguments)
    assert len(message) == math.ceil(bits / 8)
    assert bits >= entropy(arguments[0]) + 8 * arguments[1].nbytes


@coding
@settings(max_examples=200, deadline=None)
@given(inputs(), inputs())
def test_no_message_begins_another(one, two):
    same = all(np.array_equal(x, y) for x, y in zip(one, two, strict=True)) and one[1].dtype == two[1].dtype
    assert same or not to_bits(two).startswith(to_bits(one))


@coding
def test_header_by_hand():
    one = np.zeros(1, dtype=np.uint8), np.zeros(1, dtype=np.float16)
    # Two flags, no choices 1, K 1, one level 16, d 1, no words 1.
    assert description_bits(*one) == 2 + 1 + 1 + 16 + 1 + 1
    # Two choices: δ(3) = 0 10 1; 3: δ(4) = 0 11 00; 0: δ(1) = 1.
    assert encode(*one, (3, 0)) == from_bits("00 0101 01100 1 1 0000000000000000 1 1".replace(" ", ""))


@coding
@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize(("d", "levels"), [(200, 8), (3000, 64)])
def test_symbols_cost_what_the_model_says(coder, d, levels):
    """Against closed forms: Krichevsky-Trofimov's Γ formula, and log2 of the multinomial coefficient."""
    symbols, codebook = quantise(np.random.default_rng(stream_seed(0, "cost")).standard_normal(d), levels)
    counts = np.bincount(symbols, minlength=levels).tolist()
    if coder == "adaptive":
        nats = math.lgamma(d + levels / 2) - math.lgamma(levels / 2)
        nats -= sum(math.lgamma(count + 0.5) - math.lgamma(0.5) for count in counts)
        table = 0
    else:
        nats = math.lgamma(d + 1) - sum(math.lgamma(count + 1) for count in counts)
        table = sum(elias_delta(count + 1) for count in counts[:-1])
    header = 2 + elias_delta(1) + elias_delta(levels) + levels * 16 + elias_delta(d) + table
    payload = description_bits(symbols, codebook, coder=coder) - header
    words = next(w for w in range(d) if elias_delta(w + 1) + 32 * w == payload)
    assert 0 <= 32 * words - nats / math.log(2) <= 64, "a range coder ends on at most two words of its own"


def elias_delta(number):
    """Length in bits, by its formula (Elias 1975)."""
    log = number.bit_length() - 1
    return log + 2 * ((log + 1).bit_length() - 1) + 1


@coding
def test_skewed_symbols_cost_less_than_even_ones():
    even = np.tile(np.arange(4), 500)
    skewed = np.where(np.arange(2000) % 20 == 0, even, 1)
    assert description_bits(skewed, LEVELS) < 0.35 * description_bits(even, LEVELS)


@coding
@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("symbols", [[0], [0, 1, 1, 2, 1, 3] * 6])
def test_damage_is_an_error_or_another_message(coder, symbols):
    """Every flip of one bit, every cut: DataError, or a result that has just this message."""
    arguments = np.array(symbols), LEVELS, (7,), coder
    message = encode(*arguments)
    refused = 0
    for at in range(8 * len(message)):
        damaged = bytearray(message)
        damaged[at // 8] ^= 1 << at % 8
        try:
            symbols, codebook, choices = decode(bytes(damaged))
        except DataError:
            refused += 1
        else:
            assert bytes(damaged) in [encode(symbols, codebook, choices, name) for name in CODERS]
    assert refused > 0
    for broken in (b"", message[:-1], message + b"\0", b"\0" * 40):
        with pytest.raises(DataError):
            decode(broken)


@coding
def test_a_symbol_beyond_its_count_is_refused():
    arguments = np.ones(5, dtype=np.uint8), LEVELS[:2], (), "frequency"
    bits = to_bits(arguments)[:-32] + "0" * 32  # spells level 0, which was counted 0 times
    with pytest.raises(DataError, match="level 0 occurs more often"):
        decode(from_bits(bits))


@coding
def test_counts_beyond_d_are_refused():
    bits = to_bits((np.zeros(1, dtype=np.uint8), LEVELS[:2], (), "frequency"))
    count = 2 + 1 + 4 + 2 * 16 + 1  # flags, no choices, K = 2, its levels, d = 1
    assert bits[count : count + 4] == "0100"  # once
    with pytest.raises(DataError, match="2 symbols counted where d=1"):
        decode(from_bits(bits[:count] + "0101" + bits[count + 4 :]))  # twice


@coding
def test_absurd_sizes_are_refused_before_they_are_worked_on():
    # Flags, no choices, K = 1, one level, then d − 1 = 2^32 − 1 in delta code: 33 digits, 33 in 6 bits.
    bits = "00" + "1" + "1" + "0" * 16 + "00000" + format(33, "06b") + "0" * 32
    with pytest.raises(DataError, match="d=4294967296 where"):
        decode(from_bits(bits))


@coding
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([0, 4], LEVELS), DataError, "0 to 4"),
        (([0, -1], LEVELS), DataError, "-1 to 0"),
        (([0.5], LEVELS), DataError, "float64"),
        (([], LEVELS), DataError, "symbols"),
        (([0], LEVELS[::-1]), DataError, "ascending"),
        (([0], np.array([0, np.inf], np.float32)), DataError, "finite"),
        (([0], LEVELS.astype(np.float64)), DataError, "float64"),
        (([0], LEVELS, (-1,)), DataError, "-1"),
        (([0], LEVELS, (), "huffman"), ConfigError, "huffman.*adaptive, frequency"),
    ],
)
def test_what_has_no_message(arguments, error, match):
    with pytest.raises(error, match=match):
        encode(np.array(arguments[0]), *arguments[1:])
