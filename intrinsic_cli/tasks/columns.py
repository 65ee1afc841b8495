"""Columns of a data set, checked cell by cell: texts, and labels as class ids or real numbers.

What a column holds is decided once, over all of its cells. Every function raises DataError that names the
option, the file, the split and the row at fault.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from intrinsic_cli.errors import DataError, near
from intrinsic_cli.spec import TaskSpec
from intrinsic_cli.tasks.metrics import best_rounded
from intrinsic_cli.tasks.table import LONGEST_CELL, NUMBER, Table, in_all, shown

MOST_CLASSES = 1000
LONGEST_NAME = 1000  # characters of a class name
LARGEST_VALUE = 1e18  # of regression: squared errors must be finite in float32
BEST_SCORE = 0.999  # a correlation that right answers must be able to pass
HIDDEN = "-1"
_INTEGER = re.compile(r"-?[0-9]+")
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")  # the one way to write a whole number: 01, 1.0 and 1e2 are words


def cells(task: TaskSpec, split: str, table: Table, name: str, option: str) -> list[str]:
    """The column `name`, (n,), each cell a text with a value."""
    if not table.rows:
        raise DataError(
            f"task.path={task.path} can't be read: it has an empty split, {split} (a header without rows?)"
        )
    if name not in table.cells:
        columns = ", ".join(table.names) + (_separator(table.names) or near(name, table.names))
        raise DataError(f"{option}={name}: {task.path} has no such column; it has {columns}")
    kind = "text" if option != "task.label" else "number" if task.regression else "class"

    def problem(value: Any) -> str | None:
        if isinstance(value, str):
            return None
        if value is None:
            return "has no value; fill it, or remove the row"
        return f"is no {kind} but {shown(value)}; name another column by {option}, or write it as text"

    values = table.cells[name]
    _check(task, split, values, f"{option}={name}", problem)
    return values


def _separator(names: Sequence[str]) -> str:
    """What to say of a header that is one column because its separator is another one."""
    marks = [mark for mark in ";\t|," if len(names) == 1 and mark in names[0]]
    if not marks:
        return ""
    return f", one column; if {marks[0]!r} separates it, save it with commas as .csv, or with tabs as .tsv"


def _check(
    task: TaskSpec, split: str, values: Sequence[Any], option: str, problem: Callable[[Any], str | None]
) -> None:
    """Raise DataError with the `problem` of the first cell that has one, and the rows of all that do.

    Rows are counted as an editor counts, from 1.
    """
    rows = [row for row, value in enumerate(values, 1) if problem(value)]
    if rows:
        raise DataError(
            f"{option}: row {rows[0]} (without the header) of split {split} of {task.path} "
            f"{problem(values[rows[0] - 1])}{in_all(rows, 'rows')}"
        )


def _unicode(text: str, longest: int) -> str | None:
    """Why `text` can't be used, or None."""
    if len(text) > longest:
        return f"has {len(text)} characters, and {longest} are the most; is a quote never closed?"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"is no Unicode text but {text!r:.40} (half a surrogate pair); save the file as UTF-8"
    return None


def texts(task: TaskSpec, split: str, table: Table, name: str, option: str = "task.text") -> list[str]:
    """The text column `name`, (n,), which `option` named."""
    values = cells(task, split, table, name, option)
    _check(task, split, values, f"{option}={name}", lambda value: _unicode(value, LONGEST_CELL))
    return values


def reals(task: TaskSpec, split: str, table: Table) -> list[float]:
    """The label column of a regression, (n,): finite."""

    def problem(cell: str) -> str | None:
        number = float(cell) if NUMBER.fullmatch(cell.strip()) else math.nan
        if not math.isfinite(number):
            return f"is no finite number but {shown(cell)}; leave out task.regression for classes"
        if abs(number) > LARGEST_VALUE:
            return f"is {shown(cell)}, and {LARGEST_VALUE:g} is the most; divide all labels by one number"
        return None

    values = cells(task, split, table, task.label, "task.label")
    _check(task, split, values, f"task.label={task.label}", problem)
    labels = [float(cell) for cell in values]
    _check_single(task, split, labels, values)
    return labels


