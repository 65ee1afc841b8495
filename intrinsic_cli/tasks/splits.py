"""A task's rows: found, read, checked, and cut to the size asked for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intrinsic_cli.errors import DataError, printable
from intrinsic_cli.spec import WRITTEN, DataSpec, TaskSpec, stream_seed
from intrinsic_cli.tasks import columns, embedded, sources
from intrinsic_cli.tasks.rows import Part, Rows, validates
from intrinsic_cli.tasks.table import Table
from intrinsic_cli.tasks.task import KINDS

USES = ("to train on", "to validate", "held out")
SHOWN = 8  # classes in a summary


def load(task: TaskSpec, data: DataSpec, *, whole: bool = False) -> Rows:
    """Read, check and cut the rows of `task`.

    `data.holdout` rows are set apart first, then the first `data.max_train` of what is left in one fixed
    random order: 100 rows are the first 100 of 200, and the holdout is the same for both. The order depends
    on `data.seed` alone, never on a run's seed. Validation rows keep the order of the file. Rows with equal text
    may lie on both sides of the holdout; the summary counts them.

    Where `task.validation` is None or `task.train`, or is `validation` and the data have one split only, a fifth of
    the training rows becomes the validation split, chosen by a hash of the row's text: rows with equal text stay
    together, and the choice is the same everywhere. With `whole`, for scoring alone, the training split validates
    as it is where `task.validation` names it, and its rows may be of one label. Raises DataError when the rows
    can't be found, read, or used.
    """
    train, validation, names, origin = _read(task, data, whole)
    order = np.argsort(_raw_stream(data.seed, "rows", len(train)), kind="stable")
    if data.holdout >= len(train):
        raise DataError(
            f"data.holdout={data.holdout} leaves none of the {len(train)} training rows of task {task.name}"
        )
    left = order[data.holdout :]
    kept = left[: data.max_train]
    if not whole:
        _check_cut(task, names, train, {"holdout": left, "max_train": kept}, data)
    holdout = train.take(order[: data.holdout].tolist())
    if data.max_eval is not None and data.max_eval < len(validation):
        chosen = np.argsort(_raw_stream(data.seed, "rows/validation", len(validation)), kind="stable")
        validation = validation.take(sorted(chosen[: data.max_eval].tolist()))
    train = _permuted(train.take(kept.tolist()), task, data)
    parts = (train, validation, holdout)
    return Rows(*parts, names, _fingerprint(parts, names), _summary(task, parts, names, origin), origin.apart)


def _check_cut(
    task: TaskSpec, names: tuple[str, ...], train: Part, cuts: Mapping[str, np.ndarray], data: DataSpec
) -> None:
    """Raise DataError with the first key of `data` whose cut, the rows that it leaves, is of one label."""
    for key, rows in cuts.items():
        if only := _only_label(task, [train.labels[i] for i in rows.tolist()], names):
            way = "lower" if key == "holdout" else "raise"
            raise DataError(
                f"data.{key}={getattr(data, key)} leaves {len(rows)} of the {len(train)} training rows of task "
                f"{task.name}, all with the label {only}; {way} data.{key}, or take other rows by data.seed"
            )


def _only_label(task: TaskSpec, labels: Sequence[Any], names: tuple[str, ...]) -> str | None:
    """The label of all rows to train on, as a message shows it; None where there are two, or none is needed."""
    if task.kind in WRITTEN or len(set(labels)) > 1:
        return None
    return repr(names[int(labels[0])] if names else labels[0])


def _permuted(train: Part, task: TaskSpec, data: DataSpec) -> Part:
    """The rows with each other's labels, where `data.permute_labels` is set. Raises DataError without labels."""
    if data.permute_labels is None:
        return train
    if all(label == "" for label in train.labels):
        raise DataError(
            f"data.permute_labels={data.permute_labels}: the rows of task {task.name} have no labels to permute"
        )
    order = np.argsort(_raw_stream(data.permute_labels, "labels", len(train)), kind="stable")
    return replace(train, labels=[train.labels[i] for i in order])


def _raw_stream(seed: int, name: str, n: int) -> np.ndarray:
    """n 64-bit numbers of a bit generator's raw stream, which NumPy keeps the same over its versions."""
    return np.random.PCG64(stream_seed(seed, name)).random_raw(n)


def _fingerprint(parts: Sequence[Part], names: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr(names).encode())
    for part in parts:
        for row in zip(part.texts, part.pairs or part.texts, part.labels, strict=True):
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
        digest.update(repr(part.pairs is None).encode())
    return digest.hexdigest()


