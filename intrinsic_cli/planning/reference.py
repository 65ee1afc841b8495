"""Every key with its default and its meaning, read off the YAML files of configs/ and their comments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from intrinsic_cli.errors import ConfigError, near
from intrinsic_cli.planning.options import config_dir, options

# The options whose files show all keys of a group, in the order in which they are told.
SHOWN = {
    "task": ("custom",), "model": ("minilm",), "adapter": ("lora",), "subspace": ("said", "full"),
    "projection": ("fastfood",), "search": ("adaptive",), "launcher": ("local", "slurm", "ray"),
}  # fmt: skip
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>(?: [^#\n]*)?)(?:# (?P<meaning>.*))?")


@dataclass(frozen=True)
class Key:
    """`name=default`, as on the command line. `option` is the choice that has the key, as `launcher=ray`."""

    name: str
    default: str
    meaning: str
    option: str = ""


def reference(pattern: str = "*") -> list[Key]:
    """The keys of `idim sweep` whose names match `pattern`, or begin with it. Raises ConfigError if none does."""
    found = [key for key in _all() if fnmatchcase(key.name, pattern) or key.name.startswith(pattern)]
    if not found:
        groups = {key.name.partition(".")[0]: None for key in _all()}
        raise ConfigError(
            f"{pattern} is no key{near(pattern, [*groups, *(key.name for key in _all())])} (idim keys shows all)"
        )
    return found


def _all() -> list[Key]:
    keys = [
        Key(group, default, f"{meaning}: {' | '.join(options(group))}" if len(options(group)) < 8 else
            f"{meaning}; idim list {group}s shows all")
        for group, (default, meaning) in _GROUPS.items()
    ]  # fmt: skip
    for file in ("run", "sweep"):
        keys = [key for key in keys if key.name not in {new.name for new in _read(file)}] + _read(file)
    for group, names in SHOWN.items():
        seen: dict[str, Key] = {}
        for name in names:
            option = f"{group}={name}" if group in ("launcher", "adapter") or name == "full" else ""
            for key in _read(f"{group}/{name}", group, option):
                if key.name != f"{group}.kind":
                    seen.setdefault(f"{key.name} {option}", key)
        keys += seen.values()
    return keys


_GROUPS = {
    "task": ("pydoc-topic", "what is learned, or a file, folder or hub id of your own data"),
    "model": ("minilm", "the pre-trained model, or a folder or hub id"),
    "adapter": ("none", "which numbers there are to move: all weights, or those of an adapter"),
    "subspace": ("did", "which of them move: all (full), or P θ"),
    "projection": ("fastfood", "the random matrix P"),
    "search": ("grid", "which d are tried: those of the list, or those that narrow the interval"),
    "launcher": ("local", "where runs are trained"),
}


def _read(file: str, prefix: str = "", option: str = "") -> list[Key]:
    """The keys of one file. A comment behind a key is its meaning, and so are whole lines of comment above it."""
    found: list[Key] = []
    above: list[str] = []
    parents = [(-1, prefix)]
    for line in (config_dir() / f"{file}.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            above += [line.removeprefix("# ")] if found else []  # those at the top are of the whole file
            continue
        match = _LINE.fullmatch(line)
        if match is None or match["key"] == "defaults":
            above = []
            continue
        indent, value = len(match["indent"]), match["value"].strip()
        while parents[-1][0] >= indent:
            parents.pop()
        name = ".".join(filter(None, [parents[-1][1], match["key"]]))
        if value:
            found.append(Key(name, value, " ".join(filter(None, [*above[-1:], match["meaning"]])), option))
        else:
            parents.append((indent, name))
        above = []
    return found
