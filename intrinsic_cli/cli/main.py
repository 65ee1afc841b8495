"""The command line: finds the subcommand, runs it, and is the only place that turns errors into text."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from intrinsic_cli import __version__
from intrinsic_cli.cli.commands import COMMANDS
from intrinsic_cli.errors import IdimError, one_line
from intrinsic_cli.render import SPELL


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of `idim`."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"idim: {one_line(message)} ({self.prog} --help shows the usage)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands, each with examples in its help."""
    parser = Parser(
        prog="idim",
        description="Measure the intrinsic dimension (d90) of fine-tuning a language model.",
        epilog="example: idim sweep task=mrpc model=roberta-base && idim summarize outputs/",
    )
    parser.add_argument("--version", action="version", version=f"idim {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = COMMANDS[name]
        own = subparsers.add_parser(
            name,
            help=command.SUMMARY,
            description=command.SUMMARY[0].upper() + command.SUMMARY[1:] + ".",
            epilog="examples:\n" + command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.configure(own)
        own.set_defaults(execute=command.execute)
    return parser


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command, with options before, between and behind its overrides.

    argparse itself takes `key=value` words in one stretch only, and leaves those behind an option over.
    """
    parser = build_parser()
    arguments, rest = parser.parse_known_args(words)
    if rest and (not hasattr(arguments, "overrides") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 (a run failed), 2 (the user's mistake), 130 (Ctrl-C) or
    143 (SIGTERM)."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without ≤ gets <=, and no traceback
            stream.reconfigure(errors=SPELL)
    if words[:1] == ["_complete"]:
        from intrinsic_cli.cli.completion import candidates

        print("\n".join(candidates(build_parser(), words[1:])))
        return 0
    try:
        arguments = parse(words)
        return arguments.execute(arguments)
    except IdimError as error:
        print(f"idim: {error}", file=sys.stderr)
        return error.exit_status
    except Exception as error:
        if isinstance(error, BrokenPipeError):  # the reader of a pipe has seen enough
            sys.stderr.close()
            return 1
        if os.environ.get("IDIM_TRACEBACK"):
            raise
        reason = one_line(str(error))
        print(
            f"idim: unforeseen {type(error).__name__}: {reason} (IDIM_TRACEBACK=1 shows where; please report it)",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt as interrupt:
        print("\nidim: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 128 + next(iter(interrupt.args), signal.SIGINT)
