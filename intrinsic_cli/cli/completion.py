"""Shell completion: a small script per shell that asks `idim _complete` for candidates."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from collections.abc import Sequence

from intrinsic_cli.spec import (
    CACHES,
    CLIPS,
    GROUPS,
    HEADS,
    KERNELS,
    NORMALIZE,
    PRECISIONS,
    QUANTIZE,
    TASK_KEYS,
    TRACKERS,
)

SCRIPTS = {
    "bash": """_idim() {
  local IFS=$'\\n'
  local word="${COMP_LINE:0:COMP_POINT}"
  word="${word##* }"
  local before="${word%"${word##*[=:,]}"}"
  COMPREPLY=($(idim _complete "${COMP_WORDS[@]:1:1}" "${COMP_WORDS[COMP_CWORD-1]}" "$word" 2>/dev/null))
  COMPREPLY=("${COMPREPLY[@]#"$before"}")
  [[ ${COMPREPLY[0]} == *= || ${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
complete -o default -F _idim idim""",
    "zsh": """#compdef idim
_idim() {
  local -a found
  found=(${(f)"$(idim _complete "${words[2]}" "${words[CURRENT-1]}" "${words[CURRENT]}" 2>/dev/null)"})
  compadd -Q -S '' -- $found || _files
}
compdef _idim idim""",
    "fish": """complete -c idim \\
  -a '(idim _complete (commandline -opc)[2] (commandline -opc)[-1] (commandline -ct) 2>/dev/null)'""",
}


VALUES = {
    "train.precision": PRECISIONS, "train.clip": CLIPS, "subspace.normalize": NORMALIZE, "subspace.groups": GROUPS,
    "subspace.head": HEADS, "projection.cache": CACHES, "projection.kernel": KERNELS, "tracker": TRACKERS,
    "task.kind": tuple(TASK_KEYS), "model.quantize": QUANTIZE,
}  # fmt: skip


def candidates(parser: ArgumentParser, words: Sequence[str]) -> list[str]:
    """What may stand for the last of `words`: a subcommand of `parser`, the word before, and the word."""
    commands = next(a.choices for a in parser._actions if isinstance(a.choices, dict))
    command, before, word = (
        words[0] if words else "",
        words[-2] if words[1:] else "",
        words[-1] if words else "",
    )
    if command not in commands or (command == word and before in (command, "", "idim")):
        found = [*commands, "--help", "--version"]
    elif action := next((a for a in commands[command]._actions if before in a.option_strings), None):
        found = _values(action)
    elif word.startswith("-"):
        found = [option for a in commands[command]._actions for option in a.option_strings]
    elif command in ("run", "sweep", "trajectory"):
        found = _overrides("run" if command == "run" else "sweep", word)
    else:
        found = [value for a in commands[command]._actions if not a.option_strings for value in _values(a)]
    return [c for c in found if c.startswith(word)]


def _values(action: Action) -> list[str]:
    """The values of an option or argument, as far as they are few: those between the bars of `table|md|csv`."""
    if action.choices:
        return [str(choice) for choice in action.choices]
    names = action.metavar if isinstance(action.metavar, str) else ""
    return names.split("|") if names.islower() else []


def _overrides(command: str, word: str) -> list[str]:
    from intrinsic_cli.planning import compose, options
    from intrinsic_cli.planning.reference import reference

    key, equals, value = word.partition("=")
    known = reference()
    if not equals:
        own = {name for name in compose.keys(command) if not name.startswith("launcher")}
        launchers = (
            {each.name for each in known if each.name.startswith("launcher.")} if command == "sweep" else ()
        )
        study = {"study"} if command == "sweep" else ()
        return [f"{name}=" for name in sorted({*options.GROUPS, *own, *launchers, *study})]
    before = value.rpartition(",")[0]
    values: Sequence[str] = VALUES.get(key, ())
    if key in (*options.GROUPS, "study"):
        values = options.options(key)
    elif any(each.name == key and each.default in ("true", "false") for each in known):
        values = ("true", "false")
    return [f"{key}={before + ',' if before else ''}{name}" for name in values]