def _check_single(task: TaskSpec, split: str, labels: Sequence[float], values: Sequence[str]) -> None:
    """Raise DataError where right answers would score badly, because float32, which holds both, merges labels.

    A measurement with more digits than float32 has loses nothing that counts, so merged labels alone are no fault.
    """
    exact = np.array(labels)
    single = exact.astype(np.float32).astype(np.float64)
    different = np.unique(exact)
    merged = np.flatnonzero(np.diff(np.float32(different)) == 0)
    if not len(merged):
        return
    if best_rounded(exact, single) > BEST_SCORE:
        return
    one, other = (
        values[labels.index(float(label))].strip() for label in different[merged[0] : merged[0] + 2]
    )
    tiny = abs(different).max() < np.finfo(np.float32).tiny
    way = "multiply all labels by one number" if tiny else "subtract one number from all labels"
    raise DataError(
        f"task.label={task.label}: in split {split} of {task.path} {one} and {other} are one number in float32, in "
        f"which models are trained; {way}"
    )


def classes(task: TaskSpec, tables: Mapping[str, Table]) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Class names, in the order of their ids, and the ids (n,) of each split's labels.

    Names come from `task.labels`, else from what the file declares for whole numbers, else from the cells of the
    training split: sorted by value where every cell of the column is a whole number, as texts otherwise. A cell
    that is a name means that name, always. Only where no cell is a name, and `task.labels` are words and all
    cells whole numbers, do the cells number the names. What a file declares names its numbers; in a split that
    declares nothing, words are the names, unless all are whole numbers and none is a name.
    """
    labels = {split: cells(task, split, table, task.label, "task.label") for split, table in tables.items()}
    for split, values in labels.items():
        _check(task, split, values, f"task.label={task.label}", lambda value: _unicode(value, LONGEST_NAME))
    declared = _declared(task, tables)
    numbers = set().union(*(table.numbers.get(task.label, ()) for table in tables.values()))
    same = _one_class(numbers, task.labels or ())
    labels = {split: [same.get(cell, cell) for cell in values] for split, values in labels.items()}
    distinct = set().union(*labels.values())
    if declared is not None:
        named = {
            split: _numbered(task, split, values, declared)
            if _numbers_names(table, task.label, declared)
            else values
            for (split, values), table in zip(labels.items(), tables.values(), strict=True)
        }
        if task.labels is None:
            return declared, {split: _ids(task, split, values, declared) for split, values in named.items()}
        if set(task.labels) & set(declared):
            labels, distinct = named, set(declared).union(*named.values())
    if task.labels is not None:
        names = tuple(as_in(distinct, name) for name in task.labels)
        words = not any(NUMBER.fullmatch(name) for name in names)
        if words and not distinct & set(names) and all(map(_WHOLE.fullmatch, distinct)):
            labels = {split: _numbered(task, split, values, names) for split, values in labels.items()}
    else:
        names = _found(task, tables[task.train], labels)
    return names, {split: _ids(task, split, values, names) for split, values in labels.items()}


def _numbers_names(table: Table, column: str, declared: Collection[str]) -> bool:
    """Whether a split's labels are the numbers of the `declared` names, and not the names."""
    found = set(table.cells[column])
    if column in table.declared or found <= set(table.numbers.get(column, ())):
        return True
    return not found & set(declared) and all(map(_WHOLE.fullmatch, found))


def _one_class(numbers: Collection[str], names: Collection[str]) -> dict[str, str]:
    """The one text for each of `numbers` that equals others of them, as 1 and 1.0: a name or an integer, if any is.

    A program writes a column of whole numbers as real ones once a value is missing. `names` keep their own.
    """
    equal: dict[float, list[str]] = {}
    for text in numbers:
        equal.setdefault(int(text) if _INTEGER.fullmatch(text) else float(text), []).append(text)
    return {
        text: min(texts, key=lambda text: (text not in names, not _WHOLE.fullmatch(text), len(text), text))
        for texts in equal.values() if len(texts) > 1
        for text in texts if text not in names
    }  # fmt: skip


