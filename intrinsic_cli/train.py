"""The training loop: one run from its spec to its scores, visible from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from intrinsic_cli import metrics
from intrinsic_cli.data import Encoded, batches, collate
from intrinsic_cli.errors import RunError
from intrinsic_cli.inputs import Inputs
from intrinsic_cli.spec import RunSpec, stream_seed
from intrinsic_cli.subspace import Full, Subspace

LOSS_EVERY = 10  # optimizer steps between two looks at the loss, each of which waits for the device


@dataclass
class Outcome:
    """What a run measured. Scores are on the validation split, `holdout` on rows held out of training."""

    metrics: dict[str, float]
    holdout: dict[str, float] | None
    steps: int
    d: int
    m: int
    D: int
    projection_version: int | None
    precision: str
    device: str
    seconds: dict[str, float]
    tensors: dict[str, Tensor] = field(repr=False, default_factory=dict)


def resolve_precision(precision: str) -> str:
    """`auto` is `bf16` on hardware with bfloat16 matrix products, and `fp32` elsewhere."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def total_steps(spec: RunSpec, n_train: int) -> int:
    """Optimizer steps of a run over `n_train` rows."""
    per_epoch = math.ceil(n_train / (spec.train.batch_size * spec.train.accumulate))
    return spec.train.max_steps or math.ceil(spec.train.epochs * per_epoch)


def linear_schedule(optimizer: Optimizer, steps: int, warmup: float) -> LambdaLR:
    """Learning rate up from 0 over the first `warmup` of the steps, then down to 0 at the last."""
    rise = math.ceil(warmup * steps)

    def factor(step: int) -> float:
        return (step + 1) / (rise + 1) if step < rise else (steps - step) / max(1, steps - rise)

    return LambdaLR(optimizer, factor)


def make_optimizer(space: Full | Subspace, model: nn.Module, spec: RunSpec) -> Optimizer:
    """AdamW on all weights, vectors without decay, for full fine-tuning; else Adam on θ, λ and head."""
    if isinstance(space, Full):
        weights = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": spec.train.weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=spec.lr, fused=True)
    groups = [{"params": [space.theta], "lr": spec.lr}]
    if space.lam is not None:
        groups.append({"params": [space.lam], "lr": spec.subspace.lam_lr})
    if len(space.direct):
        groups.append({"params": list(space.direct), "lr": spec.subspace.head_lr})
    return Adam(groups, lr=spec.lr, fused=True)


def evaluate(
    model: nn.Module, encoded: Encoded, accelerator: Accelerator, batch_size: int
) -> tuple[Any, float]:
    """Predictions in the rows' order, (n,) class ids or values, and the mean loss over the rows."""
    model.eval()
    regression = encoded.labels.dtype.kind == "f"
    predictions = np.zeros(len(encoded), dtype=np.float64 if regression else np.int64)
    total = 0.0
    with torch.inference_mode():
        for rows in batches(encoded, batch_size, None):
            batch = {k: v.to(accelerator.device) for k, v in collate(encoded, rows).items()}
            with accelerator.autocast():
                output = model(**batch)
            logits = output.logits.float()
            predictions[rows] = (logits.squeeze(-1) if regression else logits.argmax(-1)).cpu().numpy()
            total += output.loss.item() * len(rows)
    model.train()
    return predictions, total / len(encoded)


