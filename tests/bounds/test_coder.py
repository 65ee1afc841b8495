"""The code of θ: round trips, lengths against counting by brute force and hand arithmetic, damage."""

import math
from collections import Counter
from itertools import combinations_with_replacement, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intrinsic_cli.bounds import coder
from intrinsic_cli.bounds.coder import Reader, packed, read, write
from intrinsic_cli.errors import DataError

LEVELS = np.array([-0.5, 0, 0.25, 1], dtype=np.float16)
PAIR = np.array([-0.5, 0.5], dtype=np.float16)


@st.composite
def inputs(draw):
    levels = draw(st.sampled_from([1, 2, 3, 8, 256]))
    symbols = draw(st.lists(st.integers(0, levels - 1), min_size=1, max_size=60))
    start = draw(st.integers(-300, 0))
    codebook = np.arange(start, start + levels) / 8
    if draw(st.booleans()):
        codebook = np.arange(levels) / 4 - (levels - 1) / 8  # mirrored where K is even
    return np.array(symbols), codebook.astype(np.float16)


def text(arguments):
    return "".join(write(*arguments).values())


def elias_delta(number):
    """Length in bits of δ(number − 1), by its formula (Elias 1975)."""
    log = number.bit_length() - 1
    return log + 2 * ((log + 1).bit_length() - 1) + 1


@settings(max_examples=200, deadline=None)
@given(inputs(), st.text("01", max_size=40))
def test_round_trip_whatever_follows(arguments, rest):
    symbols, codebook = arguments
    reader = Reader(packed(text(arguments) + rest))
    got, levels = read(reader)
    assert reader.at == len(text(arguments))
    assert got.tolist() == symbols.tolist()
    assert (got.dtype, levels.dtype) == (np.uint8, np.float16)
    assert levels.tobytes() == codebook.tobytes()


@settings(max_examples=200, deadline=None)
@given(inputs(), inputs())
def test_no_code_begins_another(one, two):
    same = all(np.array_equal(x, y) for x, y in zip(one, two, strict=True))
    assert same or not text(two).startswith(text(one))


@pytest.mark.parametrize(("d", "levels"), [(1, 2), (5, 2), (4, 3), (3, 4)])
def test_all_rows_of_one_length_share_no_more_than_one(d, levels):
    """Kraft's sum over every row there is, counted one by one."""
    codebook = np.arange(levels).astype(np.float16)
    codes = [write(np.array(row), codebook)["symbols"] for row in product(range(levels), repeat=d)]
    assert len(set(codes)) == levels**d
    assert sum(2.0 ** -len(code) for code in codes) <= 1
    assert not any(a != b and b.startswith(a) for a in codes for b in codes)


def test_ranks_are_those_of_sorted_lists():
    for counts in [(3, 2), (2, 1, 2), (0, 4), (1, 1, 1, 1)]:
        rows = sorted(set(permutations([k for k, count in enumerate(counts) for _ in range(count)])))
        assert [coder._rank(row, counts) for row in rows] == list(range(len(rows)))
        assert [tuple(coder._row_at(i, counts)) for i in range(len(rows))] == rows
    for d, levels in [(4, 3), (3, 4), (6, 2), (5, 1)]:
        tables = {
            tuple(Counter(row)[k] for k in range(levels))
            for row in combinations_with_replacement(range(levels), d)
        }
        ranks = {coder._rank_counts(table): table for table in tables}
        assert sorted(ranks) == list(range(len(tables)))
        assert all(tuple(coder._counts_at(rank, d, levels)) == table for rank, table in ranks.items())


