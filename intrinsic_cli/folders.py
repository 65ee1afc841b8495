"""What a local folder must hold to be a model or a data set: looked at before any of its bytes are read.

So `model.name=/` or `task.path=/proc` is refused at once, and not read to its end.
"""

from __future__ import annotations

from pathlib import Path

from intrinsic_cli.errors import DataError, ModelError
from intrinsic_cli.hub import DATA_SUFFIXES, files
from intrinsic_cli.spec import ModelSpec

# What the hub's libraries write beside the data.
NOT_DATA = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


def check_model(folder: Path, spec: ModelSpec) -> None:
    """Raise ModelError where the folder has no config, no weights, or weights of a kind not allowed."""
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model.name={spec.name} has no config.json; give a folder that save_pretrained wrote"
        )
    if odd := [path.name for path in folder.iterdir() if not (path.is_file() or path.is_dir())]:
        raise ModelError(
            f"model.name={spec.name} holds {odd[0]}, which is neither a file nor a folder; remove it"
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
    """The data files of `task.path=name`, a file or a folder, sorted: at least one, and all of one kind.

    Raises DataError where there is none, or where there are several kinds, of which `datasets` would read one.
    """
    found = [path] if path.is_file() else [file for file in files(path) if file.name not in NOT_DATA]
    found = [file for file in found if file.suffix.lower() in DATA_SUFFIXES]
    if not found:
        raise DataError(
            f"task.path={name} has no {', '.join(DATA_SUFFIXES)} file; give such a file, or a folder of them"
        )
    kinds = sorted({".json" if f.suffix.lower() == ".jsonl" else f.suffix.lower() for f in found})
    if len(kinds) > 1:
        raise DataError(
            f"task.path={name} holds {' and '.join(kinds)} files; give one of them, or a folder of one kind"
        )
    return found
