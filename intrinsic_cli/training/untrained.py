"""The model before training: a run of d = 0, whose score others are held against."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from torch import nn

from intrinsic_cli.errors import RunError
from intrinsic_cli.models import quantized
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.training import ranks
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.evaluation import evaluate
from intrinsic_cli.training.inputs import Inputs
from intrinsic_cli.training.trainer import Outcome, ignore


def measure(
    spec: RunSpec, inputs: Inputs, *, log: Callable[..., None] = ignore, beat: Callable[[], None] = ignore
) -> Outcome:
    """Score the model of `spec` as it comes; `beat` is called after each batch.

    Its precision is that of training. Raises RunError where its loss is not finite.
    """
    began = time.perf_counter()
    compute = Compute.here(spec.train.precision)
    model = quantized.placed(inputs.fresh_model(spec.space_seed), compute.device)
    if compute.weights is not None:
        model.to(compute.weights)
    splits = {"validation": inputs.validation, "holdout": inputs.holdout}
    if spec.train.score_train:
        splits["train"] = inputs.train
    answers, losses = {}, {}
    for name, encoded in splits.items():
        if encoded is not None:
            answers[name], losses[name] = evaluate(
                inputs.task, model, encoded, compute, spec.train.eval_batch_size, beat
            )
    if not math.isfinite(losses["validation"]):
        raise RunError(f"the loss of the untrained model is {losses['validation']}; try train.precision=fp32")
    scores = {name: inputs.task.score(columns) for name, columns in answers.items()}
    scored = {f"eval_{name}": value for name, value in scores["validation"].items()}
    log(step=0, epoch=0, **{"eval_loss": losses["validation"], **scored})
    answers.pop("train", None)  # of which the scores are kept alone, as of every run
    spent = time.perf_counter() - began
    return Outcome(
        metrics=scores["validation"], holdout=scores.get("holdout"), train=scores.get("train"), steps=0, d=0, m=0,
        D=_numbers(model), projection_version=None,
        precision=compute.precision, device=str(compute.device), seconds={"total": spent, "evaluation": spent},
        resumed=[], processes=ranks.count(), sent_bytes=0, answers=answers,
    )  # fmt: skip


def _numbers(model: nn.Module) -> int:
    """What full fine-tuning would train."""
    if quantized.is_quantized(model):
        return quantized.count(model)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
