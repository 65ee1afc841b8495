"""`idim export`: write a finished run's fine-tune as one small file, or as a folder of PEFT."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from intrinsic_cli.cli.arguments import tell

if TYPE_CHECKING:
    from intrinsic_cli.rundir import RunDir

SUMMARY = "write a finished run's fine-tune as one small file, or as a folder of PEFT"
EXAMPLES = """\
  idim export outputs/RUN --out sentiment.safetensors      # a kilobyte for d=200
  idim export outputs/RUN --out shared/                    # shared/RUN.safetensors
  idim export outputs/RUN --to peft sentiment/             # a run with adapter=lora, exactly
  idim export outputs/RUN --to peft sentiment/ --rank 16   # any other run, as a LoRA"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of a finished run")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", metavar="FILE|DIR", help="a .safetensors file, or a folder")
    where.add_argument(
        "--to", nargs=2, metavar=("peft", "DIR"), help="a new folder that PeftModel.from_pretrained takes"
    )
    parser.add_argument(
        "--rank", type=int, metavar="R", help="of --to peft for a run without adapter: rank of the LoRA"
    )


def execute(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from intrinsic_cli.rundir import RunDir

    run = RunDir(Path(arguments.run))
    if arguments.to:
        form, folder = arguments.to
        return _to_peft(run, form, folder, arguments.rank)
    from intrinsic_cli.finetunes.rebuild import export

    path = export(run, Path(arguments.out))
    tell(f"{path}  {path.stat().st_size:,} bytes")
    return 0


def _to_peft(run: RunDir, form: str, folder: str, rank: int | None) -> int:
    from pathlib import Path

    from intrinsic_cli.errors import ConfigError
    from intrinsic_cli.finetunes.to_peft import export

    if form != "peft":
        raise ConfigError(f"--to {form} is not known; use --to peft {folder}")
    fidelity = export(run, Path(folder), rank)
    tell(folder)
    if layers := run.spec().model.num_hidden_layers:
        print(
            f"its base is the model's first {layers} layers alone: {Path(folder) / 'README.md'} has the call"
        )
    if fidelity is not None:
        print(
            f"rank {fidelity.rank} keeps {fidelity.kept:.1%} of what training moved: {fidelity.metric} "
            f"{fidelity.after:.4f} instead of {fidelity.before:.4f} on {fidelity.n:,} validation rows"
        )
    return 0
