"""Tasks that need no file and no network: what this Python's documentation says, and sums made on the spot.

Each is a function of nothing that gives the rows of both splits; `task.config` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from intrinsic_cli.errors import ConfigError, DataError, near
from intrinsic_cli.spec import TaskSpec
from intrinsic_cli.tasks import pydoc
from intrinsic_cli.tasks.rows import validates
from intrinsic_cli.tasks.sources import Source, wanted
from intrinsic_cli.tasks.table import Table

LARGEST = 100  # numbers of `arithmetic` are below it

Rows = Iterable[tuple[dict[str, str], bool]]  # cells by column, and whether it is a validation row


def pydoc_topic() -> Rows:
    """Sentences and their area of Python, as its number in `pydoc.AREAS`."""
    areas = list(pydoc.AREAS)
    for sentence, area, is_validation in pydoc.corpus():
        yield {"text": sentence, "label": str(areas.index(area))}, is_validation


def pydoc_lm() -> Rows:
    """The same sentences alone."""
    for sentence, _, is_validation in pydoc.corpus():
        yield {"text": sentence}, is_validation


def arithmetic() -> Rows:
    """Every sum and difference of two numbers below 100: synthetic, and no sample of anything people ask.

    A fifth of the questions, chosen by their hash, is for validation, so that no answer was seen in training.
    """
    for a in range(LARGEST):
        for b in range(LARGEST):
            for question, answer in ((f"{a} + {b} =", a + b), (f"{a} - {b} =", a - b)):
                yield {"question": question, "answer": str(answer)}, validates(question)


PYTHON = "this Python's documentation"
TASKS: Mapping[str, tuple[Callable[[], Rows], str]] = {
    "pydoc-topic": (pydoc_topic, PYTHON),
    "pydoc-lm": (pydoc_lm, PYTHON),
    "arithmetic": (arithmetic, "sums made on the spot"),
}


def read(task: TaskSpec) -> Source:
    """The rows of `task.config`, which has the splits `train` and `validation`: a fifth, set apart by hash.

    Raises ConfigError at a name that is not known, and DataError at a split or a column that there is not.
    """
    name = task.config or "pydoc-topic"
    if name not in TASKS:
        hint = near(name, TASKS) or f"; use one of {', '.join(TASKS)}"
        raise ConfigError(f"task.config={name} names no task of idim's own, and task.path is null{hint}")
    make, place = TASKS[name]
    split: dict[bool, list[dict[str, str]]] = {False: [], True: []}
    for cells, is_validation in make():
        split[is_validation].append(cells)
    names = tuple(split[False][0])
    if missing := [column for column in task.columns if column not in names]:
        raise DataError(f"task {task.name} has no column {missing[0]}; it has {', '.join(names)}")
    declared = {"label": tuple(pydoc.AREAS)} if "label" in names else {}
    splits = {"train": split[False], "validation": split[True]}
    asked = replace(task, validation=task.validation or "validation")
    tables = {
        key: Table(
            len(splits[key]), names, {name: [row[name] for row in splits[key]] for name in names}, declared
        )
        for key in wanted(asked, dict.fromkeys(splits, ""))
    }
    return Source(tables, dict.fromkeys(tables, place))
