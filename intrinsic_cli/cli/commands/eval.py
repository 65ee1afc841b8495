"""`idim eval`: score a fine-tune on a task."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from intrinsic_cli.cli.arguments import fine_tune

if TYPE_CHECKING:
    from intrinsic_cli.finetunes.file import FineTune
    from intrinsic_cli.planning.words import Override

SUMMARY = "score a fine-tune on the validation rows of a task"
EXAMPLES = """\
  idim eval sentiment.safetensors
  idim eval sentiment.safetensors task=sst2 task.path=../glue data.max_eval=100"""
PARTS = ("task", "data", "train.eval_batch_size")


def configure(parser: argparse.ArgumentParser) -> None:
    fine_tune(parser)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="task, data and train.eval_batch_size, as of idim run",
    )


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.errors import ConfigError
    from intrinsic_cli.finetunes.file import FineTune
    from intrinsic_cli.planning import compose, options, specs
    from intrinsic_cli.planning.words import parse, setting

    found = FineTune.read(arguments.file)
    overrides = parse(arguments.overrides)
    given = [override.key_or_group for override in overrides]
    for key in given:
        if not any(key == part or key.startswith(f"{part}.") for part in PARTS):
            raise ConfigError(
                f"{key} is fixed by the fine-tune; set keys of task, data or train.eval_batch_size"
            )
    if "task" not in given:
        own_data = found.task == "custom" and "task.path" not in given
        if own_data or found.task not in options.options("task"):
            whose = "data of your own" if own_data else f"{found.task}, none of idim's own"
            raise ConfigError(
                f"the fine-tune's task is {whose}; add task=FILE, with task.text and task.label as in training"
            )
        overrides = [setting("task", found.task), *overrides]
    own = {"data.max_length": found.max_length, **_asks(found, overrides)}
    overrides = [*(setting(key, value) for key, value in own.items() if key not in given), *overrides]
    cfg = compose.compose_config("run", overrides)
    spec = specs.run_spec(cfg)
    from intrinsic_cli.finetunes.scoring import score

    values, n, apart = score(
        found, spec.task, spec.data, model=arguments.model, trust_remote_code=arguments.trust_remote_code,
        batch_size=spec.train.eval_batch_size,
    )  # fmt: skip
    for name, value in values.items():
        print(f"{name} {value:.4f}")
    way = (
        "" if apart is None else
        f", a fifth of its {apart:,} by hash: held out of training where that set the same fifth apart; "
        f"task.validation={spec.task.train} scores them all"
    )  # fmt: skip
    print(f"{n} rows of {spec.task.title}, {found.precision}{way}")
    return 0


def _asks(found: FineTune, overrides: Sequence[Override]) -> dict[str, Any]:
    """The keys of `task` by which the fine-tune says how it is asked: of a language model, all that it has.

    Of others, on rows of one's own that no word says the kind of, its kind and metric, where those are not as
    usual; and the columns of its rows, which hold for rows of one's own and for the data set trained on: one that
    idim knows has its own columns, and a fine-tune of it read these and chose none.
    """
    from intrinsic_cli.finetunes.file import HEADS
    from intrinsic_cli.planning import compose, options
    from intrinsic_cli.planning.words import setting

    if found.kind not in HEADS.values():
        asks = {"kind": found.kind, **found.asks} if found.asks else {}
        return {f"task.{key}": value for key, value in asks.items()}
    known = set(options.options("task")) - {"custom"}
    meant = [each for override in overrides for each in options.meant(override, None)]
    task = next((each.value() for each in reversed(meant) if each.key_or_group == "task"), "custom")
    own: dict[str, Any] = {}
    if task not in known and not {"task.kind", "task.regression"} & {each.key_or_group for each in overrides}:
        usual = compose.compose_config("run", [setting("task", "custom")]).task
        own = {"task.kind": found.kind} if found.kind != usual.kind else {}
        own |= {"task.metrics": [found.metric]} if found.metric not in usual.metrics else {}
    columns = found.asks.get("text")
    if task != found.task and task in known:
        columns = None
    elif task != found.task and found.task in known:
        usual = compose.compose_config("run", [setting("task", found.task)]).task
        columns = None if list(usual.text) == columns else columns
    return own if columns is None else {**own, "task.text": columns}
