"""The training loop: one run from its spec to its scores, visible from top to bottom."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from tqdm import tqdm

from intrinsic_cli.errors import Pruned, RunError
from intrinsic_cli.models import quantized
from intrinsic_cli.spec import RunSpec, stream_seed
from intrinsic_cli.statistics.pruning import Limit, first
from intrinsic_cli.subspace.attach import Full, Subspace
from intrinsic_cli.tasks.batches import batches
from intrinsic_cli.tasks.metrics import Answers
from intrinsic_cli.tasks.rows import Encoded
from intrinsic_cli.training import ranks, snapshot
from intrinsic_cli.training.clipping import clip
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.evaluation import evaluate
from intrinsic_cli.training.inputs import Inputs
from intrinsic_cli.training.patience import Patience
from intrinsic_cli.training.schedule import evaluation_steps, rate_factor, total_steps
from intrinsic_cli.training.snapshot import Snapshot, resume_key
from intrinsic_cli.training.stop import Stop

LOSS_EVERY = 10  # optimizer steps between two looks at the loss, each of which waits for the device


@dataclass
class Outcome:
    """What a run measured. Scores are on the validation split, `holdout` on rows held out of training.

    `answers` are the tables (`tasks.metrics.Answers`) that the scores are of, by split: any metric of any rows
    follows from them.
    """

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
    train: dict[str, float] | None = None  # scores on the rows trained on, where the spec asks for them
    tensors: dict[str, Tensor] = field(repr=False, default_factory=dict)
    answers: dict[str, Answers] = field(repr=False, default_factory=dict)


@dataclass
class Position:
    """Where the loop is: optimizer steps done, and the epoch and batch that come next."""

    step: int = 0
    epoch: int = 0
    batch: int = 0


def make_optimizer(space: Full | Subspace, spec: RunSpec) -> Optimizer:
    """AdamW on all weights, vectors without decay, for full fine-tuning; else Adam on θ, λ and head."""
    if isinstance(space, Full):
        weights = list(space.direct)
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


def ignore(**record: float) -> None:
    """A history that nobody keeps."""


class Trainer:
    """One run: a model in its space, the optimizer of what is trained, and where the loop is.

    `log` receives keyword records for the history. `save` receives a snapshot after every epoch and when a
    stop is requested; `load_state_dict` goes on from one, of the same `resume_key`; `beat` is called after every
    step, and every batch of an evaluation; an evaluation at which one of the `limits` ends the run is its last. The
    random streams
    (P, head, order, dropout) are seeded from hash(seed, name), the last two anew for each epoch. Under
    `torchrun` the processes share every batch. `run` may be called once.
    """

    def __init__(
        self,
        spec: RunSpec,
        inputs: Inputs,
        *,
        log: Callable[..., None] = ignore,
        save: Callable[[Snapshot], None] | None = None,
        beat: Callable[[], None] = ignore,
        progress: bool = False,
        compute: Compute | None = None,
        limits: Sequence[Limit] = (),
    ) -> None:
        self._began = time.perf_counter()
        self.spec, self.inputs = spec, inputs
        self.log, self.save, self.beat, self.limits = log, save, beat, limits
        self.compute = compute or Compute.here(spec.train.precision)
        self.model = quantized.placed(inputs.fresh_model(spec.space_seed, spec.adapter), self.compute.device)
        self.space = self._make_space()
        self.model.train()
        self.optimizer = make_optimizer(self.space, spec)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.trained: list[nn.Parameter] = [p for g in self.optimizer.param_groups for p in g["params"]]
        self.steps = total_steps(spec, len(inputs.train))
        self.eval_steps = evaluation_steps(self.steps, spec.train.evals)
        self.patience = Patience(spec.train.patience, inputs.task.higher_is_better)
        self.at = Position()
        self.losses: list[Tensor] = []  # of the batches since the last look, as this process saw them
        self.scores: dict[str, float] = {}
        self.answers: Answers = {}  # that the scores are of
        self.seconds = {"total": 0.0, "evaluation": 0.0}  # of earlier attempts, and of evaluations so far
        self.resumed: list[int] = []
        self.sent_bytes = 0
        self._mid_epoch: dict[str, Tensor] = {}  # the random state to take up inside an epoch
        self._bar = tqdm(total=self.steps, desc=spec.run_id, unit="step", disable=not progress, leave=False)

    def _make_space(self) -> Full | Subspace:
        spec, dtype = self.spec, self.compute.weights
        if spec.subspace.kind == "full":
            return Full(self.model, dtype)
        assert spec.d is not None
        head = self.inputs.head
        return Subspace(self.model, spec.subspace, spec.d, spec.seed, spec.projection, head=head, dtype=dtype)

    @property
    def finished(self) -> bool:
        """Whether there is no step left to take."""
        return self.at.step >= self.steps or self.patience.spent

    def run(self, stop: Stop | None = None) -> Outcome:
        """Train to the end and score. Raises RunError where a loss is not finite, Stopped, and Pruned."""
        with closing(self.space), closing(self._bar):
            if self.at.step in self.eval_steps and not self.finished:  # taken up behind an evaluation
                self._judge()
            while not self.finished:
                self._epoch(stop)
        if self.patience.limit is not None:
            self.scores, self.answers = self.patience.restore(self.trained)
            self.space.write()
        answers = {"validation": self.answers}
        if self.inputs.holdout is not None:
            answers["holdout"], _ = self.evaluate(self.inputs.holdout)
        train = None
        if self.spec.train.score_train:
            train = self.inputs.task.score(self.evaluate(self.inputs.train)[0])
        return self._outcome(answers, train)

    def _epoch(self, stop: Stop | None) -> None:
        """Go through what is left of the epoch, or to the run's end."""
        for micro_batches in self._steps_of_epoch():
            self.step(micro_batches)
            looked = self.at.step % LOSS_EVERY == 0 or self.at.step == self.steps
            if looked:
                self._look()
            if self.at.step in self.eval_steps:
                self._score()
            if self.finished:
                return
            if self.at.step in self.eval_steps:
                self._judge()
            # Several processes agree on when to leave, where they meet anyway.
            if stop is not None and (ranks.count() == 1 or looked) and ranks.told(stop.requested):
                self._leave(stop)
        self.at.epoch, self.at.batch = self.at.epoch + 1, 0
        if self.save is not None or ranks.count() > 1:
            state = self.state_dict()  # in which all processes have a part
            if self.save is not None:
                self.save(state)

    def _steps_of_epoch(self) -> Iterator[list[list[int]]]:
        """The rows of each step that the epoch still has, batch by batch."""
        spec, at = self.spec, self.at
        stream = f"dropout/{at.epoch}" if ranks.rank() == 0 else f"dropout/{at.epoch}/{ranks.rank()}"
        torch.manual_seed(stream_seed(spec.seed, stream))
        order = torch.Generator().manual_seed(stream_seed(spec.seed, f"order/{at.epoch}"))
        epoch_batches = batches(self.inputs.train, spec.train.batch_size, order)
        if at.batch and self._mid_epoch:
            snapshot.restore_rng(self._mid_epoch)
        while micro_batches := epoch_batches[at.batch : at.batch + spec.train.accumulate]:
            at.batch += spec.train.accumulate
            yield micro_batches

    def step(self, micro_batches: list[list[int]]) -> None:
        """One optimizer step on training rows, whose gradients are those of all rows in one batch."""
        task, train = self.inputs.task, self.inputs.train
        whole = sum(task.weight(train, rows) for rows in micro_batches)
        self.space.write()
        for rows in micro_batches:
            mine = ranks.share(rows)
            # Every process has the same gradients to sum, even one whose share is empty.
            batch = self.compute.batch(task.batch(train, mine or rows[:1]))
            with self.compute.autocast():
                loss = task.loss(self.model, batch) * (task.weight(train, mine) / whole)
            loss.backward()
            self.space.end_pass()
            self.losses.append(loss.detach())
        self.space.collect()
        self.sent_bytes = ranks.total_gradients(self.trained)
        clip(self.space, self.trained, self.spec.train)
        factor = self._rate_factor(self.at.step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.at.step += 1
        self.beat()
        self._bar.update()

    def evaluate(self, encoded: Encoded) -> tuple[Answers, float]:
        """The answers to encoded rows, and their mean loss, with the weights as written."""
        batch_size = self.spec.train.eval_batch_size
        return evaluate(self.inputs.task, self.model, encoded, self.compute, batch_size, self.beat)

    def state_dict(self) -> Snapshot:
        """All that the rest of the run depends on."""
        tensors = snapshot.collect(self.trained, self.optimizer) | self.patience.tensors()
        tensors["losses"] = ranks.total(torch.stack(self.losses)).cpu() if self.losses else torch.zeros(0)
        state = {
            "resume_key": resume_key(self.spec, self.inputs),
            "position": asdict(self.at),
            "steps": self.steps,
            "scores": self.scores,
            "seconds": self._spent(),
            "resumed": self.resumed,
            "patience": self.patience.state(),
        }
        return Snapshot(tensors, state)

    def load_state_dict(self, saved: Snapshot) -> None:
        """Go on from where a run of the same `resume_key` was."""
        snapshot.restore(saved.tensors, self.trained, self.optimizer)
        self.patience.restore_state(saved, self.trained)
        self.at = Position(**saved.state["position"])
        first = ranks.rank() == 0
        self.losses = list(saved.tensors["losses"].to(self.compute.device) * first)  # summed over processes
        self.scores, self.seconds = saved.state["scores"], saved.state["seconds"]
        self.resumed = [*saved.state["resumed"], self.at.step]
        self._mid_epoch = {name: t for name, t in saved.tensors.items() if name.startswith("rng.")}
        self._bar.n = self._bar.initial = self.at.step

    def _look(self) -> None:
        """Log the mean loss of the steps since the last look."""
        n_steps = self.at.step % LOSS_EVERY or LOSS_EVERY
        value = ranks.total(torch.stack(self.losses).sum()).item() / n_steps
        self.losses.clear()
        self._finite(value, f"the loss of the steps up to {self.at.step} of {self.steps}")
        self._bar.set_postfix(loss=f"{value:.3f}")
        rate = self.spec.lr * self._rate_factor(self.at.step - 1)
        record: dict[str, float] = {"epoch": self.at.epoch, "loss": value, "lr": rate}
        if isinstance(self.space, Subspace):
            norm = self.space.theta.detach().norm().item()
            self._finite(norm, f"the length of θ after step {self.at.step} of {self.steps}")
            record["theta_norm"] = norm
        self.log(step=self.at.step, steps=self.steps, **record)

    def _score(self) -> None:
        """Evaluate on the validation rows."""
        start = time.perf_counter()
        self.space.write()
        self.answers, loss = self.evaluate(self.inputs.validation)
        self._finite(loss, f"the validation loss after step {self.at.step} of {self.steps}")
        self.scores = self.inputs.task.score(self.answers)
        named = {"eval_loss": loss, **{f"eval_{name}": value for name, value in self.scores.items()}}
        self.log(step=self.at.step, steps=self.steps, epoch=self.at.epoch, **named)
        self.patience.see(self.scores[self.inputs.task.primary], self.scores, self.answers, self.trained)
        self.seconds["evaluation"] += time.perf_counter() - start

    def _judge(self) -> None:
        """Save where the run stands and raise Pruned, where its score says that it can't matter."""
        score = self.scores[self.inputs.task.primary]
        if self.patience.best is not None:  # which the run would report
            score = self.patience.best
        # The first process has the limits, and all end together.
        if (limit := ranks.told(first(self.limits, self.at.step, score))) is not None:
            state = self.state_dict()  # in which all processes have a part
            if self.save is not None:
                self.save(state)
            raise Pruned({"step": self.at.step, "score": score, "kind": limit.kind, "reason": limit.reason})

    def _leave(self, stop: Stop) -> None:
        """Save where the run stands and raise Stopped."""
        # Each process has a random stream of its own, so several go on from the last epoch.
        if self.save is not None and ranks.count() == 1:
            self.save(self.state_dict())
        stop.request(stop.signal or signal.SIGTERM)
        stop.raise_if_requested(f"after step {self.at.step} of {self.steps} of {self.spec.run_id}")

    def _rate_factor(self, step: int) -> float:
        return rate_factor(step, self.steps, self.spec.train.warmup)

    def _spent(self) -> dict[str, float]:
        """`seconds`, with those of this attempt up to now."""
        return self.seconds | {"total": self.seconds["total"] + time.perf_counter() - self._began}

    def _finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise RunError(f"{what} is {value}: diverged at lr={self.spec.lr:g}; try a smaller lr")

    def _outcome(self, answers: dict[str, Answers], train: dict[str, float] | None) -> Outcome:
        space, held_out = self.space, answers.get("holdout")
        base = quantized.count(self.inputs.base.model)
        holdout = None if held_out is None else self.inputs.task.score(held_out)
        return Outcome(
            metrics=self.scores, holdout=holdout, steps=self.at.step, d=space.d, m=space.m,
            D=base if self.spec.adapter else space.D,
            projection_version=space.version,
            precision=self.compute.precision, device=str(self.compute.device), seconds=self._spent(),
            resumed=self.resumed, processes=ranks.count(), sent_bytes=self.sent_bytes,
            train=train, tensors=self._tensors_to_keep(), answers=answers,
        )  # fmt: skip

    def _tensors_to_keep(self) -> dict[str, Tensor]:
        """What is trained, in float32; of full fine-tuning the weights where the spec keeps them."""
        if self.spec.is_full:
            named = self.model.named_parameters() if self.spec.train.keep_weights else ()
            return {name: p.detach().cpu().contiguous() for name, p in named}
        return {name: p.detach().float().cpu().contiguous() for name, p in self.space.named().items()}
