"""Generalization bounds of finished runs: quantise, code, decode, rebuild, count the errors, bound."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from intrinsic_cli.bounds import gaussian, groups, qat, theory
from intrinsic_cli.bounds.bounded import Bounded, Gaussian, Options, Sample
from intrinsic_cli.bounds.coder import delta as code_of
from intrinsic_cli.bounds.description import Description, Setting, choices, decode, describe
from intrinsic_cli.bounds.seen import seen
from intrinsic_cli.bounds.theory import Bound
from intrinsic_cli.errors import ConfigError, DataError, IdimError, ModelError, StoreError
from intrinsic_cli.finetunes.file import ASKS, FineTune
from intrinsic_cli.finetunes.rebuild import rebuilt
from intrinsic_cli.finetunes.scoring import answer
from intrinsic_cli.result import RunResult
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import RunSpec, stream_seed
from intrinsic_cli.tasks import splits
from intrinsic_cli.tasks.rows import Encoded, Part
from intrinsic_cli.tasks.task import KINDS
from intrinsic_cli.training.inputs import Inputs, Loader

DEFAULT = Options()


@dataclass(frozen=True)
class _Candidate:
    """A run and the training rows that it saw, by hash and by where they came from."""

    run: RunResult
    train_hash: str | None

    @property
    def source(self) -> tuple[object, ...]:
        task = self.run.spec.task
        return (task.name if task.path is None else task.path, task.config, task.revision, task.train)

    @property
    def setting(self) -> tuple[object, ...]:
        """What its decoder has to have (`Setting`) and the message does not say."""
        run, task = self.run, self.run.spec.task
        asks = (getattr(task, key) for key in ASKS if key != "metrics")
        return (
            run.model_hash, run.settings_hash, run.spec.data.max_length, task.kind, task.labels, self.train_hash,
            *asks,
        )  # fmt: skip


def bounded(
    results: Sequence[RunResult],
    options: Options = DEFAULT,
    *,
    d90s: Mapping[str, int] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Bounded]:
    """A bound for every subspace run among `results`, by task, model and d, each as soon as it is there.

    `d90s` is, by run_id, the d90 of the curve a run belongs to. `say` is told of runs that are left out: those of
    other tasks, and those whose data or files are no longer what they were. Raises StoreError where no run can be
    bounded, the reason of the last where each has one, and ConfigError at an option that can't be used.
    """
    unfit = {r.run_id: why for r in results if r.spec.subspace.has_theta and (why := _unfit(r.spec))}
    runs = [r for r in results if r.spec.subspace.has_theta and r.run_id not in unfit]
    if not runs:
        raise StoreError(
            "no finished subspace run of a classification task without adapter here; bounds need one"
        )
    for run_id, why in unfit.items():
        say(f"{run_id}: no bound: {why}")
    runs.sort(key=lambda r: (r.data_hash or "", r.model_hash or "", r.spec.d or 0, r.run_id))
    read, load = _Rows(), Loader()
    candidates = [_Candidate(run, _train_hash(read, run.spec)) for run in runs]
    failure: IdimError | None = None
    made = 0
    for candidate in candidates:
        kin = [c for c in candidates if c.train_hash == candidate.train_hash or c.source == candidate.source]
        search = theory.search_bits(
            {"base model, tokenizer, text, words and rows": len({c.setting for c in kin})}
        )
        run = candidate.run
        try:
            one = _One(run, read(run.spec), load(run.spec), options, search, len(kin), say)
            found = one.bounded((d90s or {}).get(run.run_id))
        except (DataError, ModelError, StoreError) as error:
            say(f"{run.run_id}: no bound: {error}")
            failure = error
            continue
        made += 1
        yield found
    if failure is not None and not made:
        raise failure


def _unfit(spec: RunSpec) -> str | None:
    """Why a subspace run can't be bounded, or None."""
    if not KINDS[spec.task.kind].classes:
        return f"a task of {spec.task.kind} has no classes to be right or wrong about"
    # The message of a run (`description`) does not say which adapter its numbers belong to.
    return "its message would not say which adapter its numbers belong to" if spec.adapter else None


