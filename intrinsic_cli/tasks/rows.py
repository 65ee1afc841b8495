"""Rows as they are read, as they are split, and as token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

VALIDATION_SHARE = 0.2


def validates(text: str) -> bool:
    """Whether a row that says `text` is one of the fifth that validates: by its hash, so everywhere the same."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64 < VALIDATION_SHARE


@dataclass(frozen=True)
class Part:
    """n rows: `texts` (prompts, for language models) and, for sentence pairs, `pairs`; `labels` are class ids,
    floats for regression, or texts where the answers are written ("" where there is none)."""

    texts: list[str]
    pairs: list[str] | None
    labels: list[Any]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> Part:
        """The rows at `indices`, in that order."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in indices]
        return Part([self.texts[i] for i in indices], pairs, [self.labels[i] for i in indices])

    def said(self) -> list[str]:
        """All that each row says but its label, as one text, (n,)."""
        if self.pairs is None:
            return self.texts
        return [f"{a}\0{b}" for a, b in zip(self.texts, self.pairs, strict=True)]

    def found_in(self, other: Part) -> int:
        """How many rows say what one of `other` says."""
        known = set(other.said())
        return sum(key in known for key in self.said())


@dataclass(frozen=True)
class Rows:
    """The rows of a study. `label_names` is () for regression; `fingerprint` is SHA-256 (hex) of all below.

    `holdout` is taken out of the training split and has no row of `train`; it is empty unless asked for.
    `summary` says in one line which files, rows and classes these are. `apart` is how many rows the split has of
    which a fifth was set apart to validate; None where the validation rows are a split of their own.
    """

    train: Part
    validation: Part
    holdout: Part
    label_names: tuple[str, ...]
    fingerprint: str
    summary: str = field(default="", compare=False)
    apart: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Encoded:
    """Token ids of n rows, end to end. Row i is `ids[starts[i]:starts[i + 1]]`.

    `ids` is int32 and `types` (token type ids, or None) int8, both (tokens,); `starts` is int64 (n + 1,);
    `labels` is int64, or float32 for regression, (n,). The last three fields say how a tokenizer pads.
    """

    ids: np.ndarray
    types: np.ndarray | None
    starts: np.ndarray
    labels: np.ndarray
    pad_id: int
    pad_type: int
    padding_side: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(values.nbytes for values in vars(self).values() if isinstance(values, np.ndarray))

    def first(self, n: int) -> Encoded:
        """The first n rows, or all where there are fewer."""
        n = min(n, len(self))
        end = self.starts[n]
        types = None if self.types is None else self.types[:end]
        return replace(
            self, ids=self.ids[:end], types=types, starts=self.starts[: n + 1], labels=self.labels[:n]
        )

    @property
    def tokens(self) -> np.ndarray:
        """Every token id, (any,)."""
        return self.ids

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, (n,)."""
        return np.diff(self.starts)


def joined(rows: Iterable[Iterable[int]], dtype: type = np.int32) -> np.ndarray:
    """Rows of numbers end to end, (numbers,)."""
    return np.fromiter((number for row in rows for number in row), dtype)


def starts(lengths: Iterable[int]) -> np.ndarray:
    """Where each of n rows begins among all that are joined, and where the last one ends, (n + 1,) int64."""
    return np.cumsum([0, *lengths], dtype=np.int64)
