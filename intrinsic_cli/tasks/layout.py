"""Which files of a folder are which split, by their names alone.

A split is one file, or the numbered pieces of one. Whatever else could be meant is refused with the files'
names: a backup beside `train.csv`, two names of one split, a piece that is missing. No description that lies in
the folder (README.md, dataset_info.json) has a say, and no name is ever a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from intrinsic_cli.errors import DataError
from intrinsic_cli.paths import DATA_SUFFIXES

SPLITS = ("train", "validation", "test")
ALIASES = {
    "training": "train", "valid": "validation", "validate": "validation", "val": "validation", "dev": "validation",
    "testing": "test", "eval": "test", "evaluation": "test",
} | {name: name for name in SPLITS}  # fmt: skip
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")  # what files of the kinds that are read may be packed in,
TABLES = (".ndjson", ".arrow", ".feather", ".xlsx", ".xls")  # and what else tables are kept in
_SHARD = re.compile(r"(?P<base>.+)-(?P<number>\d+)-of-(?P<count>\d+)")
_NUMBERED = re.compile(r"(?P<base>.*?)(?:[-_.]?(?P<number>\d+)|\[(?P<bracketed>\d+)\])")


@dataclass(frozen=True)
class Layout:
    """`splits` maps a split's name to its files in the order of their rows; `unread` are data files beside."""

    splits: Mapping[str, tuple[Path, ...]]
    unread: tuple[Path, ...]


def layout(root: Path, files: Sequence[Path], asked: Collection[str]) -> Layout:
    """The splits of the data `files` under `root`, of which those `asked` for must be unambiguous.

    A file belongs to the split that its name is (`train`, `dev`, `train-00000-of-00002`, any name in `asked`) or
    that its folder is, else to the only one that its name mentions (`my_train`). Where no file belongs to any,
    they are the training split. Raises DataError.
    """
    by_split: dict[str, list[Path]] = {}
    unread = []
    for file in files:
        split = _split_of(file.relative_to(root), asked)
        if split is None:
            unread.append(file)
        else:
            by_split.setdefault(split, []).append(file)
    if not by_split:
        by_split, unread = {"train": unread}, []
    for split in asked:
        if split in by_split:
            _check_series(root, split, by_split[split])
    order = [*(name for name in SPLITS if name in by_split), *sorted(by_split.keys() - set(SPLITS))]
    return Layout({name: tuple(sorted(by_split[name])) for name in order}, tuple(unread))


def refuse_other_kinds(root: Path, files: Sequence[Path], found: Layout, asked: Sequence[str]) -> None:
    """Raise DataError where one of all `files` would be a split that is `asked` for and not `found`, or a further
    piece of one, but for its kind, which is not read: its rows would be passed over in silence."""
    for file in files:
        plain = file.with_suffix("") if file.suffix.lower() in PACKED else file
        kind = plain.suffix.lower()
        if kind not in (DATA_SUFFIXES if plain != file else TABLES):
            continue
        with suppress(DataError):
            split = _split_of(plain.relative_to(root), asked)
            if split is not None and split in asked and _is_more(plain, found.splits.get(split, ())):
                break
    else:
        return
    raise DataError(
        f"{file.relative_to(root)} of {root} would be of the split {split}, and is of a kind that is not read; "
        f"unpack it or save it as {', '.join(DATA_SUFFIXES)}"
        f"{', or add task.validation=null to set a fifth of the training rows apart' * (split != asked[0])}"
    )


def _is_more(file: Path, split: Sequence[Path]) -> bool:
    """Whether a file is a split's only one, or a further piece beside those that the split has."""
    base, number, _ = _piece(file)
    pieces = {(other.parent, *_piece(other)[:2]) for other in split}
    others = {(parent, name) for parent, name, other in pieces if other is not None}
    return not split or (
        number is not None and (file.parent, base) in others and (file.parent, base, number) not in pieces
    )


def _split_of(file: Path, asked: Collection[str]) -> str | None:
    """The split of a file, given by its path inside the folder; None where nothing says so."""

    def named(word: str) -> str | None:
        return word if word in asked else ALIASES.get(word.casefold())

    stem, (base, shard, _) = file.stem, _piece(file)
    own = named(stem) or named(base) or (base if shard and _SHARD.fullmatch(stem) else None)
    if own is None:
        words = set(re.findall("[a-z]+", stem.casefold())) - {"validate"}  # which in a longer name is a verb
        mentioned = {ALIASES[word] for word in words if word in ALIASES}
        own = mentioned.pop() if len(mentioned) == 1 else None
    places = {split for part in file.parts[:-1] if (split := named(part))}
    if len(found := places | ({own} if own else set())) > 1:
        raise DataError(
            f"{file}: its name and its folder speak of different splits ({', '.join(sorted(found))}); "
            "rename one of them, or give one file by task.path"
        )
    return found.pop() if found else None


def _piece(file: Path) -> tuple[str, int | None, int | None]:
    """(name, number, how many) of a piece: (train, 0, 2) of `train-00000-of-00002`, (train, 3, None) of `train_3`,
    (notes, None, None) of `notes`."""
    if match := _SHARD.fullmatch(file.stem):
        return match["base"], int(match["number"]), int(match["count"])
    if match := _NUMBERED.fullmatch(file.stem):
        return match["base"], int(match["number"] or match["bracketed"]), None
    return file.stem, None, None


def _check_series(root: Path, split: str, files: Sequence[Path]) -> None:
    """Raise DataError unless `files` are one file, or all the pieces of one."""
    pieces = [_piece(file) for file in files]
    numbers = sorted(-1 if number is None else number for _, number, _ in pieces)
    counts = {count for *_, count in pieces}
    names = ", ".join(str(file.relative_to(root)) for file in files[:5]) + (", …" if len(files) > 5 else "")
    places = {file.relative_to(root).parts[0] for file in files if file.parent != root}
    if len(places) > 1 and len({file.name for file in files}) < len(files) and not places & ALIASES.keys():
        raise DataError(
            f"{root} has a split {split} of each data set {', '.join(sorted(places))} ({names}); "
            f"name one by task.config={min(places)}"
        )
    if counts != {None} and len(counts) == 1 and numbers != list(range(pieces[0][2] or 0)):
        raise DataError(
            f"{root} has {len(files)} of the {pieces[0][2]} pieces of its split {split} ({names}); "
            "copy or download them all"
        )
    one_family = (
        len({(file.parent, base, file.suffix) for file, (base, *_) in zip(files, pieces, strict=True)}) == 1
    )
    if len(files) > 1 and not (
        one_family
        and len(counts) == 1
        and numbers[0] in (0, 1)
        and numbers == list(range(numbers[0], numbers[-1] + 1))
    ):
        raise DataError(
            f"{root} has {len(files)} files that could be its split {split}: {names}; keep one there, give one by "
            f"task.path, or number the pieces of one ({split}-00000-of-0000{min(len(files), 9)})"
        )
