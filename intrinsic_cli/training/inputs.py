"""What a run trains on, loaded once for all the runs that share it: base model, tokenizer, encoded rows."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from intrinsic_cli.models import adapters, pretrained, quantized, soundness
from intrinsic_cli.models.pretrained import LoadedModel
from intrinsic_cli.spec import AdapterSpec, RunSpec
from intrinsic_cli.subspace.selection import free_dimensions
from intrinsic_cli.tasks import splits
from intrinsic_cli.tasks.regression import check_short
from intrinsic_cli.tasks.rows import Encoded
from intrinsic_cli.tasks.task import Task, task_of
from intrinsic_cli.training.device import resolve_precision

NO_ADAPTER = AdapterSpec()
KEPT = 2**29  # bytes of inputs that a process keeps beside those that it loads


@dataclass(frozen=True)
class Inputs:
    """A pristine base model and the encoded splits of one (model, task, data) cell of a study."""

    task: Task
    base: LoadedModel
    train: Encoded
    validation: Encoded
    holdout: Encoded | None
    label_names: tuple[str, ...]
    data_hash: str
    summary: str  # which files, rows and classes the data are, in one line

    @property
    def head(self) -> tuple[str, ...]:
        """Names of the tensors that were not pre-trained."""
        return self.base.head

    @property
    def nbytes(self) -> int:
        """Bytes of the weights and of the encoded rows."""
        weights = sum(p.nbytes for p in self.base.model.parameters())
        parts = [part for part in (self.train, self.validation, self.holdout) if part is not None]
        return weights + sum(part.nbytes for part in parts)

    def fresh_model(self, seed: int, adapter: AdapterSpec = NO_ADAPTER) -> nn.Module:
        """A model of its own around the base model's tensors, with the head and the adapter of `seed`.

        `Subspace` takes these tensors for θ_0 and both it and `Full` give the model others to train, so a run
        holds the pre-trained weights once. Train it by nothing else.
        """
        named = self.base.model.named_parameters()
        lent: dict[int, Any] = {
            id(p): nn.Parameter(p.data, p.requires_grad)
            for name, p in named
            if name not in self.base.head and p.is_floating_point()
        }
        model = copy.deepcopy(self.base.model, lent | quantized.lent(self.base.model))
        pretrained.draw_head(model, self.base.head, seed)
        adapters.attach(model, adapter, self.base.head, seed, self.base.idle)
        return model


Load = Callable[[RunSpec], Inputs]


class Loader:
    """Keeps the inputs of the last cells, at most KEPT bytes beside those of the newest. Runs that come cell by
    cell load each cell once, and a sweep whose cells are small trains on what it checked."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, Inputs] = OrderedDict()

    def __call__(self, spec: RunSpec) -> Inputs:
        key = spec.cell
        if key not in self._kept:
            while sum(inputs.nbytes for inputs in self._kept.values()) > KEPT:
                self._kept.popitem(last=False)  # its memory goes before the next is loaded
            self._kept[key] = load(spec)
        self._kept.move_to_end(key)
        return self._kept[key]


def check(specs: Sequence[RunSpec], load: Load) -> str:
    """Load the inputs that `specs` share and size every subspace. Returns what the rows are, in one line.

    Raises IdimError at what can't be used.
    """
    inputs = load(specs[0])
    models = {repr(NO_ADAPTER): inputs.base.model}
    for spec in specs:
        key = repr(spec.adapter)
        if key not in models:
            models[key] = inputs.fresh_model(spec.space_seed, spec.adapter)
        if spec.d is not None and spec.subspace.has_theta:
            free_dimensions(models[key], spec.subspace, spec.d, inputs.head)
    return inputs.summary


def load(spec: RunSpec) -> Inputs:
    """Load model and data of `spec`. Raises ConfigError, ModelError or DataError."""
    task = task_of(spec.task)
    rows = splits.load(spec.task, spec.data)
    task.check(rows.label_names)
    base = pretrained.load(spec.model, len(rows.label_names), rows.label_names, kind=task.kind)

    def encode(part: splits.Part) -> Encoded:
        encoded = task.encode(part, rows.label_names, base, spec.data.max_length)
        soundness.check_ids(spec.model.name, base.model, encoded.tokens, encoded.types)
        if len(encoded):
            longest = task.batch(encoded, [int(encoded.lengths.argmax())])
            soundness.check_longest(spec.model.name, base.model, longest)
        return encoded

    train, validation = encode(rows.train), encode(rows.validation)
    if spec.task.regression and resolve_precision(spec.train.precision) != "fp32":
        check_short(spec.task, validation.labels)
    return Inputs(
        task=task,
        base=base,
        train=train,
        validation=validation,
        holdout=encode(rows.holdout) if spec.data.holdout else None,
        label_names=rows.label_names,
        data_hash=rows.fingerprint,
        summary=rows.summary,
    )