def train(
    spec: RunSpec,
    inputs: Inputs,
    log: Callable[..., None],
    *,
    folder: Path | None = None,
    progress: bool = False,
) -> Outcome:
    """Train one run and score it.

    `log` receives keyword records for the history; `folder` is where a tracker may write. The random
    streams (P, head, order, dropout) are seeded from hash(seed, name), the last two anew for each epoch.
    Raises RunError where a loss is not finite.
    """
    began = time.perf_counter()
    precision = resolve_precision(spec.train.precision)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process trains runs of several precisions
    tracker = spec.tracker if spec.tracker != "none" and folder is not None else None
    accelerator = Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no", log_with=tracker, project_dir=folder
    )  # fmt: skip
    if tracker:
        accelerator.init_trackers(
            "idim", {"run": spec.run_id, "d": spec.d or 0, "lr": spec.lr, "seed": spec.seed}
        )

    def note(step: int, **values: float) -> None:
        log(step=step, **values)
        accelerator.log(values, step=step)

    model = inputs.fresh_model(spec.seed).to(accelerator.device)
    dtype = torch.bfloat16 if precision == "pure_bf16" else None
    space: Full | Subspace
    if spec.subspace.kind == "full":
        space = Full(model.to(dtype) if dtype else model)
    else:
        assert spec.d is not None
        space = Subspace(
            model, spec.subspace, spec.d, spec.seed, spec.projection, head=inputs.head, dtype=dtype
        )  # fmt: skip
    model.train()

    optimizer = make_optimizer(space, model, spec)
    steps = total_steps(spec, len(inputs.train))
    schedule = linear_schedule(optimizer, steps, spec.train.warmup)
    eval_steps = {math.ceil(steps * (i + 1) / spec.train.evals) for i in range(spec.train.evals)}
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    patience = Patience(spec.train.patience)
    eval_seconds = 0.0
    losses: list[Tensor] = []
    scores: dict[str, float] = {}
    step = epoch = 0

    progress_bar = tqdm(total=steps, desc=spec.run_id, unit="step", disable=not progress, leave=False)
    with closing(space), closing(progress_bar) as bar:
        while step < steps and not patience.spent:
            torch.manual_seed(stream_seed(spec.seed, f"dropout/{epoch}"))
            order = torch.Generator().manual_seed(stream_seed(spec.seed, f"order/{epoch}"))
            epoch_batches = batches(inputs.train, spec.train.batch_size, order)
            for i in range(0, len(epoch_batches), spec.train.accumulate):
                micro_batches = epoch_batches[i : i + spec.train.accumulate]
                n_rows = sum(map(len, micro_batches))
                space.write()
                for rows in micro_batches:
                    batch = {k: v.to(accelerator.device) for k, v in collate(inputs.train, rows).items()}
                    with accelerator.autocast():
                        loss = model(**batch).loss * (len(rows) / n_rows)
                    loss.backward()
                    losses.append(loss.detach())
                space.collect()
                nn.utils.clip_grad_norm_(trained, spec.train.max_grad_norm)
                optimizer.step()
                lr = float(schedule.get_last_lr()[0])
                schedule.step()
                optimizer.zero_grad()
                step += 1
                bar.update()
                if step % LOSS_EVERY == 0 or step == steps:
                    value = torch.stack(losses).sum().item() / (step % LOSS_EVERY or LOSS_EVERY)
                    losses.clear()
                    _finite(value, f"the loss of the steps up to {step} of {steps}", spec)
                    bar.set_postfix(loss=f"{value:.3f}")
                    record: dict[str, float] = {"epoch": epoch, "loss": value, "lr": lr}
                    if isinstance(space, Subspace):
                        norm = space.theta.detach().norm().item()
                        _finite(norm, f"the length of θ after step {step} of {steps}", spec)
                        record["theta_norm"] = norm
                    note(step, **record)
                if step in eval_steps:
                    start = time.perf_counter()
                    space.write()
                    predicted, loss_value = evaluate(
                        model, inputs.validation, accelerator, spec.train.eval_batch_size
                    )  # fmt: skip
                    _finite(loss_value, f"the validation loss after step {step} of {steps}", spec)
                    scores = metrics.score(spec.task.metrics, predicted, inputs.validation.labels)
                    note(
                        step=step,
                        epoch=epoch,
                        eval_loss=loss_value,
                        **{f"eval_{k}": v for k, v in scores.items()},
                    )
                    patience.see(scores[spec.task.metrics[0]], scores, trained)
                    eval_seconds += time.perf_counter() - start
                if step == steps or patience.spent:
                    break
            epoch += 1

    if patience.limit is not None:
        scores = patience.restore(trained)
        space.write()
    holdout = None
    if inputs.holdout is not None:
        predicted, _ = evaluate(model, inputs.holdout, accelerator, spec.train.eval_batch_size)
        holdout = metrics.score(spec.task.metrics, predicted, inputs.holdout.labels)
    if tracker:
        accelerator.end_training()
    seconds = {"total": time.perf_counter() - began, "evaluation": eval_seconds}
    return Outcome(
        metrics=scores, holdout=holdout, steps=step, d=space.d, m=space.m, D=space.D,
        projection_version=space.version if isinstance(space, Subspace) else None, precision=precision,
        device=str(accelerator.device), seconds=seconds, tensors=_tensors_to_keep(space, model, spec),
    )  # fmt: skip


def _finite(value: float, what: str, spec: RunSpec) -> float:
    """`value`; raises RunError where it is infinite or NaN."""
    if not math.isfinite(value):
        raise RunError(f"{what} is {value}: diverged at lr={spec.lr:g}; try a smaller lr")
    return value


def _tensors_to_keep(space: Full | Subspace, model: nn.Module, spec: RunSpec) -> dict[str, Tensor]:
    if isinstance(space, Full):
        named = model.named_parameters() if spec.train.keep_weights else ()
        return {name: p.detach().cpu().contiguous() for name, p in named}
    kept = {"theta": space.theta}
    if space.lam is not None:
        kept["lam"] = space.lam
    kept |= {f"head.{i}": p for i, p in enumerate(space.direct)}
    return {name: p.detach().float().cpu().contiguous() for name, p in kept.items()}


class Patience:
    """Stop after `limit` evaluations without a better score, and keep the best. None never stops."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.best = -math.inf
        self.waited = 0
        self._scores: dict[str, float] = {}
        self._weights: list[Tensor] = []

    @property
    def spent(self) -> bool:
        return self.limit is not None and self.waited >= self.limit

    def see(self, score: float, scores: dict[str, float], weights: list[nn.Parameter]) -> None:
        if self.limit is None:
            return
        if score > self.best:
            self.best, self.waited, self._scores = score, 0, scores
            self._weights = [w.detach().clone() for w in weights]
        else:
            self.waited += 1

    @torch.no_grad()
    def restore(self, weights: list[nn.Parameter]) -> dict[str, float]:
        """Put the best evaluation's weights back and return its scores."""
        for weight, best in zip(weights, self._weights, strict=True):
            weight.copy_(best)
        return self._scores
