"""What a local folder must hold to be a model or a data set: looked at before any of its bytes are read.

So `model.name=/` or `task.path=/proc` is refused at once, and not read to its end.
"""

from __future__ import annotations

from pathlib import Path

from intrinsic_cli.errors import DataError, ModelError
from intrinsic_cli.hub import DATA_SUFFIXES, files
from intrinsic_cli.spec import ModelSpec


def check_model(folder: Path, spec: ModelSpec) -> None:
    """Raise ModelError where the folder has no config, no weights, or weights of a kind not allowed."""
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model.name={spec.name} has no config.json; give a folder that save_pretrained wrote"
        )
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if not any(folder.glob("*.safetensors")):
        if not pickled:
            raise ModelError(
                f"model.name={spec.name} has no model.safetensors; give a folder that save_pretrained wrote"
            )
        if not spec.allow_pickle:
            raise ModelError(
                f"model.name={spec.name} has pickled weights only ({pickled[0]}), which can run code; "
                "convert them to safetensors, or add model.allow_pickle=true if you trust them"
            )


def data_files(path: Path, name: str) -> list[Path]:
    """The data files of `task.path=name`, a file or a folder, sorted. Raises DataError where there is none."""
    found = [path] if path.is_file() else [f for f in files(path) if f.suffix.lower() in DATA_SUFFIXES]
    if not found or (path.is_file() and path.suffix.lower() not in DATA_SUFFIXES):
        raise DataError(
            f"task.path={name} has no {', '.join(DATA_SUFFIXES)} file; give such a file, or a folder of them"
        )
    return found
