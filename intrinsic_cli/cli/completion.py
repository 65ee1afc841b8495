"""Shell completion: a small script per shell that asks `idim _complete` for candidates."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

SCRIPTS = {
    "bash": """_idim() {
  local IFS=$'\\n'
  local word="${COMP_LINE:0:COMP_POINT}"
  word="${word##* }"
  local before="${word%"${word##*[=:,]}"}"
  COMPREPLY=($(idim _complete "${COMP_WORDS[@]:1:1}" "$word" 2>/dev/null))
  COMPREPLY=("${COMPREPLY[@]#"$before"}")
  [[ ${COMPREPLY[0]} == *= || ${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
complete -o default -F _idim idim""",
    "zsh": """#compdef idim
_idim() {
  local -a found
  found=(${(f)"$(idim _complete "${words[2]}" "${words[CURRENT]}" 2>/dev/null)"})
  compadd -Q -S '' -- $found || _files
}
compdef _idim idim""",
    "fish": """complete -c idim -f \\
  -a '(idim _complete (commandline -opc)[2] (commandline -ct) 2>/dev/null)'""",
}


def candidates(parser: ArgumentParser, words: Sequence[str]) -> list[str]:
    """What may stand for the last of `words`, the first being a subcommand of `parser`."""
    commands = next(a.choices for a in parser._actions if isinstance(a.choices, dict))
    command, word = words[0] if words else "", words[-1] if words else ""
    if command not in commands or (len(words) == 2 and command == word):
        found = [*commands, "--help", "--version"]
    elif command in ("run", "sweep", "trajectory"):
        found = _overrides("run" if command == "run" else "sweep", word)
    else:
        found = [str(c) for a in commands[command]._actions for c in (a.choices or ())]
    if command in commands and word.startswith("-"):
        found = [option for a in commands[command]._actions for option in a.option_strings]
    return [c for c in found if c.startswith(word)]


def _overrides(command: str, word: str) -> list[str]:
    from intrinsic_cli.planning import compose

    key, equals, value = word.partition("=")
    if not equals:
        return [f"{name}=" for name in sorted({*compose.GROUPS, *compose.keys(command)})]
    if key in compose.GROUPS:
        before = value.rpartition(",")[0]
        return [f"{key}={before + ',' if before else ''}{name}" for name in compose.options(key)]
    return []
