"""The task that every Python carries: which area of Python does this sentence document?

Sentences come from the language reference (`pydoc_data.topics`) and from docstrings of the standard library.
The docstrings are read from the sources by `ast`, so nothing is imported (tkinter may be missing) and `-OO`
takes nothing away. The corpus differs a little between Python versions; the rows' fingerprint shows it.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from intrinsic_cli.errors import DataError
from intrinsic_cli.tasks.rows import validates

# Modules that only some of the supported Pythons have are skipped where they are absent.
AREAS = {
    "language": (),
    "gui": ("tkinter", "idlelib", "turtle.py"),
    "internet": (
        "email", "http", "urllib", "xml", "html", "xmlrpc", "wsgiref",
        "smtplib.py", "imaplib.py", "poplib.py", "ssl.py",
    ),
    "concurrency": (
        "asyncio", "threading.py", "_threading_local.py", "multiprocessing", "concurrent",
        "subprocess.py", "queue.py", "sched.py", "selectors.py",
    ),
    "numbers": (
        "_pydecimal.py", "decimal.py", "statistics.py", "datetime.py", "_pydatetime.py", "_strptime.py",
        "fractions.py", "numbers.py", "random.py", "calendar.py", "_pylong.py",
    ),
}  # fmt: skip
WORDS = range(6, 31)
# An area with fewer sentences than this means that its sources are not installed.
FEWEST = 200
_BOUNDARY = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'`*(])")
_SENTENCE = re.compile(r"[A-Z\"'`*(].*[.!?][\"'`*)]*")


@functools.cache
def corpus() -> tuple[tuple[str, str, bool], ...]:
    """(sentence, area, is_validation) of every sentence, in an order that is the same in every process.

    A sentence that occurs in two areas is left out. A fifth of the sentences, chosen by their hash, is for
    validation. Raises DataError when an area's sources or docstrings are missing from this Python.
    """
    unique = label({area: _texts(area) for area in AREAS})
    for area, modules in AREAS.items():
        count = sum(found == area for found in unique.values())
        if count < FEWEST:
            source = ", ".join(name.removesuffix(".py") for name in modules) or "pydoc_data.topics"
            raise DataError(
                f"task pydoc-topic: {sys.executable} has {count} sentences for the area {area!r} "
                f"(at least {FEWEST} needed); its sources or docstrings ({source}) "
                "are stripped: use a full Python or task=custom"
            )
    return tuple((sentence, unique[sentence], validates(sentence)) for sentence in sorted(unique))


def label(texts: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """The area of every sentence that occurs in the texts of one area only."""
    areas: dict[str, set[str]] = {}
    for area, some in texts.items():
        for text in some:
            for sentence in sentences(text):
                areas.setdefault(sentence, set()).add(area)
    return {sentence: found.pop() for sentence, found in areas.items() if len(found) == 1}


def sentences(text: str) -> Iterator[str]:
    """The sentences of 6 to 30 words in `text`, on one line each; doctest paragraphs are skipped."""
    for paragraph in re.split(r"\n\s*\n", text):
        if ">>>" in paragraph:
            continue
        for sentence in _BOUNDARY.split(" ".join(paragraph.split())):
            if len(sentence.split()) in WORDS and _SENTENCE.fullmatch(sentence):
                yield sentence


def _texts(area: str) -> Iterator[str]:
    if area == "language":
        try:
            from pydoc_data.topics import topics
        except ImportError:
            return
        yield from topics.values()
        return
    library = Path(sysconfig.get_path("stdlib"))
    for module in AREAS[area]:
        path = library / module
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if file.is_file() and not {"test", "tests", "idle_test"} & set(file.relative_to(library).parts):
                yield from _docstrings(file)


def _docstrings(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text
