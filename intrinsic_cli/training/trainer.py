"""The training loop: one run from its spec to its scores, visible from top to bottom."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from tqdm import tqdm

from intrinsic_cli import __version__
from intrinsic_cli.errors import RunError
from intrinsic_cli.projections import versions
from intrinsic_cli.spec import RunSpec, stream_seed
from intrinsic_cli.subspace.attach import Full, Subspace
from intrinsic_cli.tasks import metrics
from intrinsic_cli.tasks.batches import Encoded, batches, collate
from intrinsic_cli.training import ranks, snapshot
from intrinsic_cli.training.inputs import Inputs
from intrinsic_cli.training.snapshot import Snapshot
from intrinsic_cli.training.stop import Stop

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
    resumed: list[int]  # steps at which the run was taken up again
    processes: int
    sent_bytes: int  # gradients that each process handed over per step, 0 for one process
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


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Learning rate of `step` (from 0) ÷ the rate asked for: up over the first `warmup` of the steps, then
    down towards 0 behind the last."""
    rise = math.ceil(warmup * steps)
    return (step + 1) / (rise + 1) if step < rise else (steps - step) / max(1, steps - rise)


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
    loss = 0.0
    with torch.inference_mode():
        for rows in ranks.share(batches(encoded, batch_size, None)):
            batch = {k: v.to(accelerator.device) for k, v in collate(encoded, rows).items()}
            with accelerator.autocast():
                output = model(**batch)
            logits = output.logits.float()
            predictions[rows] = (logits.squeeze(-1) if regression else logits.argmax(-1)).cpu().numpy()
            loss += output.loss.item() * len(rows)
    model.train()
    everybody = ranks.total(torch.from_numpy(predictions).to(accelerator.device)).cpu().numpy()
    loss = ranks.total(torch.tensor(loss, dtype=torch.float64, device=accelerator.device)).item()
    return everybody, loss / len(encoded)


