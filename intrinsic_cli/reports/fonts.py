"""Fonts that have the characters of a text, whatever its script."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

OUTLINES = (b"\x00\x01\x00\x00", b"true")  # of TrueType, which alone a PDF takes whole in type 42


def families(text: str) -> tuple[list[str], frozenset[str]]:
    """Families that have the characters of `text`, matplotlib's own first, and the characters that none has."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont

    usual = findfont(FontProperties(family=rcParams["font.family"]))
    more, missing = _others(frozenset(text) - _characters(usual))
    return list(dict.fromkeys([*rcParams["font.family"], *more])), missing


@cache
def _others(missing: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """The installed families that `missing` characters come from, as few as are found in order of their names."""
    found = []
    for name, path in _installed() if missing else ():
        if has := missing & _characters(path):
            found.append(name)
            missing -= has
    return found, missing


def _installed() -> Iterator[tuple[str, str]]:
    """Name and file of every font that is neither slanted nor bold and draws its characters."""
    from matplotlib.font_manager import fontManager

    for font in sorted(fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        plain = font.style == "normal" and str(font.weight) in ("400", "normal", "regular")
        if plain and not font.name.startswith("Last Resort") and _is_truetype(Path(font.fname)):
            yield font.name, font.fname


def _is_truetype(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            kind = file.read(4)
            if kind == b"ttcf":  # a collection: its first font stands where byte 12 says
                file.seek(12)
                file.seek(int.from_bytes(file.read(4), "big"))
                kind = file.read(4)
    except OSError:  # listed once, and gone
        return False
    return kind in OUTLINES


@cache
def _characters(path: str) -> frozenset[str]:
    from matplotlib.font_manager import get_font

    return frozenset(map(chr, get_font(path).get_charmap()))
