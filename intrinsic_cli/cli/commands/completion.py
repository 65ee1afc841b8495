"""`idim completion`: print a shell's completion script."""

from __future__ import annotations

import argparse

SUMMARY = "print a shell's completion script"
EXAMPLES = """\
  idim completion bash > ~/.local/share/bash-completion/completions/idim
  source <(idim completion zsh)"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])


def execute(arguments: argparse.Namespace) -> int:
    from intrinsic_cli.cli.completion import SCRIPTS

    print(SCRIPTS[arguments.shell])
    return 0
