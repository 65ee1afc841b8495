"""The words `key=value` of a command line, read by Hydra's parser and checked before anything is composed."""

from __future__ import annotations

import itertools
import math
import os
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Override,
    OverrideType,
    Quote,
    QuotedString,
    RangeSweep,
    Sweep,
    ValueType,
)
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning import letters

FOLDER = "output_dir"  # the one key whose only value may be any path, there or not
LISTS = ("d", "seed", "lr")  # the keys of which a sweep takes a list
# Keys whose one value is a list: `task.text=title,body` is that list, without the brackets that shells read.
SEQUENCES = (
    "task.text", "task.labels", "task.metrics", "adapter.target", "subspace.include", "subspace.exclude",
    "search.seeds", "search.lr_multiples", "launcher.setup",
)  # fmt: skip
PLACES = ("task", "model", "task.path", "model.name", "output_dir")  # keys whose value may be any path
TEXTS = ("task.prompt",)  # keys whose value is taken as it stands, braces, commas and all
MOST_RUNS = 10_000  # of one sweep, and values of one key: a slip such as range(1,1e9) ends in a line
MAPPINGS = ("task.words", "adapter.args", "launcher.additional")  # keys whose value is a mapping of any keys
PLAIN = re.compile(r"[A-Za-z_./][\w./@+*-]*", re.ASCII)  # texts that need no quotes
NOT_TEXT = ("null", "true", "false", "nan", "inf")
HOME = re.compile(r"(?:^|(?<=[,\[]))~[^,\[\]'\"]*")  # a path that a shell has left as it was typed
QUOTED_KEY = re.compile(r"""[{,]\s*('[^']*'|"[^"]*")\s*:""")  # of a mapping, as Python and JSON have it
LONGEST_WORD = 100_000  # characters: a list of MOST_RUNS values fits


def parse(words: Sequence[str]) -> list[Override]:
    """Hydra's reading of `key=value` words, and paths as they are. Raises ConfigError at the first bad one."""
    return [_there(word) or _parse(word) for word in words]


def _there(word: str) -> Override | None:
    """The override by a path that is there, whatever its name would mean: a comma, a number; None for any other."""
    key, _, typed = word.partition("=")
    if key not in PLACES or not typed.isprintable() or "${" in typed:
        return None
    return setting(key, typed) if os.path.lexists(os.path.expanduser(typed)) else None


def setting(key: str, value: Any) -> Override:
    """The override that gives `key` one `value`, or one list of values, as if it had been typed."""
    return Override(
        type=OverrideType.CHANGE, key_or_group=key, value_type=ValueType.ELEMENT, _value=value,
        input_line=f"{key}={spelled(value)}",
    )  # fmt: skip


