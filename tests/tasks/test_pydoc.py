import hashlib
import subprocess
import sys
from collections import Counter

import pytest

from intrinsic_cli.errors import DataError
from intrinsic_cli.tasks import pydoc


def test_the_corpus_has_the_promised_size_and_balance():
    rows = pydoc.corpus()
    counts = Counter(area for _, area, _ in rows)
    assert set(counts) == set(pydoc.AREAS)
    assert len(counts) == 5
    assert 7000 < len(rows) < 9000
    assert 0.25 < max(counts.values()) / len(rows) < 0.32
    share = sum(is_validation for *_, is_validation in rows) / len(rows)
    assert share == pytest.approx(0.2, abs=0.02)  # 4 standard errors of a fifth of 8,000


def test_sentences_are_unique_and_of_6_to_30_words():
    texts = [text for text, _, _ in pydoc.corpus()]
    assert len(set(texts)) == len(texts)
    assert {len(text.split()) for text in texts} == set(range(6, 31))


@pytest.mark.parametrize(
    ("sentence", "area"),
    [
        ('"clear()" and "copy()" are included for consistency with the interfaces of mutable containers that '
         'don’t support slicing operations (such as "dict" and "set").', "language"),
        ("A 2 dimensional vector class, used as a helper class for implementing turtle graphics.", "gui"),
        ("Authentication is supported, using the regular SMTP mechanism.", "internet"),
        ("Acquire a semaphore, decrementing the internal counter by one.", "concurrency"),
        ("Returns the natural (base e) logarithm of self.", "numbers"),
    ],
)  # fmt: skip
def test_sentences_are_labelled_by_the_module_they_come_from(sentence, area):
    assert {text: found for text, found, _ in pydoc.corpus()}[sentence] == area


def test_splitting_keeps_sentences_and_drops_the_rest():
    text = (
        "One two three four five six. Too short here.\n"
        "This sentence runs over\n   two lines of the source.\n\n"
        "A sentence that stands beside a doctest. Call it so:\n>>> f()\n\n"
        "lower case fragments are never taken as sentences.\n\n"
        "A heading without its full stop at the end\n"
    )
    assert list(pydoc.sentences(text)) == [
        "One two three four five six.",
        "This sentence runs over two lines of the source.",
    ]


def test_a_sentence_of_two_areas_is_dropped_and_a_repeated_one_kept_once():
    both, twice, once = (f"This is a sentence that occurs {n}." for n in ("in both", "twice in one", "once"))
    assert pydoc.label({"a": [f"{both} {twice}", twice], "b": [f"{once} {both}"]}) == {
        twice: "a",
        once: "b",
    }


@pytest.mark.long
def test_it_is_the_same_in_a_process_without_docstrings():
    code = (
        "from intrinsic_cli.tasks.pydoc import corpus; import hashlib, sys;"
        "print(hashlib.sha256(repr(corpus()).encode()).hexdigest(), 'tkinter' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [
        hashlib.sha256(repr(pydoc.corpus()).encode()).hexdigest(),
        "False",
    ], done.stderr


def test_a_stripped_python_gets_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(pydoc.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(DataError, match=r"0 sentences for the area 'gui' .*tkinter.*task=custom"):
        pydoc.corpus.__wrapped__()
