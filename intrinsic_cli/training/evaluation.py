"""What a model answers on encoded rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from intrinsic_cli.tasks.batches import batches
from intrinsic_cli.tasks.metrics import Answers
from intrinsic_cli.tasks.rows import Encoded
from intrinsic_cli.tasks.task import Task
from intrinsic_cli.training import ranks
from intrinsic_cli.training.device import Compute


def evaluate(
    task: Task, model: nn.Module, encoded: Encoded, compute: Compute, batch_size: int,
    beat: Callable[[], None] = lambda: None,
) -> tuple[Answers, float]:  # fmt: skip
    """The answers to all rows, in their order, beside what is right; and the mean loss.

    The model lies on the device, and is in training mode again afterwards. `beat` is called after each batch.
    """
    model.eval()
    answers = task.blank(len(encoded))
    loss = 0.0
    with torch.inference_mode():
        for rows in ranks.share(batches(encoded, batch_size, None)):
            with compute.autocast():
                mean, columns = task.answer(model, compute.batch(task.questions(encoded, rows)))
            for name, values in columns.items():
                answers[name][rows] = values.cpu().numpy()
            loss += mean.item() * task.weight(encoded, rows)
            beat()
    model.train()
    everybody = {
        name: ranks.total(torch.from_numpy(values).to(compute.device)).cpu().numpy()
        for name, values in answers.items()
    }
    loss = ranks.total(torch.tensor(loss, dtype=torch.float64, device=compute.device)).item()
    return task.table(encoded, everybody), loss / task.weight(encoded, range(len(encoded)))
