"""`idim export`: write a finished run's fine-tune as one small file."""

from __future__ import annotations

import argparse

SUMMARY = "write a finished run's fine-tune as one small file"
EXAMPLES = """\
  idim export outputs/RUN --out sentiment.safetensors      # a kilobyte for d=200
  idim export outputs/RUN --out shared/                    # shared/RUN.safetensors"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of a finished run")
    parser.add_argument("--out", required=True, metavar="FILE|DIR", help="a .safetensors file, or a folder")


def execute(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from intrinsic_cli.finetunes.rebuild import export
    from intrinsic_cli.store import RunDir

    path = export(RunDir(Path(arguments.run)), Path(arguments.out))
    print(f"{path}  {path.stat().st_size:,} bytes")
    return 0
