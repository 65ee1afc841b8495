"""Frozen dataclasses from plain trees, as JSON and command lines hold them, and back: each value checked once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from intrinsic_cli.errors import ConfigError, IdimError

Record = TypeVar("Record")
_WANTED = {
    str: "a text",
    int: "an integer such as 5",
    float: "a number such as 0.5",
    bool: "true or false",
    tuple: "a list such as [a,b]",
    Mapping: "a mapping such as {a: 1, b: 2}",
}


def record(
    kind: type[Record],
    tree: Mapping[str, Any],
    where: str = "",
    error: type[IdimError] = ConfigError,
    *,
    typed: bool = False,
) -> Record:
    """The dataclass `kind` with the values of `tree`, its parts included: the inverse of `dataclasses.asdict`.

    Lists become tuples, and a whole number a float where the field is one. Numbers are finite
    and text is Unicode. `where` names the tree in messages.
    With `typed`, values are those of a command line: a whole number may stand for its text (of another number or a
    truth value the letters are lost), `4k` for 4000, and one value for a list of it, and what may be null need not
    be there.
    Raises `error`, naming the key, at a key that is unknown or missing and at a value of another type, and
    whatever the checks of `kind` itself raise.
    """
    if not isinstance(tree, Mapping):
        raise error(f"{where}={tree!r} is a group of keys, not a value; set one of them: {where}.KEY=VALUE")
    hints = _hints(cast(Any, kind))
    if unknown := sorted(map(str, set(tree) - set(hints))):
        raise error(f"{where} has unknown keys {unknown}; known are {sorted(hints)}")
    needed = _needed(cast(Any, kind))
    if typed:
        tree = {name: None for name in needed if NoneType in get_args(hints[name])} | dict(tree)
    if missing := [name for name in needed if name not in tree]:
        raise error(f"{where}: lacks {missing}")
    prefix = "" if where in ("", "run", "result") else f"{where}."
    reader = _Reader(error, typed)
    return kind(**{name: reader.value(hints[name], value, prefix + name) for name, value in tree.items()})


def tree_of(spec: Any) -> dict[str, Any]:
    """The fields of a dataclass, and of its parts, with 1.0 where 1 stands for a float: the same number has one
    name."""
    values = [(name, hint, getattr(spec, name)) for name, hint in _hints(cast(Any, type(spec))).items()]
    return {
        name: tree_of(value) if is_dataclass(value) else float(value) if hint is float else value
        for name, hint, value in values
    }


def less_defaults(kind: Any, tree: Mapping[str, Any]) -> dict[str, Any]:
    """`tree`, some fields of the dataclass `kind`, without those that have its default."""
    own = {}
    for f in fields(kind):
        if f.name not in tree:
            continue
        value, hint = tree[f.name], _hints(kind)[f.name]
        if is_dataclass(hint):
            if part := less_defaults(hint, value):
                own[f.name] = part
        elif value != (f.default if f.default_factory is MISSING else f.default_factory()):
            own[f.name] = value
    return own


def text_keys(kind: Any) -> list[str]:
    """The fields of a dataclass, and of its parts as `part.field`, that hold a text, several, or pairs of them."""
    found = []
    for name, hint in _hints(kind).items():
        if is_dataclass(hint):
            found += [f"{name}.{key}" for key in text_keys(hint)]
        elif _of_texts(hint):
            found.append(name)
    return found


def _of_texts(hint: Any) -> bool:
    return any(option is str or (get_origin(option) is tuple and _of_texts(get_args(option)[0]))
               for option in _options(hint)[0])  # fmt: skip


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


@cache
def _needed(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind) if f.default is MISSING is f.default_factory)


@cache
def _options(hint: Any) -> tuple[tuple[Any, ...], bool]:
    """The types that a hint allows beside None, and whether None is one too."""
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return tuple(option for option in options if option is not NoneType), NoneType in options


@cache
def _taken_apart(hint: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """Of `tuple[str, ...]`: tuple, its parts, and whether it is a dataclass."""
    plain = get_origin(hint) or hint
    return plain, get_args(hint), is_dataclass(plain)


@dataclass(frozen=True)
class _Reader:
    """Takes values as fields hold them; see `record`."""

    error: type[IdimError]
    typed: bool

    def value(self, hint: Any, value: Any, key: str) -> Any:
        options, nullable = _options(hint)
        if value is None and nullable:
            return None
        fitting: Any = type(value) if type(value) in options else options[0]
        plain, parts, nested = _taken_apart(fitting)
        if nested:
            return record(plain, value, key, self.error, typed=self.typed)
        pairs = plain is tuple and get_origin(parts[0]) is tuple
        if self.typed and plain is tuple and not pairs and isinstance(value, str | int | float):
            value = (value,)
        if pairs and isinstance(value, Mapping):
            value = list(value.items())
        if pairs and not _are_pairs(value):
            raise self.error(f'{key}={_shown(value)} is no mapping; write it as "{key}={{0: no, 1: yes}}"')
        if plain is tuple and isinstance(value, list | tuple):
            return tuple(self.value(parts[0], each, key) for each in value)
        if len(parts) == 2 and isinstance(value, Mapping) and issubclass(dict, plain):
            return {name: self.value(parts[1], each, f"{key}.{name}") for name, each in value.items()}
        if self.typed and plain is str and type(value) is int:
            return str(value)
        if self.typed and plain is int and isinstance(value, str):
            value = count(value)
        if plain is float and type(value) is int and abs(value) < 2**1023:
            return float(value)
        if plain is Any or (
            isinstance(value, plain) and (plain is bool or not isinstance(value, bool)) and _sound(value)
        ):
            return value
        shown = _shown(value)
        if self.typed and plain is str and (value is None or isinstance(value, bool | float)):
            hint = f"where its letters are meant, write '{shown}', in a shell \"'{shown}'\""
            raise self.error(f"{key}={shown} is not a text; {hint}")
        wanted = _WANTED.get(plain, f"a {plain.__name__}") + (", or null" if nullable else "")
        raise self.error(f"{key}={shown} is not {wanted}")


def _are_pairs(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(e, list | tuple) and len(e) == 2 for e in value)


def _sound(value: object) -> bool:
    """Whether a number is finite and a text is Unicode."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, str) or not any("\ud800" <= c <= "\udfff" for c in value)


def _shown(value: object) -> str:
    """A value for a message, as it is typed: of a long one the beginning, of a huge integer its size."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if type(value) is int and abs(value) > 10**30:
        return f"an integer of {value.bit_length():,} bits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def count(value: Any) -> Any:
    """1000 of `1k`, 1500000 of `1.5M`; any other value as it is."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([kKM])", value) if isinstance(value, str) else None
    if match is None:
        return value
    number = round(float(match[1]) * (10**6 if match[2] == "M" else 1000), 6)
    return int(number) if number.is_integer() else value
