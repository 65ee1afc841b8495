"""Where losses and scores go beside the run's history: tensorboard, wandb or trackio, by their own libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from intrinsic_cli.spec import RunSpec

PROJECT = "idim"

Log = Callable[..., None]  # takes `step` and values by name


@contextmanager
def tracked(kind: str, spec: RunSpec, folder: Path) -> Iterator[Log]:
    """Start a tracker (one of `spec.TRACKERS`) and finish it however the run ends.

    Yields what a step's values are told to. tensorboard and wandb write under `folder`.
    """
    config = {"run": spec.run_id, "d": spec.d or 0, "lr": spec.lr, "seed": spec.seed}
    if kind == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder / PROJECT)) as writer:
            writer.add_hparams(config, {}, run_name=".")

            def add(step: int, **values: float) -> None:
                for name, value in values.items():
                    writer.add_scalar(name, value, step)

            yield add
    elif kind == "wandb":
        import wandb

        with wandb.init(project=PROJECT, name=spec.run_id, config=config, dir=str(folder)) as run:
            yield lambda step, **values: run.log(values, step=step)
    elif kind == "trackio":
        import trackio

        run = trackio.init(project=PROJECT, name=spec.run_id, config=config)
        try:
            yield lambda step, **values: run.log(values, step=step)
        finally:
            run.finish()
    else:
        yield lambda step, **values: None
