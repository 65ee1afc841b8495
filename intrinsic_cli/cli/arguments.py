"""Arguments and answers that several subcommands share."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from intrinsic_cli.reports.axes import Axis
    from intrinsic_cli.spec import RunSpec
    from intrinsic_cli.store import Survey

from intrinsic_cli.errors import printable
from intrinsic_cli.render import FORMATS, Answer, check_format, render

NARROWEST = 20  # columns that a terminal has, whatever COLUMNS says


def overrides(parser: argparse.ArgumentParser) -> None:
    """`key=value …`, `--config-dir` and `--cfg job`, of commands that train."""
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="configuration (idim keys shows all)"
    )
    parser.add_argument(
        "--config-dir", metavar="FOLDER", help="more files of tasks and models: FOLDER/task/NAME.yaml"
    )
    parser.add_argument("--cfg", choices=["job"], help="print the resolved configuration and stop")


def folder(parser: argparse.ArgumentParser) -> None:
    """The output folder, of commands that read one."""
    parser.add_argument("dir", metavar="DIR", help="output folder of a sweep")


def own_configs(arguments: argparse.Namespace) -> Path | None:
    """The folder of `--config-dir`. Raises ConfigError where it is none."""
    import os
    from pathlib import Path

    from intrinsic_cli.errors import ConfigError

    if arguments.config_dir is None:
        return None
    folder = Path(arguments.config_dir)
    if not os.path.isdir(folder):
        raise ConfigError(f"--config-dir {folder} is not a folder; give one that holds task/ or model/")
    return folder.absolute()


def table_format(parser: argparse.ArgumentParser) -> None:
    """`--format`, of commands that print tables."""
    parser.add_argument(
        "--format", default="table", type=check_format, metavar="|".join(FORMATS), help="default: table"
    )


def tell(line: str) -> None:
    """Print one line. What a name or a message spells can't move the cursor, change colours or end the line."""
    print(printable(line))


def in_shell(words: Sequence[str]) -> str:
    """The command line of `words`: in double quotes where a word itself has single ones, which shells let stand."""
    import shlex

    plain = {word for word in words if "'" in word and not set(word) & set('"$`\\!')}
    return " ".join(f'"{word}"' if word in plain else shlex.quote(word) for word in words)


def read(folder: str) -> Survey:
    """The runs of a folder, with a word on stderr where some are not done, as they are no part of any answer."""
    from collections import Counter

    from intrinsic_cli.result import RunState
    from intrinsic_cli.store import Store

    survey = Store(folder).read()
    left = Counter(look.state for look in survey.runs)
    del left[RunState.DONE], left[RunState.UNREADABLE]
    if left:
        states = ", ".join(f"{count} {state}" for state, count in sorted(left.items()))
        line = f"{left.total()} of {len(survey.runs)} runs are not done ({states}); idim status {folder} shows them"
        print(printable(line), file=sys.stderr)
    return survey


def numbers(kind: type[int] | type[float], example: str) -> Callable[[str], list[float]]:
    """What reads an option like `example`, numbers between commas, each once."""

    def parse(text: str) -> list[float]:
        try:
            return list(dict.fromkeys(kind(word) for word in text.split(",")))
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a list of numbers such as {example}"
            ) from error

    return parse


def print_answer(answer: Answer, form: str = "table") -> None:
    """Print what a command found, no wider than the terminal (or COLUMNS) and in letters that it has."""
    width = shutil.get_terminal_size(fallback=(0, 0)).columns
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(render(answer, form, max(width, NARROWEST) if width else None, encoding))


def selection(parser: argparse.ArgumentParser) -> None:
    """What learning rates are chosen by, of commands that estimate d90."""
    parser.add_argument(
        "--selection", default="validation", metavar="validation|holdout",
        help="what learning rates are chosen by; default: validation",
    )  # fmt: skip


def threshold(parser: argparse.ArgumentParser) -> None:
    """`--threshold`, of commands that estimate d_t at one."""
    parser.add_argument(
        "--threshold", type=float, default=0.9, help="share of the full score; default 0.9 (d90)"
    )


def figures_folder(parser: argparse.ArgumentParser) -> None:
    """`--figures`, of commands that draw."""
    parser.add_argument("--figures", metavar="FOLDER", help="also write the figures as SVG and PDF files")


def trend(parser: argparse.ArgumentParser) -> None:
    """How trends are estimated and shown."""
    table_format(parser)
    threshold(parser)
    figures_folder(parser)
    selection(parser)


def check_trend(arguments: argparse.Namespace) -> None:
    """Raise ConfigError or StoreError where the options of `trend` can't be used, before anything is done."""
    from pathlib import Path

    from intrinsic_cli.reports import figures
    from intrinsic_cli.statistics.estimate import check_selection, check_share

    check_share("threshold", arguments.threshold)
    check_selection(arguments.selection)
    if arguments.figures:
        figures.check_folder(Path(arguments.figures))


def show_trends(
    survey: Survey, members: Callable[[RunSpec], bool], axis: Axis, arguments: argparse.Namespace
) -> None:
    """Print the trends of the d_t of some runs along `axis`, and write their figures where they are wanted, with a
    word on stderr, as the answer may be for a program."""
    from pathlib import Path

    from intrinsic_cli.reports import curves, figures, trend_plots, trend_text
    from intrinsic_cli.reports.trends import trends

    found = curves.estimates(
        curves.of(survey.only(members)), thresholds=[arguments.threshold], selection=arguments.selection
    )
    made = trends(found, axis)
    print_answer(trend_text.answer(made, axis), arguments.format)
    if arguments.figures:
        written = figures.write((trend_plots.plot(each, axis) for each in made), Path(arguments.figures))
        print(printable(f"{len(written)} figures in {arguments.figures}"), file=sys.stderr)


def print_config(cfg: object) -> int:
    """Answer `--cfg job`."""
    from omegaconf import OmegaConf

    print(OmegaConf.to_yaml(cfg), end="")
    return 0


def fine_tune(parser: argparse.ArgumentParser) -> None:
    """A portable fine-tune and where its base model is, of commands that rebuild one."""
    parser.add_argument("file", metavar="FILE", help="what `idim export` wrote")
    parser.add_argument("--model", metavar="FOLDER", help="another place of the base model")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the code that the base model brings"
    )
