"""Columns of a data set, checked value by value: texts, and labels as class ids or real numbers.

Every function raises DataError that names the option, the file, the split and the row at fault.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from intrinsic_cli.errors import DataError
from intrinsic_cli.spec import TaskSpec

MOST_CLASSES = 1000


def split(task: TaskSpec, splits: Mapping[str, Any], name: str) -> Any:
    """The split `name`. Raises DataError that lists the splits there are."""
    if name not in splits:
        raise DataError(
            f"task {task.name}: {task.path} has no split {name!r}; "
            f"it has {', '.join(splits)}{_near(name, splits)}"
        )
    return splits[name]


def _near(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]}?)" if match else ""


def _column(task: TaskSpec, split: str, table: Any, name: str, option: str) -> list[Any]:
    if name not in table.column_names:
        columns = ", ".join(table.column_names)
        raise DataError(
            f"{option}={name}: {task.path} has no such column; "
            f"it has {columns}{_near(name, table.column_names)}"
        )
    values = table[name][:]
    for row, value in enumerate(values):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise DataError(f"{option}={name}: row {row} of split {split} of {task.path} has no value")
    return values


def texts(task: TaskSpec, split: str, table: Any, name: str) -> list[str]:
    """The text column `name`, (n,)."""
    values = _column(task, split, table, name, "task.text")
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(
                f"task.text={name}: row {row} of split {split} of {task.path} is no text but {value!r}"
            )
    return values


def labels(task: TaskSpec, split: str, table: Any) -> list[Any]:
    """The label column, (n,): finite numbers for regression, else strings or numbers."""
    values = _column(task, split, table, task.label, "task.label")
    for row, value in enumerate(values):
        fits = isinstance(value, int | float) and math.isfinite(value) if task.regression else True
        if not fits or not isinstance(value, str | int | float):
            wanted = "finite number" if task.regression else "class"
            raise DataError(
                f"task.label={task.label}: row {row} of split {split} of {task.path} "
                f"is no {wanted} but {value!r}"
            )
    return values


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
            hidden = "; -1 marks hidden labels, so take another split" if label == -1 else ""
            raise DataError(
                f"task.label={task.label}: row {row} of split {split} of {task.path} is {label!r}, "
                f"not one of {', '.join(names)}{hidden}"
            )
        ids.append(found)
    return ids
