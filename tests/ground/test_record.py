"""Plain trees to dataclasses and back: what fits, what is said of what does not."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic_cli.errors import StoreError
from intrinsic_cli.record import count, record


@dataclass(frozen=True)
class Part:
    name: str
    ratio: float = 0.5


@dataclass(frozen=True)
class Whole:
    part: Part
    flag: bool
    size: int | None = None
    words: tuple[str, ...] = ()
    scores: Mapping[str, float] | None = None


parts = st.builds(Part, st.text(), st.floats(allow_nan=False, allow_infinity=False))
wholes = st.builds(
    Whole, parts, st.booleans(), st.none() | st.integers(), st.lists(st.text()).map(tuple),
    st.none() | st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
)  # fmt: skip


@given(wholes)
def test_a_record_comes_back_from_its_json(whole):
    assert record(Whole, json.loads(json.dumps(asdict(whole)))) == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flag": 1}, "w.flag=1 is not true or false"),
        ({"size": True}, "w.size=true is not an integer such as 5, or null"),
        ({"size": 1.0}, "w.size=1.0 is not an integer"),
        ({"size": "4k"}, "w.size='4k' is not an integer"),
        ({"flag": None}, "w.flag=null is not true or false"),
        ({"words": "a"}, r"w.words='a' is not a list such as \[a,b\]"),
        ({"words": [1]}, "w.words=1 is not a text"),
        ({"scores": {"f1": "x"}}, "w.scores.f1='x' is not a number such as 0.5"),
        ({"part": {"name": "a", "ratio": 10**400}}, "w.part.ratio=an integer of 1,329 bits is not a number"),
        ({"part": {"name": "a", "ration": 1}}, "w.part has unknown keys .'ration'."),
        ({"part": {}}, "w.part: .*'name'"),
        ({"part": 5}, "w.part=5 is a group of keys"),
    ],
)  # fmt: skip
def test_a_record_names_the_value_that_does_not_fit(change, message):
    with pytest.raises(StoreError, match=message):
        record(Whole, {"part": {"name": "a"}, "flag": True} | change, "w", StoreError)


def test_typed_values_may_be_numbers_for_texts_and_thousands():
    whole = record(
        Whole, {"part": {"name": 5, "ratio": 1}, "flag": False, "size": "4k", "words": [1, "b"]}, typed=True
    )
    assert whole == Whole(Part("5", 1.0), False, 4000, ("1", "b"))
    assert [count(text) for text in ("1k", "1.5k", "2M", "30K")] == [1000, 1500, 2_000_000, 30_000]
    assert [count(value) for value in ("k", "1e3k", "1.23456k", 7, None)] == [
        "k",
        "1e3k",
        "1.23456k",
        7,
        None,
    ]