def spelled(value: Any) -> str:
    """`value` as it is typed: a text is quoted where it would be read as something else."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(spelled, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{spelled(key)}:{spelled(each)}' for key, each in value.items())}}}"
    if not isinstance(value, str) or (PLAIN.fullmatch(value) and value.lower() not in NOT_TEXT):
        return str(value)
    return QuotedString(text=value, quote=Quote.single).with_quotes()


def choice(key: str, some: Sequence[Any]) -> Override:
    """The override that lets `key` have each of `some` values in turn."""
    if len(some) == 1:
        return setting(key, some[0])
    text = ",".join(map(spelled, some))
    return Override(
        type=OverrideType.CHANGE, key_or_group=key, value_type=ValueType.SIMPLE_CHOICE_SWEEP,
        _value=ChoiceSweep(list=list(some), simple_form=True), input_line=f"{key}={text}",
    )  # fmt: skip


@cache  # completion and tests read the same words again and again
def _parse(word: str) -> Override:
    if "=" not in word and not word.startswith("~"):
        raise ConfigError(f"{word!r} is not an override; write key=value, for example task=mrpc")
    if len(word) > LONGEST_WORD:
        raise ConfigError(f"{word!r} has {len(word)} characters; at most {LONGEST_WORD} are read")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in word):
        raise ConfigError(f"{word!r} holds a control character or a byte that is no UTF-8; write plain text")
    key, _, typed = word.partition("=")
    if key in TEXTS and typed != "null" and typed[:1] not in ("'", '"', ""):
        return setting(key, typed)
    if not {"'", '"'} & set(typed):
        word = f"{key}={HOME.sub(lambda path: spelled(path[0]), typed)}" if "~" in typed else word
    if typed.endswith(","):
        raise ConfigError(f"{word!r} ends in a comma; write a list without spaces: {key}=A,B")
    try:
        override = (
            letters.read(word) if key in letters.KEYS else OverridesParser.create().parse_override(word)
        )
    except (HydraException, ValueError, TypeError, RecursionError) as error:
        # Functions such as range(1,2,0) are evaluated while they are read, and pass on what Python raises.
        if key == FOLDER and "${" not in typed:  # `it's`
            return setting(key, typed)
        if key in PLACES and not {"'", '"'} & set(typed) and "${" not in typed:  # `My Reviews (final).csv`
            return choice(key, typed.split(","))
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error).split("\n")[0]
        if QUOTED_KEY.search(typed):
            raise ConfigError(
                f"{word!r} can't be read: keys have no quotes; write {{0: no, 1: yes}}"
            ) from error
        raise ConfigError(
            f"{word!r} can't be read: {reason}; write plain text as \"KEY='TEXT'\", both quotes"
        ) from error
    if key == FOLDER and isinstance(override.value(), int | float):  # `2026`
        return setting(key, typed)
    if override.is_add() or override.is_force_add() or override.is_delete() or override.package is not None:
        raise ConfigError(
            f"{word!r}: keys can be set, not added, removed or moved to a package; write key=value"
        )
    if override.key_or_group in SEQUENCES and override.value_type is ValueType.SIMPLE_CHOICE_SWEEP:
        elements = values(override)
        if not any(isinstance(element, list) for element in elements):
            return setting(override.key_or_group, elements)
    return override


def expand(overrides: Sequence[Override]) -> list[list[Override]]:
    """The product of all lists `key=a,b` into single values, those of `d`, `seed`, `lr` and `baseline.` kept whole.

    Raises ConfigError where there are more than MOST_RUNS of them.
    """
    choices = []
    for override in overrides:
        key = override.key_or_group
        if not override.is_sweep_override():
            choices.append([override])
        elif key in LISTS or key.startswith("baseline."):
            choices.append([setting(key, values(override))])
        else:
            choices.append([setting(key, value) for value in values(override)])
    check_number(math.prod(map(len, choices)), "the lists of this sweep make")
    return [list(combination) for combination in itertools.product(*choices)]


def values(override: Override) -> list[Any]:
    """The values of `key=a,b`, or the one of `key=a`. Raises ConfigError where there is none."""
    if not override.is_sweep_override():
        return [override.value()]
    sweep, word = override.value(), override.input_line
    if not isinstance(sweep, ChoiceSweep | RangeSweep):
        raise ConfigError(f"{word!r} has no list of values; write key=a,b or key=range(1,4)")
    try:
        found = list(itertools.islice(override.sweep_iterator(Override._convert_value), MOST_RUNS + 1))
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{word!r} can't be read: {error}") from error
    if any(isinstance(value, Sweep) for value in found):
        raise ConfigError(f"{word!r} is a list within a list; write all values in one list key=a,b")
    if not found:
        raise ConfigError(f"{word!r} is an empty list; give at least one value")
    check_number(len(found), f"{word!r} gives")
    return found


def check_number(runs: int, what: str) -> None:
    """Raise ConfigError where a sweep would have more than MOST_RUNS runs."""
    if runs > MOST_RUNS:
        raise ConfigError(f"{what} more than {MOST_RUNS} runs; use shorter lists, or several sweeps")


def single(override: Override) -> Any:
    """The value of an override that has one. Raises ConfigError at a list `key=a,b`."""
    if override.is_sweep_override():
        raise ConfigError(f"{override.input_line!r} is several values; lists are for idim sweep")
    return override.value()


def put(cfg: DictConfig, override: Override) -> None:
    """Set the override's key in the config, in place. Raises ConfigError at a value of another kind."""
    key, word, value = override.key_or_group, override.input_line, single(override)
    if key.endswith(".kind") and key != "task.kind":
        group = key.removesuffix(".kind")
        raise ConfigError(f"{word!r}: the other keys of a {group} belong to its kind; choose it by {group}=")
    is_group = isinstance(OmegaConf.select(cfg, key, throw_on_resolution_failure=False), DictConfig)
    if is_group != isinstance(value, dict) and key not in MAPPINGS:
        kinds = ("a value", "a group of keys")
        raise ConfigError(f"{word!r} is {kinds[not is_group]} where {kinds[is_group]} belongs; see --cfg job")
    try:
        if "???" in str(value) and OmegaConf.missing_keys(OmegaConf.create({"value": value})):
            raise ConfigError(f"{word!r}: ??? stands for a value that is missing; give one")
        OmegaConf.update(cfg, key, value, merge=True, force_add=key in MAPPINGS)
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{word!r} can't be set: {str(error).splitlines()[0]}; see --cfg job") from error


def resolve(cfg: DictConfig, override: Override) -> None:
    """Put values in the place of the interpolations `${…}` that the override brought. Raises ConfigError."""
    key, word = override.key_or_group, override.input_line
    try:
        value = OmegaConf.select(cfg, key)
        if OmegaConf.is_config(value):
            OmegaConf.resolve(value)
        else:
            escaped = value.replace("${", "\\${") if isinstance(value, str) else value  # or it were one again
            OmegaConf.update(cfg, key, escaped)
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        reason = "refers to itself" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise ConfigError(f"{word!r} can't be resolved: {reason}; write the value itself") from error
