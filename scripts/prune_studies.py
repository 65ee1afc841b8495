"""What pruning saves and what it costs: small real studies, trained whole, and searched again over their histories.

    python scripts/prune_studies.py train ../shared/glue outputs/prune     # some minutes of one core
    python scripts/prune_studies.py replay outputs/prune

`train` first pre-trains the model `tiny`, a Llama of two layers over bytes, on the sentences of Python's
documentation. Then it does every run of ten grids in this process, each with five evaluations: fine-tuning on
sentences of five data sets of GLUE, in two spaces. The same command continues.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from intrinsic_cli.planning import words
from intrinsic_cli.planning.compose import compose_config
from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.specs import one_run
from intrinsic_cli.reports.curves import group
from intrinsic_cli.result import RunState
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.statistics.estimate import Estimate
from intrinsic_cli.statistics.pruning import Limit, first
from intrinsic_cli.store import Store, Survey
from intrinsic_cli.study.launchers.inline import Inline
from intrinsic_cli.study.progress import to_stderr
from intrinsic_cli.study.sweep import sweep
from intrinsic_cli.training.inputs import load
from intrinsic_cli.training.stop import Stop
from intrinsic_cli.training.trainer import Trainer

CORPORA = {
    "sst2": "sentence", "cola": "sentence", "stsb": "sentence1", "rte": "sentence1", "mrpc": "sentence1"
}  # fmt: skip
ROWS = {"train": 320, "validation": 120}
BEFORE = "task=pydoc-lm model=tiny subspace=full train.epochs=6 data.max_length=64 train.precision=fp32"
GRID = (
    "d=32,100,320,1000,3200 lr=0.03,0.1,0.3 seed=0,1 baseline.lr=0.001,0.003,0.01 train.epochs=2.5 train.evals=5 "
    "train.batch_size=16 train.precision=fp32 data.max_length=64 launcher=inline"
)


def studies(out: Path) -> Iterator[list[str]]:
    """The words of each study: a corpus and a space."""
    for name in CORPORA:
        task = f"task={out / 'data' / name} task.name={name}-lm task.kind=lm task.text=text task.metrics=loss"
        for space in ("did", "said"):
            yield [f"model={out / 'model'}", *task.split(), f"subspace={space}", *GRID.split()]


def write_corpora(glue: Path, data: Path) -> None:
    """Sentences of GLUE, in its splits."""
    for name, column in CORPORA.items():
        (data / name).mkdir(parents=True, exist_ok=True)
        for split, count in ROWS.items():
            [path] = (glue / name).glob(f"{split}-*.parquet")
            texts = pd.read_parquet(path)[column].drop_duplicates()
            lines = [json.dumps({"text": text}) for text in texts.sample(count, random_state=0)]
            (data / name / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pretrain(folder: Path) -> None:
    """Write the model that the studies fine-tune, unless it is there."""
    if folder.is_dir():
        return
    spec = one_run(compose_config("run", words.parse(BEFORE.split())), None, 0, 0.02)
    inputs = load(spec)
    trainer = Trainer(spec, inputs)
    print(f"pre-trained for {trainer.steps} steps: {trainer.run().metrics}")
    trainer.model.save_pretrained(folder)
    inputs.base.tokenizer.save_pretrained(folder)


def train(glue: Path, out: Path) -> None:
    torch.set_num_threads(1)
    pretrain(out / "model")
    write_corpora(glue, out / "data")
    for each in studies(out):
        plan = sweep_plan(words.parse(each))
        sweep(plan.specs, Store(out / "runs"), Inline(), to_stderr)


class Replay:
    """A launcher that trains nothing: a run's recorded history is told again, up to where a limit ends it."""

    slots = 1

    def __init__(self, recorded: Store) -> None:
        self._recorded = recorded

    def check(self, cells: Sequence[Sequence[RunSpec]], store: Store, stop: Stop) -> list[str]:
        return []

    def launch(
        self, specs: Sequence[RunSpec], store: Store, stop: Stop
    ) -> Generator[tuple[RunSpec, RunState], None, None]:
        for spec in specs:
            run, then = store.run(spec), self._recorded.run(spec)
            with run.claim():
                run.begin(spec)
                yield spec, self._tell(run, then)

    def _tell(self, run: RunDir, then: RunDir) -> RunState:
        result = then.result()
        assert result is not None
        limits = [Limit(**tree) for tree in run.limits()]
        for line in then.history():
            run.log(**line)
            step, score = int(line["step"]), line.get(f"eval_{result.metric}")
            if score is not None and step < result.steps and (limit := first(limits, step, score)):
                run.prune({"step": step, "score": score, "kind": limit.kind, "reason": limit.reason})
                return RunState.PRUNED
        run.keep_outcomes(then.outcomes() or {})
        run.finish(result)
        return RunState.DONE