def kin(spec: RunSpec, inputs: Inputs) -> dict[str, Any]:
    """What must be the same where a run stopped and where it goes on, or its numbers would be of two kinds."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return {
        "precision": resolve_precision(spec.train.precision),
        "device": device.type if device else "cpu",
        "processes": ranks.count(),
        "torch": torch.__version__,
        "transformers": version("transformers"),  # which draws the head
        "idim": __version__,
        "draw": versions(spec.projection.kind)[-1],
        "weights": inputs.base.weights_hash,
        "data": inputs.data_hash,
    }


@dataclass
class Position:
    """Where the loop is: optimizer steps done, and the epoch and batch that come next."""

    step: int = 0
    epoch: int = 0
    batch: int = 0


def train(
    spec: RunSpec,
    inputs: Inputs,
    log: Callable[..., None],
    *,
    folder: Path | None = None,
    progress: bool = False,
    save: Callable[[Snapshot], None] | None = None,
    resume: Snapshot | None = None,
    stop: Stop | None = None,
) -> Outcome:
    """Train one run and score it.

    `log` receives keyword records for the history; `folder` is where a tracker may write. `save` receives a
    snapshot after every epoch and when `stop` is requested; `resume` is one to go on from, of the same `kin`.
    The random streams (P, head, order, dropout) are seeded from hash(seed, name), the last two anew for each
    epoch. Under `torchrun` the processes share every batch.
    Raises RunError where a loss is not finite, and Stopped.
    """
    began = time.perf_counter()
    precision = resolve_precision(spec.train.precision)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process trains runs of several precisions
    first = ranks.rank() == 0
    tracker = spec.tracker if spec.tracker != "none" and folder is not None and first else None
    accelerator = Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no", log_with=tracker, project_dir=folder
    )  # fmt: skip

    def note(step: int, **values: float) -> None:
        log(step=step, **values)
        accelerator.log(values, step=step)

    model = inputs.fresh_model(spec.space_seed).to(accelerator.device)
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
    rates = [group["lr"] for group in optimizer.param_groups]
    steps = total_steps(spec, len(inputs.train))
    eval_steps = {math.ceil(steps * (i + 1) / spec.train.evals) for i in range(spec.train.evals)}
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    patience = Patience(spec.train.patience)
    belongs_to = kin(spec, inputs)
    seconds = {"total": 0.0, "evaluation": 0.0}
    losses: list[Tensor] = []
    scores: dict[str, float] = {}
    resumed: list[int] = []
    at = Position()
    sent_bytes = 0
    if resume is not None:
        snapshot.restore(resume.tensors, trained, optimizer)
        patience.restore_state(resume, trained)
        at = Position(**resume.state["position"])
        losses = list(resume.tensors["losses"].to(accelerator.device) * first)  # their sum over the processes
        scores, seconds = resume.state["scores"], resume.state["seconds"]
        resumed = [*resume.state["resumed"], at.step]

    def take_snapshot() -> Snapshot:
        tensors = snapshot.collect(trained, optimizer) | patience.tensors()
        tensors["losses"] = ranks.total(torch.stack(losses)).cpu() if losses else torch.zeros(0)
        spent = seconds | {"total": seconds["total"] + time.perf_counter() - began}
        state = {
            "kin": belongs_to,
            "position": asdict(at),
            "scores": scores,
            "seconds": spent,
            "resumed": resumed,
        }
        return Snapshot(tensors, state | {"patience": patience.state()})

    progress_bar = tqdm(
        total=steps, initial=at.step, desc=spec.run_id, unit="step", disable=not progress, leave=False
    )
    with closing(space), _tracked(accelerator, spec), closing(progress_bar) as bar:
        while at.step < steps and not patience.spent:
            stream = f"dropout/{at.epoch}" if first else f"dropout/{at.epoch}/{ranks.rank()}"
            torch.manual_seed(stream_seed(spec.seed, stream))
            order = torch.Generator().manual_seed(stream_seed(spec.seed, f"order/{at.epoch}"))
            epoch_batches = batches(inputs.train, spec.train.batch_size, order)
            if at.batch and resume is not None:
                snapshot.restore_rng(resume.tensors)
            for i in range(at.batch, len(epoch_batches), spec.train.accumulate):
                micro_batches = epoch_batches[i : i + spec.train.accumulate]
                n_rows = sum(map(len, micro_batches))
                space.write()
                for rows in micro_batches:
                    mine = ranks.share(rows)
                    # Every process has the same gradients to sum, even one whose share is empty.
                    batch = {
                        k: v.to(accelerator.device)
                        for k, v in collate(inputs.train, mine or rows[:1]).items()
                    }
                    with accelerator.autocast():
                        loss = model(**batch).loss * (len(mine) / n_rows)
                    loss.backward()
                    losses.append(loss.detach())
                space.collect()
                sent_bytes = ranks.total_gradients(trained)
                nn.utils.clip_grad_norm_(trained, spec.train.max_grad_norm)
                factor = rate_factor(at.step, steps, spec.train.warmup)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                optimizer.step()
                optimizer.zero_grad()
                at.step += 1
                at.batch = i + spec.train.accumulate
                bar.update()
                looked = at.step % LOSS_EVERY == 0 or at.step == steps
                if looked:
                    n_steps = at.step % LOSS_EVERY or LOSS_EVERY
                    value = ranks.total(torch.stack(losses).sum()).item() / n_steps
                    losses.clear()
                    _finite(value, f"the loss of the steps up to {at.step} of {steps}", spec)
                    bar.set_postfix(loss=f"{value:.3f}")
                    record: dict[str, float] = {"epoch": at.epoch, "loss": value, "lr": spec.lr * factor}
                    if isinstance(space, Subspace):
                        norm = space.theta.detach().norm().item()
                        _finite(norm, f"the length of θ after step {at.step} of {steps}", spec)
                        record["theta_norm"] = norm
                    note(at.step, **record)
                if at.step in eval_steps:
                    start = time.perf_counter()
                    space.write()
                    predicted, loss_value = evaluate(
                        model, inputs.validation, accelerator, spec.train.eval_batch_size
                    )  # fmt: skip
                    _finite(loss_value, f"the validation loss after step {at.step} of {steps}", spec)
                    scores = metrics.score(spec.task.metrics, predicted, inputs.validation.labels)
                    note(
                        step=at.step,
                        epoch=at.epoch,
                        eval_loss=loss_value,
                        **{f"eval_{k}": v for k, v in scores.items()},
                    )
                    patience.see(scores[spec.task.metrics[0]], scores, trained)
                    seconds["evaluation"] += time.perf_counter() - start
                if at.step == steps or patience.spent:
                    break
                # Several processes agree on when to leave, where they meet anyway.
                if stop is not None and (ranks.count() == 1 or looked) and ranks.told(stop.requested):
                    # Each has a random stream of its own, so several go on from the last epoch.
                    if save is not None and ranks.count() == 1:
                        save(take_snapshot())
                    stop.request(stop.signal or signal.SIGTERM)
                    stop.raise_if_requested(f"after step {at.step} of {steps} of {spec.run_id}")
            else:
                at.epoch, at.batch = at.epoch + 1, 0
                if save is not None or ranks.count() > 1:
                    snapshot_now = take_snapshot()  # in which all processes have a part
                    if save is not None:
                        save(snapshot_now)

    if patience.limit is not None:
        scores = patience.restore(trained)
        space.write()
    holdout = None
    if inputs.holdout is not None:
        predicted, _ = evaluate(model, inputs.holdout, accelerator, spec.train.eval_batch_size)
        holdout = metrics.score(spec.task.metrics, predicted, inputs.holdout.labels)
    seconds["total"] += time.perf_counter() - began
    return Outcome(
        metrics=scores, holdout=holdout, steps=at.step, d=space.d, m=space.m, D=space.D,
        projection_version=space.version if isinstance(space, Subspace) else None, precision=precision,
        device=str(accelerator.device), seconds=seconds, resumed=resumed, processes=ranks.count(),
        sent_bytes=sent_bytes, tensors=_tensors_to_keep(space, model, spec),
    )  # fmt: skip


@contextmanager
def _tracked(accelerator: Accelerator, spec: RunSpec) -> Iterator[None]:
    """Start the trackers that the accelerator was made with, and finish them however the run ends."""
    accelerator.init_trackers(
        "idim", {"run": spec.run_id, "d": spec.d or 0, "lr": spec.lr, "seed": spec.seed}
    )
    try:
        yield
    finally:
        for tracker in accelerator.trackers:  # `end_training` would part the processes as well
            tracker.finish()


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

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps beside `tensors`: JSON."""
        return {"best": self.best if self._weights else None, "waited": self.waited, "scores": self._scores}

    def tensors(self) -> dict[str, Tensor]:
        """The best evaluation's weights by name, for a snapshot."""
        return {f"best.{i}": w.cpu().contiguous() for i, w in enumerate(self._weights)}

    def restore_state(self, saved: Snapshot, weights: list[nn.Parameter]) -> None:
        """Go on from a snapshot."""
        state = saved.state["patience"]
        if state["best"] is not None:
            self.best, self.waited, self._scores = state["best"], state["waited"], state["scores"]
            self._weights = [saved.tensors[f"best.{i}"].to(w.device) for i, w in enumerate(weights)]

    @torch.no_grad()
    def restore(self, weights: list[nn.Parameter]) -> dict[str, float]:
        """Put the best evaluation's weights back and return its scores."""
        for weight, best in zip(weights, self._weights, strict=True):
            weight.copy_(best)
        return self._scores
