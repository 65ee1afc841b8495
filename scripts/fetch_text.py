"""English prose out of Debian packages, for pre-training: FOLDER/PACKAGE.txt, one sentence a line."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from tqdm import tqdm

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“(])")
SHARE_OF_LETTERS = 0.9  # of the characters that are not spaces; code and tables have fewer
FEWEST_WORDS = 5


class _Paragraphs(HTMLParser):
    """The text of each <p>, what stands inside <code> and links included."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "p":
            self.found.append("")
        self._open = tag == "p" or (self._open and tag not in ("pre", "table", "div", "ul", "dl"))

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.found[-1] += data


def of_html(page: str) -> Iterator[str]:
    """The sentences of a page's paragraphs."""
    parser = _Paragraphs()
    parser.feed(page)
    for paragraph in parser.found:
        yield from SENTENCE_END.split(" ".join(paragraph.replace("¶", "").split()))


def of_wordnet(data: str) -> Iterator[str]:
    """WordNet's definitions and examples: what follows the bar of a line of data.noun (wndb(5WN))."""
    for line in data.splitlines():
        _, bar, gloss = line.partition(" | ")
        if bar:
            yield from (part.strip(' ";') for part in re.split(r";\s*(?=\")|(?<=\");", gloss))


@dataclass(frozen=True)
class Source:
    """A package, the files of it that are read, and its licence."""

    package: str
    files: str
    sentences: Callable[[str], Iterator[str]]
    licence: str


SOURCES = (
    Source("wordnet-base", r"/wordnet/data\.", of_wordnet, "WordNet 3.0 (permissive)"),
    Source("python3.11-doc", r"/html/(library|howto|tutorial|faq|reference|whatsnew)/.*\.html$", of_html, "PSF"),
    Source("postgresql-doc-15", r"/html/.*\.html$", of_html, "PostgreSQL (permissive)"),
)  # fmt: skip


def prose(sentence: str) -> bool:
    """Whether a line reads as a sentence and not as code or a table."""
    letters = [c for c in sentence if not c.isspace()]
    readable = sum(c.isalpha() or c in ",.'’" for c in letters)
    return len(sentence.split()) >= FEWEST_WORDS and readable >= SHARE_OF_LETTERS * len(letters)


def read(archive: bytes, source: Source) -> list[str]:
    """The sentences of a package, each once, in the order of its files' names. `archive` is its tar."""
    wanted = re.compile(source.files)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = sorted((m for m in tar if m.isfile() and wanted.search(m.name)), key=lambda m: m.name)
        pages = [tar.extractfile(m).read().decode("utf-8", "replace") for m in tqdm(members, disable=None)]  # type: ignore[union-attr]
    return list(dict.fromkeys(s for page in pages for s in source.sentences(page) if prose(s)))


def main(words: list[str]) -> int:
    """Fetch all packages into a folder; a file that is there stays."""
    folder = Path(words[0] if words else "models/text")
    folder.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        path = folder / f"{source.package}.txt"
        if path.exists():
            continue
        with tempfile.TemporaryDirectory() as at:
            subprocess.run(
                ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", source.package],
                cwd=at,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            (package,) = Path(at).glob("*.deb")
            version = subprocess.check_output(["dpkg-deb", "-f", package, "Version"], text=True).strip()
            archive = subprocess.check_output(["dpkg-deb", "--fsys-tarfile", package])
        sentences = read(archive, source)
        told = {"package": source.package, "version": version, "licence": source.licence}
        path.with_suffix(".json").write_text(json.dumps(told) + "\n", "utf-8")
        path.write_text("\n".join(sentences) + "\n", "utf-8")
        print(f"{path}: {len(sentences)} sentences of {source.package} {version}, {source.licence}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
