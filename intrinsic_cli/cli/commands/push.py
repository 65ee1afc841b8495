"""`idim push`: upload a fine-tune to the hub with a model card."""

from __future__ import annotations

import argparse

SUMMARY = "upload a fine-tune to the hub with a model card"
EXAMPLES = """\
  idim push sentiment.safetensors me/sentiment-200
  idim push sentiment.safetensors me/sentiment-200 --private"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what `idim export` wrote")
    parser.add_argument("repo", metavar="REPO", help="owner/name on the hub, made where it is missing")
    parser.add_argument("--private", action="store_true", help="make a new repository private")


def execute(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from intrinsic_cli.finetunes.card import push

    print(push(Path(arguments.file), arguments.repo, private=arguments.private))
    return 0