class _Rows:
    """Keeps the rows that were read last."""

    def __init__(self) -> None:
        self._key: object = None

    def __call__(self, spec: RunSpec) -> splits.Rows:
        if (key := (spec.task, spec.data)) != self._key:
            self._rows, self._key = splits.load(*key), key
        return self._rows


def _train_hash(read: _Rows, spec: RunSpec) -> str | None:
    """SHA-256 of the training rows, whatever their order; None where they can't be read any more.

    Which rows validate makes no other sample.
    """
    try:
        train = read(spec).train
    except DataError:
        return None
    rows = sorted(map(repr, zip(train.said(), train.labels, strict=True)))
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogatepass")).hexdigest()


def setting_of(spec: RunSpec, inputs: Inputs) -> Setting:
    """What a decoder of the messages of `spec` has beforehand; nothing of it was found by training."""
    named = dict(inputs.base.model.named_parameters())
    return Setting(
        spec.model, inputs.base.weights_hash, spec.data.max_length, inputs.label_names, spec.task.kind,
        spec.task.name, spec.task.metrics[0], tuple(tuple(named[name].shape) for name in inputs.head),
    )  # fmt: skip


class _One:
    """The bounds of one run."""

    def __init__(
        self, run: RunResult, rows: splits.Rows, inputs: Inputs, options: Options,
        search: Mapping[str, float], runs: int, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        settings = run.settings_hash or inputs.base.settings_hash  # earlier versions recorded none
        now = (inputs.data_hash, inputs.base.weights_hash, inputs.base.settings_hash)
        if now != (run.data_hash, run.model_hash, settings):
            raise DataError(f"the data or the base model of {run.run_id} have changed since it was trained")
        self.run, self.spec, self.rows, self.inputs, self.options = run, run.spec, rows, inputs, options
        self.search, self.runs, self.say = search, runs, say
        self.found = FineTune.of_run(RunDir(run.directory))
        self.setting = setting_of(run.spec, inputs)
        self.n = len(inputs.train)
        counts = np.bincount(inputs.train.labels, minlength=2)
        self.majority = 1 - float(counts.max()) / self.n

    def bounded(self, d90: int | None) -> Bounded:
        known, source = seen(self.spec.model, self.spec.task)
        if known == "yes":
            self.say(f"{self.run.run_id}: no bound is valid, the base model was trained on {source}")
        levels, description, screened = self._choose()
        samples = self._samples(description)
        risks = self._bound(samples["train"].errors, description)
        wrong = samples["train"].errors
        self.say(
            f"{self.run.run_id} K={levels}: {wrong} of {self.n} wrong, true error at most {risks[0].risk:.4f}"
        )
        return Bounded(
            run_id=self.run.run_id, spec=self.spec, levels=levels, description=description, search=self.search,
            runs=self.runs, train=samples["train"], validation=samples["validation"],
            others=samples.get("others"), majority_error=self.majority, bounds=risks,
            gaussian=self._gaussian(), screened=screened, seen=(known, source), d90=d90,
        )  # fmt: skip

    def _choose(self) -> tuple[int, Description, dict[int, float]]:
        """K, its message, and the bound that the screen promises of each K; none where nothing is to choose."""
        tried = list(self._messages())
        promised: dict[int, float] = {}
        if len(tried) > 1:
            self.say(f"{self.run.run_id}: choosing among {len(tried)} messages")
            for i, (_, described) in enumerate(tried):
                found = self._screen(decode(described.message, self.setting))
                promised[i] = self._bound(found, described)[0].risk
        levels, description = tried[min(promised, key=lambda i: promised[i], default=0)]
        screened: dict[int, float] = {}
        for i, risk in promised.items():
            screened[tried[i][0]] = min(risk, screened.get(tried[i][0], 1.0))
        return levels, description, screened

    def _messages(self) -> Iterator[tuple[int, Description]]:
        """A message for every K, and for an even K one with a mirrored codebook, which costs half as much."""
        for k in sorted(set(self.options.levels)):
            if steps := self.options.qat_steps:
                yield (
                    k,
                    describe(qat.finetune(self.found, self.spec, self.inputs, k, steps), k, mirrored=True),
                )
                continue
            for mirrored in (True, False) if k % 2 == 0 else (False,):
                yield k, describe(self.found, k, mirrored=mirrored)

    def _screen(self, found: FineTune) -> int:
        """Errors on all training rows, by those of the screen."""
        rows = self.inputs.train.first(self.options.screen or self.n)
        return round(self._errors(found, [rows])[0] / len(rows) * self.n)

    def _errors(self, found: FineTune, parts: Sequence[Encoded]) -> list[int]:
        task, size = self.inputs.task, self.spec.train.eval_batch_size
        with rebuilt(found, self.inputs) as (model, _):
            answers = [answer(task, model, part, found.precision, size) for part in parts]
        return [int(np.sum(~task.outcomes(each))) for each in answers]

    def _bound(self, errors: int, description: Description) -> tuple[Bound, ...]:
        bits = description.total + sum(self.search.values())
        return theory.bounds(errors, self.n, bits, self.majority, self.options.delta)

    def _samples(self, description: Description) -> dict[str, Sample]:
        """The decoded model on the rows that there are, each with the bits that its bound pays."""
        parts = {"train": self.inputs.train, "validation": self.inputs.validation}
        texts = {"train": self.rows.train, "validation": self.rows.validation}
        paid = {"train": description.total + sum(self.search.values()), "validation": 0.0}
        if self.inputs.holdout is not None:
            parts["others"], texts["others"] = self.inputs.holdout, self.rows.holdout
            paid["others"] = math.log2(self.runs)
        errors = self._errors(decode(description.message, self.setting), list(parts.values()))
        return {
            name: self._sample(wrong, texts[name], paid[name], grouped=name != "others")
            for name, wrong in zip(parts, errors, strict=True)
        }

    def _sample(self, errors: int, part: Part, bits: float, *, grouped: bool) -> Sample:
        nats = bits * math.log(2) - math.log(self.options.delta)
        rows = part.said()
        plain = Sample(
            len(part), errors, theory.binomial_inverse(errors, len(part), nats),
            repeats=len(rows) - len(set(rows)),
            trained=0 if part is self.rows.train else part.found_in(self.rows.train),
        )  # fmt: skip
        # Rows held out one by one share their groups with rows that were trained on.
        if self.options.groups == "none" or not grouped:
            return plain
        if self.options.groups == "phrases" and part.pairs is not None:
            raise ConfigError("--groups phrases needs rows of one text each; these are pairs; use texts")
        rooms: NDArray[np.int64] = (
            groups.phrase_groups(part.texts) if self.options.groups == "phrases" else groups.equal_texts(rows)
        )
        return replace(
            plain, grouped=groups.inverse(errors, len(part), rooms, nats), groups=len(rooms),
            effective=groups.effective(len(part), rooms),
        )  # fmt: skip

    def _gaussian(self) -> Gaussian | None:
        """One draw at the D that promises most on the screen, by other draws than those that chose D."""
        if not self.options.noise:
            return None
        tensors = {name: tensor.numpy() for name, tensor in self.found.tensors.items()}
        # What the prior has to know beside τ: the space, each size, and which of the table's runs is meant.
        named = len(choices(self.found)) + sum(len(code_of(tensor.size - 1)) for tensor in tensors.values())
        known = named + sum(self.search.values()) + math.log2(self.runs)

        def drawn(noise: float, stream: str) -> tuple[FineTune, float]:
            draw = gaussian.draw(tensors, noise, stream_seed(self.spec.seed, stream))
            moved = {name: torch.from_numpy(tensor) for name, tensor in draw.tensors.items()}
            return replace(self.found, tensors=moved), draw.bits + known

        noises = sorted(set(self.options.noise))
        promised = {}
        for noise in noises if len(noises) > 1 else []:
            found, bits = drawn(noise, f"screen/{noise}")
            promised[noise] = gaussian.bound(self._screen(found), self.n, bits, self.options.delta)
        best = min(promised, key=lambda noise: promised[noise], default=noises[0])
        found, bits = drawn(best, "bound")
        errors = self._errors(found, [self.inputs.train])[0]
        return Gaussian(best, bits, errors, gaussian.bound(errors, self.n, bits, self.options.delta))