def test_a_code_by_hand():
    # K = 1: delta(0) = 1; one level; d = 1: delta(0) = 1.
    assert text((np.zeros(1, int), np.zeros(1, np.float16))) == "1" + "0" * 16 + "1"
    # K = 2: delta(1) = 0100; mirrored; 0.5 is 0 01110 0000000000; d = 3: delta(2) = 0101; uniform 1 0 1.
    assert text((np.array([1, 0, 1]), PAIR)) == "0100" + "1" + "011100000000000" + "0101" + "0101"
    # 9 zeros and a one of 10: counted. Tables 11: 9 zeros are number 9 in 4 bits; rows 10: the last but five.
    row = np.array([0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
    assert write(row, PAIR)["symbols"] == "1" + format(9, "04b") + format(4, "04b")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.sampled_from([2, 3, 8]), st.floats(0.2, 20), st.integers(0, 99))
def test_symbols_cost_what_counting_says(d, levels, skew, seed):
    draw = np.random.default_rng(seed)
    symbols = draw.choice(levels, size=d, p=draw.dirichlet([skew] * levels))
    counts = Counter(symbols.tolist())
    rows = math.factorial(d) // math.prod(math.factorial(c) for c in counts.values())
    tables = math.factorial(d + levels - 1) // math.factorial(d) // math.factorial(levels - 1)
    counted = math.ceil(math.log2(tables)) + math.ceil(math.log2(rows) - 1e-9)
    uniform = d * math.ceil(math.log2(levels))
    assert len(write(symbols, np.arange(levels).astype(np.float16))["symbols"]) == 1 + min(counted, uniform)


def test_the_whole_of_two_mirrored_levels():
    """d = 1000 signs: 4 + 1 + 15 for the levels, 16 for d, 1 + 1000 for the signs. Nothing else."""
    symbols = np.arange(1000) % 2
    assert {k: len(v) for k, v in write(symbols, PAIR).items()} == {"codebook": 20, "d": 16, "symbols": 1001}
    skewed = (np.arange(1000) % 20 == 0).astype(int)
    assert len(write(skewed, PAIR)["symbols"]) < 310


@pytest.mark.parametrize("symbols", [[0], [0, 1, 1, 2, 1, 3] * 6, [0] * 30 + [3, 1]])
@pytest.mark.parametrize("codebook", [LEVELS, np.array([-1, -0.5, 0.5, 1], np.float16)])
def test_damage_is_an_error_or_another_code(symbols, codebook):
    """Every flip of one bit, every cut: DataError, or a result that has just these bits."""
    arguments = np.array(symbols), codebook
    bits = text(arguments)
    refused = 0
    for at in range(len(bits)):
        damaged = bits[:at] + "10"[int(bits[at])] + bits[at + 1 :]
        reader = Reader(packed(damaged))
        try:
            found = read(reader)
            reader.finish()
        except DataError:
            refused += 1
        else:
            assert reader.text.startswith(text(found))  # the padding may have become content
    assert refused > 0
    for broken in (b"", packed(bits)[:-1], b"\0" * 40):
        with pytest.raises(DataError):
            read(Reader(broken))


def test_what_is_left_behind_the_end_is_damage():
    for rest in ("0" * 8, "00001"):
        reader = Reader(packed(text((np.zeros(1, int), LEVELS[:1])) + rest))
        read(reader)
        with pytest.raises(DataError, match="left behind"):
            reader.finish()


def test_numbers_beyond_their_range_are_refused():
    head = "0100" + "1" + "0" * 4 + "1" * 11 + coder.delta(9) + "1"  # K = 2, mirrored, d = 10, counted
    with pytest.raises(DataError, match="beyond"):
        read(Reader(packed(head + "1011" + "0" * 8)))  # table 11 of 11
    with pytest.raises(DataError, match="beyond"):
        read(Reader(packed(head + "1001" + "1010")))  # row 10 of 10


def test_the_longer_of_both_codes_is_refused():
    # 0 1 0 as a counted row: table 2 of 4, row 1 of 3. The uniform code is shorter, and the only one that counts.
    bits = "0100" + "1" + "011100000000000" + "0101" + "1" + "10" + "01"
    with pytest.raises(DataError, match="written again"):
        read(Reader(packed(bits)))


def test_absurd_sizes_are_refused_before_they_are_worked_on():
    bits = coder.delta(0) + "0" * 16 + coder.delta(2**32 - 1)
    with pytest.raises(DataError, match="d=4294967296 where"):
        read(Reader(packed(bits)))
    with pytest.raises(DataError, match="257 levels where"):
        read(Reader(packed(coder.delta(256) + "0" * 5000)))


@pytest.mark.parametrize("zeros", [7, 34, 38, 62, 70, 4000])
@pytest.mark.parametrize("rest", ["1" * 40, "1" + "0" * 80, ""])
def test_a_number_that_no_message_holds_is_refused_before_memory_is_taken(zeros, rest):
    with pytest.raises(DataError, match=r"corrupt|cut short"):
        Reader(packed("0" * zeros + rest)).number()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([0, 4], LEVELS), "0 to 4"),
        (([0, -1], LEVELS), "-1 to 0"),
        (([0.5], LEVELS), "float64"),
        (([], LEVELS), "symbols"),
        (([0], LEVELS[::-1]), "ascending"),
        (([0], np.array([0, np.inf], np.float16)), "finite"),
        (([0], LEVELS.astype(np.float32)), "float32"),
    ],
)
def test_what_has_no_code(arguments, match):
    with pytest.raises(DataError, match=match):
        write(np.array(arguments[0]), arguments[1])