def estimates(survey: Survey, spec: RunSpec) -> dict[str, Estimate]:
    """The d90s of the curve of `spec` by every definition that its scores have."""
    results = [run for run in survey.results if run.study == spec.study]
    curves = group(results, survey.diverged, survey.pruned)
    [curve] = [curve for curve in curves if curve.kind == spec.subspace.kind]
    return curve.beside(curve.estimate())


def steps(survey: Survey, spec: RunSpec) -> int:
    """Optimizer steps of the runs behind the curve of `spec`, full fine-tuning's among them."""
    looks = [look for look in survey.runs if look.spec is not None and look.spec.study == spec.study]
    looks = [look for look in looks if look.spec and look.spec.subspace.kind in (spec.subspace.kind, "full")]
    ends = [RunDir(look.path).pruned() or {"step": 0} for look in looks]
    return sum(
        look.result.steps if look.result else end["step"] for look, end in zip(looks, ends, strict=True)
    )


def apart(one: Estimate, other: Estimate) -> float:
    """Octaves between two d90s; 0 where both have none for the same reason."""
    if one.d_t and other.d_t:
        return abs(math.log2(one.d_t / other.d_t))
    return 0.0 if one.status == other.status else math.inf


def replay(out: Path) -> None:
    """Print what a pruned sweep finds on each study whose runs are all recorded."""
    recorded = Store(out / "runs")
    print(
        "| study | definition | d90 | pruned | octaves apart | optimizer steps |\n|---|---|---|---|---|---|"
    )
    shares, far = [], []
    for each in studies(out):
        plan = sweep_plan(words.parse(each))
        last = plan.specs[-1]
        if not all(recorded.run(spec).state is RunState.DONE for spec in plan.specs):
            continue
        with TemporaryDirectory() as folder:
            store = Store(folder)
            sweep(plan.specs, store, Replay(recorded), lambda line: None, prune=True)
            surveys = [recorded.survey(), store.survey()]
            before, after = (estimates(survey, last) for survey in surveys)
            spent, less = (steps(survey, last) for survey in surveys)
        shares.append(less / spent)
        for name, one in before.items():
            if name == "score":  # a share of a loss says nothing
                continue
            far.append(apart(one, after[name]))
            found = f"{one.d_t or one.status} | {after[name].d_t or after[name].status} | {far[-1]:.2f}"
            print(f"| {last.task.name} {last.subspace.kind} | {name} | {found} | {shares[-1]:.0%} |")
    near = int(np.sum(np.array(far) <= 0.1))
    print(f"\n{np.mean(shares):.0%} of the steps; {near} of {len(far)} d90s within 0.1 octaves")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("train", "replay"):
        part = parts.add_parser(name)
        for folder in ("glue", "out") if name == "train" else ("out",):
            part.add_argument(folder, type=Path)
    given = vars(parser.parse_args(argv))
    globals()[given.pop("part")](**given)


if __name__ == "__main__":
    main(sys.argv[1:])
