"""scripts/fetch-text: which sentences of a Debian package are kept, on an archive and pages written here."""

from __future__ import annotations

import io
import tarfile

import pytest
from support.scripts import load


@pytest.fixture(scope="module")
def script():
    return load("fetch_text")


PAGE = """<html><body><h1>A heading of several words here</h1>
<p>The <code>open</code> call
returns a file. It raises an error if the file is missing.</p>
<div>Nothing that stands outside a paragraph is read.</div>
<p>Short words.<pre>for i in range(10): print(i)</pre></p></body></html>"""
WORDNET = """  1 This line belongs to the licence, and has no bar.
00001740 03 n 01 entity 0 000 | that which is known to be; "the entity that she saw is real"; "two of them came by"
"""


def test_a_page_gives_the_sentences_of_its_paragraphs_without_code(script):
    assert list(script.of_html(PAGE)) == [
        "The open call returns a file.",
        "It raises an error if the file is missing.",
        "Short words.",
    ]


def test_wordnet_gives_definitions_and_examples(script):
    assert list(script.of_wordnet(WORDNET)) == [
        "that which is known to be",
        "the entity that she saw is real",
        "two of them came by",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("It raises an error if the file is missing.", True),
        ("Too few words here.", False),
        ("x = f(a[0]) + g(b[1]) * 2 ** (n - 1)", False),
        ("", False),
    ],
)
def test_prose_is_told_from_code(script, line, kept):
    assert script.prose(line) == kept


def test_a_package_is_read_in_the_order_of_its_files_and_each_sentence_once(script):
    pages = {
        "./usr/html/b.html": "<p>The second page has this sentence alone.</p>",
        "./usr/html/a.html": "<p>Both pages say this very sentence. The first page says this too.</p>",
        "./usr/html/c.txt": "<p>This file does not match the pattern.</p>",
        "./usr/html/d.html": "<p>Both pages say this very sentence.</p>",
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, text in pages.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    source = script.Source("some-doc", r"\.html$", script.of_html, "none")
    assert script.read(file.getvalue(), source) == [
        "Both pages say this very sentence.",
        "The first page says this too.",
        "The second page has this sentence alone.",
    ]
