"""Every error that `idim` raises on purpose, with the exit status the command line gives it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

DISTRIBUTION = "intrinsic-cli"  # what pip calls this project; `idim` there is somebody else's
LONGEST = 600  # characters of a message: enough for a path and a list of names, too few for a whole file


def to_install(extra: str) -> str:
    """The command that installs what an extra of this distribution needs."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'


def printable(text: str) -> str:
    """`text` with every character that is not printable spelled as Python would: nothing a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(message: str) -> str:
    """`message` as one printable line; of a long one, the beginning and the end (the way out stands there)."""
    line = " ".join(message.split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - 200]} … {line[-190:]}"
    return printable(line)


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean a or b?`: those of `known` that look like `word`, whatever their case; "" where none does.

    A dotted name is also known by its last part: `epoch` looks like `train.epochs`.
    """
    from difflib import get_close_matches

    whole = {name.lower(): name for name in known if name != word}
    names = {form.rpartition(".")[2]: name for form, name in whole.items()} | whole
    close = get_close_matches(word.lower(), names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(dict.fromkeys(names[form] for form in close))}?" if close else ""


def one_of(word: object, known: Sequence[str]) -> str:
    """` is not known; use one of a, b` and, where one of them looks like `word`, `; did you mean b?`."""
    return f" is not known; use one of {', '.join(known)}{near(str(word), known)}"


def is_failure(error: BaseException) -> bool:
    """Whether `error` says that something went wrong: an exception, or a panic of native code (a
    tokenizer's), which is none. Else somebody wants to leave."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


class IdimError(Exception):
    """Base class. The message is one line: the value received, what is wrong, and the way out.

    `exit_status` is 2 where the user can mend it (the default) and 1 where the run itself failed.
    """

    exit_status = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class ConfigError(IdimError):
    """An option, key or value that can't be used."""


class DataError(IdimError):
    """A data set that can't be found, read, or used for its task."""


class ModelError(IdimError):
    """A model or tokenizer that can't be found, loaded, or used for its task."""


class StoreError(IdimError):
    """An output folder or a file in it that can't be written or read."""


class DamagedError(StoreError):
    """A file of a run that is not whole, so that the run has to be done again."""


class RunError(IdimError):
    """A run that began and could not end with a score (a loss that became NaN, for one)."""

    exit_status = 1


class OutOfMemory(RunError):
    """A run that needed more memory than there was."""


class Stopped(IdimError):
    """A command that was asked to stop by a signal and has left everything ready to go on."""

    def __init__(self, where: str, number: int) -> None:
        super().__init__(f"stopped {where}; the same command goes on from there")
        self.exit_status = 128 + number


class Pruned(IdimError):
    """A run that was ended at an evaluation, as it can't matter; `record` says when, by what score and why."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__(record["reason"])
        self.record = record