def _summary(task: TaskSpec, parts: Sequence[Part], names: tuple[str, ...], origin: Origin) -> str:
    """`task easy: 96 rows of train.jsonl to train on (calm 48, loud 48), 40 of dev.jsonl to validate (...)`."""
    words = []
    for part, place, use in zip(parts, (*origin.files, origin.files[0]), USES, strict=True):
        if len(part):
            labels = "" if task.kind in WRITTEN else f" ({_labels(part, names)})"
            words.append(f"{len(part):,} rows of {place} {use}{labels}")
    train, *others = parts
    told = "".join(
        f"; {seen:,} of the rows {use} have the text of one to train on"
        for part, use in zip(others, USES[1:], strict=True) if (seen := part.found_in(train))
    )  # fmt: skip
    unread = f"; not read: {', '.join(origin.unread)}" if origin.unread else ""
    return printable(f"task {task.title}: {', '.join(words)}{told}{unread}")


def _labels(part: Part, names: tuple[str, ...]) -> str:
    if not names:
        return f"labels from {min(part.labels):g} to {max(part.labels):g}"
    counts = Counter(part.labels)
    shown = [
        f"{name if name.strip() == name else repr(name)} {counts[i]:,}"
        for i, name in enumerate(names[:SHOWN])
    ]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more classes" if len(names) > SHOWN else "")


@dataclass(frozen=True)
class Origin:
    """Where the training and the validation rows come from, in words, data files that were not read, and
    `Rows.apart`."""

    files: tuple[str, str]
    unread: tuple[str, ...] = ()
    apart: int | None = None


def _read(task: TaskSpec, data: DataSpec, whole: bool) -> tuple[Part, Part, tuple[str, ...], Origin]:
    source = embedded.read(task) if task.path is None else sources.read(task, data)
    names: tuple[str, ...] = ()
    labels: Mapping[str, list[Any]]
    if task.kind in WRITTEN:
        labels = {split: _answers(task, split, table) for split, table in source.tables.items()}
    elif task.regression:
        labels = {split: columns.reals(task, split, table) for split, table in source.tables.items()}
    else:
        names, labels = columns.classes(task, source.tables)
    parts = []
    option = "task.prompt" if task.template else "task.text"
    for split, table in source.tables.items():
        texts = {name: columns.texts(task, split, table, name, option) for name in task.read_columns}
        parts.append(Part(*_inputs(task, texts), labels[split]))
    if whole and task.validation == task.train:
        parts = [parts[0], parts[-1]]
    train, validation = parts if len(parts) == 2 else _split_off(parts[0])
    if len(parts) == 1 and not (len(train) and len(validation)):
        alike = len(parts[0]) > 1 == len(set(parts[0].said()))
        why, way = (
            ("all have one text", "rows of other texts") if alike else ("all stay together", "more rows")
        )
        raise DataError(
            f"task {task.name}: a fifth of the {len(parts[0])} rows of {task.path} is set apart to validate, by a "
            f"hash of their text, and {why}; give {way}, or a validation split"
        )
    for split, part in (("training", train), ("validation", validation)):
        if not len(part):
            raise DataError(f"task {task.name}: the {split} split of {task.path} is empty; give more rows")
    if (only := _only_label(task, train.labels, names)) and not whole:
        raise DataError(
            f"task {task.name}: all {len(train)} training rows of {task.path} have the label {only}; "
            "give rows with other labels too"
        )
    files = [source.files[split] for split in source.tables]
    apart = len(parts[0]) if len(parts) == 1 else None
    return train, validation, names, Origin((files[0], files[-1]), source.unread, apart)


def _answers(task: TaskSpec, split: str, table: Table) -> list[str]:
    """The column of right answers, (n,), or "" where a text is all there is."""
    if task.answer is None:
        return [""] * table.rows
    return columns.texts(task, split, table, task.answer, "task.answer")


def _inputs(task: TaskSpec, texts: Mapping[str, list[str]]) -> tuple[list[str], list[str] | None]:
    """Texts and pairs of a row's columns; of a language model, prompts made by the template."""
    if KINDS[task.kind].fresh_head:
        first, *more = (texts[name] for name in task.text)
        return first, more[0] if more else None
    joined = tuple(("\n" if i else "", name) for i, name in enumerate(task.text))
    parts = [(text, texts[name] if name else None) for text, name in task.template or joined]
    n = len(next(iter(texts.values())))
    return ["".join(text + (column[i] if column else "") for text, column in parts) for i in range(n)], None


def _split_off(part: Part) -> tuple[Part, Part]:
    """A fifth of the rows, chosen by the hash of their text, as validation rows."""
    out = [validates(text) for text in part.said()]
    stay, go = ([i for i, leaves in enumerate(out) if leaves == side] for side in (False, True))
    return part.take(stay), part.take(go)
