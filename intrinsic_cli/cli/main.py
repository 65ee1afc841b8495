"""The command line: finds the subcommand, runs it, and is the only place that turns errors into text."""

from __future__ import annotations

import argparse
import errno
import io
import itertools
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from intrinsic_cli import __version__
from intrinsic_cli.cli.apart import status_apart
from intrinsic_cli.cli.commands import COMMANDS
from intrinsic_cli.errors import ConfigError, IdimError, is_failure, near, one_line
from intrinsic_cli.render import SPELL

NOT_HEARD = {
    errno.EPIPE,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
}  # of what is written to a pipe, a disk, a terminal
RESUMED = ("run", "sweep", "trajectory")  # commands that go on where they were interrupted


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of `idim`."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Name the choices that look like one that there is not, where argparse lists all of them alone."""
        if action.choices is not None and value not in action.choices:
            known = list(map(str, action.choices))
            hint = near(str(value), known) or f"; use one of {', '.join(known)}"
            raise argparse.ArgumentError(action, f"{value} is not known{hint}")

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
    _check_options(parser, words)
    arguments, rest = parser.parse_known_args(words)
    if rest and (not hasattr(arguments, "overrides") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def _check_options(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """End with a guess at an option that there is not, before argparse takes its value for an argument."""
    commands = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    own = commands.get(words[0], parser if words[0].startswith("-") else None) if words else None
    if own is None:  # a command that there is not
        return
    known = [option for action in own._actions for option in action.option_strings]
    for word in itertools.takewhile(lambda word: word != "--", words):
        option = word.partition("=")[0]
        if re.match("--?[A-Za-z]", option) and not any(name.startswith(option) for name in known):
            own.error(f"{option} is no option{near(option, known)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 (a run failed), 2 (the user's mistake), 130 (Ctrl-C), 141 (the
    reader of a pipe left) or 143 (SIGTERM)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see __main__
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _open_streams()
        apart = None if argv is not None else status_apart(next(iter(words), ""))
        if apart is not None:
            return apart
        status = _execute(words)
        sys.stdout.flush()  # here, where a full disk is an error as any other
        return status
    except IdimError as error:
        _say(f"idim: {error}")
        return error.exit_status
    except OSError as error:
        if error.errno not in NOT_HEARD:
            return _unforeseen(error)
        _stop_printing()
        if error.errno == errno.EPIPE:  # the reader of a pipe has seen enough
            return 128 + signal.SIGPIPE
        _say(f"idim: can't write: {error.strerror}{f' ({error.filename})' if error.filename else ''}")
        return 1
    except KeyboardInterrupt as interrupt:
        goes_on = "; the same command continues where it stopped" if next(iter(words), "") in RESUMED else ""
        _say(f"\nidim: interrupted{goes_on}")
        return 128 + next(iter(interrupt.args), signal.SIGINT)
    except BaseException as error:
        if not is_failure(error):
            raise
        return _unforeseen(error)


def _execute(words: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without ≤ gets <=, and no traceback
            stream.reconfigure(errors=SPELL)
    if words[:1] == ["_complete"]:
        from intrinsic_cli.cli.completion import candidates

        print("\n".join(candidates(build_parser(), words[1:])))
        return 0
    arguments = parse(words)
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError(
            f"the working folder is gone ({error.strerror}); cd to one that is there"
        ) from error
    return arguments.execute(arguments)


def _open_streams() -> None:
    """Where a standard stream is closed, open one that keeps nothing, before another file gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: SIM115 (it stays open)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _say(line: str) -> None:
    with suppress(OSError):  # nobody may be there to read it
        print(line, file=sys.stderr, flush=True)


def _stop_printing() -> None:
    """Let what is left in the buffers go nowhere, as Python would try to write it once more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unforeseen(error: BaseException) -> int:
    if os.environ.get("IDIM_TRACEBACK"):
        raise error
    _say(
        f"idim: unforeseen {type(error).__name__}: {one_line(str(error))} (IDIM_TRACEBACK=1 shows where; please "
        "report it)"
    )
    return 1
