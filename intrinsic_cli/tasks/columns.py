"""Columns of a data set, checked value by value: texts, and labels as class ids or real numbers.

Every function raises DataError that names the option, the file, the split and the row at fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from intrinsic_cli.errors import DataError, near
from intrinsic_cli.spec import TaskSpec

MOST_CLASSES = 1000
LONGEST_CELL = 1_000_000  # characters: a long book; more is a quote that is never closed
LONGEST_NAME = 1000  # characters of a class name
LARGEST_CLASS = 2**53  # whole numbers up to here are exact, whatever a reader makes of them
LARGEST_VALUE = 1e18  # of regression: squared errors must be finite in float32


def split(task: TaskSpec, splits: Mapping[str, Any], name: str) -> Any:
    """The split `name`. Raises DataError that lists the splits there are."""
    if name not in splits:
        raise DataError(
            f"task {task.name}: {task.path} has no split {name!r}; "
            f"it has {', '.join(splits)}{near(name, splits)}"
        )
    return splits[name]


def _column(task: TaskSpec, split: str, table: Any, name: str, option: str) -> list[Any]:
    if name not in table.column_names:
        columns = ", ".join(table.column_names)
        raise DataError(
            f"{option}={name}: {task.path} has no such column; "
            f"it has {columns}{near(name, table.column_names)}"
        )
    try:
        values = table[name][:]
    except ValueError as error:  # a Parquet file holds whatever bytes its writer called text
        raise DataError(
            f"{option}={name}: this column of {task.path} can't be read: {error}; save it as UTF-8 text"
        ) from error
    for row, value in enumerate(values):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise _bad(task, split, row, f"{option}={name}", "has no value; fill it, or remove the row")
    return values


def _bad(task: TaskSpec, split: str, row: int, option: str, problem: str) -> DataError:
    """What is wrong in a row, counted as an editor counts: from 1."""
    return DataError(
        f"{option}: row {row + 1} (without the header) of split {split} of {task.path} {problem}"
    )


def _unicode(text: str, longest: int) -> str | None:
    """Why `text` can't be used, or None."""
    if len(text) > longest:
        return f"has {len(text)} characters, and {longest} are the most; is a quote never closed?"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"is no Unicode text but {text!r:.40}; save the file as UTF-8"
    return None


def texts(task: TaskSpec, split: str, table: Any, name: str) -> list[str]:
    """The text column `name`, (n,)."""
    values = _column(task, split, table, name, "task.text")
    for row, value in enumerate(values):
        problem = (
            _unicode(value, LONGEST_CELL)
            if isinstance(value, str)
            else f"is no text but {value!r:.40}; name a column of text by task.text"
        )
        if problem:
            raise _bad(task, split, row, f"task.text={name}", problem)
    return values


def labels(task: TaskSpec, split: str, table: Any) -> list[Any]:
    """The label column, (n,): what `float` reads as finite for regression, else strings or numbers."""
    values = _column(task, split, table, task.label, "task.label")
    for row, value in enumerate(values):
        if problem := _label_problem(value, task.regression):
            raise _bad(task, split, row, f"task.label={task.label}", problem)
    return values


def _label_problem(value: Any, regression: bool) -> str | None:
    """Why `value` is no label, or None."""
    if regression:
        try:
            number = float(value)
        except (ValueError, TypeError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            return f"is no finite number but {value!r:.40}; leave out task.regression for classes"
        if abs(number) > LARGEST_VALUE:
            return f"is {value!r:.40}, and {LARGEST_VALUE:g} is the most; divide all labels by one number"
        return None
    if isinstance(value, str):
        return _unicode(value, LONGEST_NAME)
    if not isinstance(value, int | float):
        return f"is no class but {value!r:.40}; write a text or a whole number"
    if math.isfinite(value) and abs(value) >= LARGEST_CLASS:
        return f"is {value!r:.40}, a number too large for a class; write it as text"
    return None


def declared(task: TaskSpec, table: Any) -> tuple[str, ...] | None:
    """Class names that the task or the data set states; numbers in the label column are then their ids."""
    names = task.labels or getattr(table.features[task.label], "names", None)
    return tuple(names) if names else None


def found(task: TaskSpec, labels: list[Any]) -> tuple[str, ...]:
    """Class names where none are declared: all that occur in the training split, sorted."""
    distinct = set(labels)
    where = f"task.label={task.label} of {task.path}"
    if distinct == {-1}:
        raise DataError(f"{where} is -1 in every row of split {task.train}: the labels are hidden")
    if any(isinstance(label, float) and not label.is_integer() for label in distinct):
        raise DataError(
            f"{where} holds real numbers; add task.regression=true task.metrics=[pearson,spearman]"
        )
    if len({isinstance(label, str) for label in distinct}) > 1:
        text = next(label for label in labels if isinstance(label, str))
        other = next(label for label in labels if not isinstance(label, str))
        raise DataError(f"{where} holds text ({text!r}) and numbers ({other!r}); write all labels in one way")
    if len(distinct) > MOST_CLASSES:
        raise DataError(
            f"{where} has {len(distinct)} different values; at most {MOST_CLASSES} classes are allowed"
        )
    return tuple(_name(label) for label in sorted(distinct))


def _name(label: Any) -> str:
    return label if isinstance(label, str) else str(int(label))


def ids(task: TaskSpec, split: str, labels: list[Any], names: tuple[str, ...], *, by_name: bool) -> list[int]:
    """Class ids (n,) of labels that are names, or (`by_name=False`) ids already."""
    known = {name: i for i, name in enumerate(names)}
    ids = []
    for row, label in enumerate(labels):
        if by_name or isinstance(label, str):
            found = known.get(_name(label))
        else:
            found = int(label) if label in range(len(names)) else None
        if found is None:
            way = "-1 marks hidden labels, so take another split" if label == -1 else "mend it or task.labels"
            problem = f"is {label!r}, not one of {', '.join(names)}; {way}"
            raise _bad(task, split, row, f"task.label={task.label}", problem)
        ids.append(found)
    return ids
