"""`idim apply`: write a fine-tune as an ordinary Hugging Face folder."""

from __future__ import annotations

import argparse

from intrinsic_cli.cli.arguments import fine_tune, tell

SUMMARY = "write a fine-tune as an ordinary Hugging Face model folder"
EXAMPLES = """\
  idim apply sentiment.safetensors --out sentiment/
  idim apply sentiment.safetensors --out sentiment/ --model /data/minilm"""


def configure(parser: argparse.ArgumentParser) -> None:
    fine_tune(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder")


def execute(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from intrinsic_cli.finetunes.rebuild import apply

    out = Path(arguments.out)
    apply(arguments.file, out, arguments.model, trust_remote_code=arguments.trust_remote_code)
    tell(str(out))
    return 0