def _declared(task: TaskSpec, tables: Mapping[str, Table]) -> tuple[str, ...] | None:
    """The class names that the files declare, the same in all splits that do."""
    found = {split: names for split, table in tables.items() if (names := table.declared.get(task.label))}
    if len(set(found.values())) > 1:
        said = "; ".join(f"{split}: {', '.join(names[:5])}" for split, names in found.items())
        raise DataError(
            f"task.label={task.label}: the splits of {task.path} declare different classes ({said}), so their "
            "numbers don't mean the same; write the labels as text"
        )
    return next(iter(found.values()), None)


def as_in(cells: Collection[str], name: str) -> str:
    """A name as the cells write it: programs write `True` and `False`, or `true` and `false`, of one thing."""
    if name.casefold() not in ("true", "false") or name in cells:
        return name
    written = [cell for cell in cells if cell.casefold() == name.casefold()]
    return written[0] if len(written) == 1 else name


def _refuse_ids(task: TaskSpec, table: Table, labels: Sequence[str]) -> None:
    """Raise DataError where most of the rows, of all splits, have a label that no other row has.

    Such a column names rows: an id, a text, a number to predict. A class of one row to train on is found again in
    the validation split.
    """
    rows_of = Counter(labels)
    if len(rows_of) < 2 or 2 * sum(rows == 1 for rows in rows_of.values()) <= len(labels):
        return
    others = ", ".join(name for name in table.names if name not in (task.label, *task.read_columns))
    ways = [f"name the column of the classes by task.label{f' (there are {others})' if others else ''}"]
    if all(map(NUMBER.fullmatch, rows_of)):
        ways += ["predict its numbers by task.regression=true task.metrics=[pearson,spearman]"]
    raise DataError(
        f"task.label={task.label} of {task.path} has {len(rows_of)} different values in {len(labels)} rows, so it "
        f"names rows and no classes; {', '.join(ways)}, or list the classes by task.labels"
    )


def _found(task: TaskSpec, table: Table, labels: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Class names where none are given: all that occur in the training split, whose table is `table`."""
    where = f"task.label={task.label} of {task.path}"
    own, everywhere = set(labels[task.train]), [label for values in labels.values() for label in values]
    if own == {HIDDEN}:
        raise DataError(f"{where} is -1 in every row of split {task.train}: the labels are hidden")
    if all(map(NUMBER.fullmatch, own)) and any(not float(label).is_integer() for label in own):
        raise DataError(
            f"{where} holds real numbers; add task.regression=true task.metrics=[pearson,spearman]"
        )
    _refuse_ids(task, table, everywhere)
    if len(own) > MOST_CLASSES:
        raise DataError(
            f"{where} has {len(own)} different values; at most {MOST_CLASSES} are classes; name another column by "
            "task.label, or list the classes by task.labels"
        )

    def problem(label: str) -> str | None:
        if label == label.strip():
            return None
        return f"is {label!r:.60}, with white space around it; remove it, or state the names by task.labels"

    _check(task, task.train, labels[task.train], f"task.label={task.label}", problem)
    return tuple(sorted(own, key=int) if all(map(_WHOLE.fullmatch, everywhere)) else sorted(own))


def _numbered(task: TaskSpec, split: str, labels: Sequence[str], names: tuple[str, ...]) -> list[str]:
    """The names of labels that are their numbers."""
    known = {str(i): name for i, name in enumerate(names)}
    _check_known(task, split, labels, known, names)
    return [known[label] for label in labels]


def _ids(task: TaskSpec, split: str, labels: Sequence[str], names: tuple[str, ...]) -> list[int]:
    known = {name: i for i, name in enumerate(names)}
    _check_known(task, split, labels, known, names)
    return [known[label] for label in labels]


def _check_known(
    task: TaskSpec, split: str, labels: Sequence[str], known: Collection[str], names: Sequence[str]
) -> None:
    listed = ", ".join(names)

    def problem(label: str) -> str | None:
        if label in known:
            return None
        way = "-1 marks hidden labels, so take another split" if label == HIDDEN else "mend it or task.labels"
        return f"is {shown(label)}, not one of {listed}; {way}"

    _check(task, split, labels, f"task.label={task.label}", problem)
