"""What a finished model answers on encoded rows, in the precision it was trained in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intrinsic_cli.errors import DataError
from intrinsic_cli.finetunes.file import HEADS, FineTune, asks_of
from intrinsic_cli.finetunes.rebuild import base_of, build
from intrinsic_cli.models import quantized
from intrinsic_cli.spec import DataSpec, TaskSpec
from intrinsic_cli.tasks import splits
from intrinsic_cli.tasks.metrics import Answers
from intrinsic_cli.tasks.rows import Encoded
from intrinsic_cli.tasks.task import Task, task_of
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.evaluation import evaluate


def answer(task: Task, model: Any, encoded: Encoded, precision: str, batch_size: int) -> Answers:
    """The model's answers beside what is right, in the rows' order. Moves `model` to the device in use and
    leaves it in evaluation mode."""
    compute = Compute.here(precision)
    answers, _ = evaluate(task, quantized.placed(model, compute.device), encoded, compute, batch_size)
    model.eval()
    return answers


def score(
    found: FineTune, spec: TaskSpec, data: DataSpec, *, model: str | None = None,
    trust_remote_code: bool = False, batch_size: int = 128,
) -> tuple[dict[str, float], int, int | None]:  # fmt: skip
    """Every metric of the task on its validation split, the number of rows, and `Rows.apart`.

    A split that `spec.validation` names is scored whole, be it the one trained on.

    Raises DataError where the task's labels are not the fine-tune's, and as `rebuild.load`.
    """
    task = task_of(spec)
    rows = splits.load(spec, data, whole=True)
    check_labels(found, spec, rows.label_names)
    task.check(rows.label_names)
    if rows.apart is not None:
        _check_split(found, spec)
    base = base_of(found, model, trust_remote_code=trust_remote_code)
    encoded = task.encode(rows.validation, rows.label_names, base, data.max_length)
    answers = answer(task, build(found, base), encoded, found.precision, batch_size)
    return task.score(answers), len(encoded), rows.apart


def _check_split(found: FineTune, task: TaskSpec) -> None:
    """Raise DataError where a fifth of the rows is set apart by texts that are made otherwise than in training: of
    the file that was trained on, other rows would be.

    A fine-tune with a head may be for rows of another name, or say nothing of its columns.
    """
    if found.kind in HEADS.values() and not (found.task == task.name and found.asks):
        return
    own = asks_of(task)
    for key in ("prompt", "text"):
        if own.get(key) != found.asks.get(key):
            raise DataError(
                f"task.{key} is not that of training, by which a fifth of the rows was set apart: rows that were "
                f"trained on may be scored; add task.validation={task.train} to score all rows, or leave "
                f"task.{key} out"
            )


def check_labels(found: FineTune, task: TaskSpec, labels: Sequence[str]) -> None:
    """Raise DataError unless the model answers in the labels of the task."""
    if task.kind != found.kind:
        raise DataError(
            f"the fine-tune does {found.kind} and task {task.name} is {task.kind}; add task.kind={found.kind} and "
            "what goes with it"
        )
    if tuple(labels) != found.labels:
        own, wanted = (", ".join(names[:5]) or "no classes" for names in (found.labels, tuple(labels)))
        way = "evaluate it on a task with its labels"
        if labels and set(labels) <= set(found.labels):  # in another order, or of some classes alone
            way = f"list all of them by task.labels=[{','.join(found.labels)}]"
        raise DataError(f"the fine-tune answers {own} and task {task.name} asks for {wanted}; {way}")
