"""What a name means: a file or folder here, and what it must hold, or an id at the hub."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from intrinsic_cli.errors import DataError, IdimError, ModelError
from intrinsic_cli.spec import ModelSpec

DATA_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
# What the hub's libraries write beside the data.
NOT_DATA = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
MOST_FILES = 10_000  # under a folder that stands for a model or a data set
# `name` or `owner/name`. Anything else (`./x`, `../x`, `/x`, `a/b/c`, `x.csv`) can only be a local path.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def local_path(name: str, key: str, error: type[IdimError] = DataError) -> Path | None:
    """The local file or folder that `name` means, or None when it is a hub id.

    Raises `error` (naming the option `key`) when a path does not exist, and when a name that could be a
    hub id is also a file or folder here: both readings are plausible and give other results.
    """
    if not name.strip():
        raise error(f"{key} is empty; give a hub id, or a local path")
    could_be_hub = _HUB_ID.fullmatch(name) and Path(name).suffix.lower() not in DATA_SUFFIXES
    try:
        path = Path(name).expanduser()
        is_folder, exists = path.is_dir(), path.exists()
        if not could_be_hub and not exists:
            raise error(f"{key}={name} does not exist (looked for {path.absolute()})")
        if not could_be_hub and not is_folder and not path.is_file():
            raise error(f"{key}={name} is neither a file nor a folder; give one that can be read twice")
    except (OSError, RuntimeError, ValueError) as cause:  # a name too long, no such user, a NUL byte
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"{key}={name} can't be read ({reason}); give another path") from cause
    if not could_be_hub:
        return path
    if exists:
        what = "folder" if is_folder else "file"
        raise error(
            f"{key}={name} is a {what} here and could be a hub id too; write {key}=./{name} for the {what}, "
            "or run from another folder for the hub's"
        )
    return None


def files(folder: Path) -> list[Path]:
    """The visible regular files under `folder`, sorted; hidden ones and `__pycache__` are left out.

    Raises DataError where there are more than MOST_FILES names, or a folder can't be read.
    """
    found, seen = [], 0

    def refuse(error: OSError) -> None:
        raise DataError(f"can't read {error.filename or folder}: {error.strerror or error}") from error

    for place, folders, names in os.walk(folder, onerror=refuse):  # does not follow links to folders
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        seen += len(folders) + len(names)
        if seen > MOST_FILES:
            raise DataError(
                f"{folder} holds more than {MOST_FILES} files; give the folder of one model or data set"
            )
        paths = [Path(place, name) for name in names if not name.startswith((".", "__pycache__"))]
        try:
            found += [path for path in paths if path.is_file()]
        except OSError as error:
            refuse(error)
    return sorted(found)


def fingerprint(path: str | Path, known: Mapping[Path, str] | None = None) -> str:
    """SHA-256 (hex) of a file's content, or of the names and contents of all visible files of a folder.

    Hidden files and `__pycache__` are left out. A file's own name does not count, so a renamed copy is the
    same data. `known` are digests of files that have been read already, which are not read again. Raises DataError
    when a file can't be read.
    """
    root = Path(path).expanduser()
    known = known or {}
    digest = hashlib.sha256()
    try:
        if root.is_file():
            return known.get(root) or _sha256(root)
        if not root.is_dir():
            raise DataError(f"{path} does not exist")
        for file in files(root):
            content = known.get(file) or _sha256(file)
            digest.update(os.fsencode(f"{file.relative_to(root).as_posix()}\0{content}\n"))
    except OSError as error:
        raise DataError(f"can't read {error.filename or path}: {error.strerror or error}") from error
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_model(folder: Path, spec: ModelSpec) -> None:
    """Raise ModelError where the folder has no config, no weights, or weights of a kind not allowed."""
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            f"model.name={spec.name} holds an adapter of PEFT and no model; give a folder with the model that it "
            "belongs to, or with both in one (PEFT's merge_and_unload, then save_pretrained of model and tokenizer)"
        )
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


def data_root(path: Path, config: str | None) -> Path:
    """Where the rows of `task.config` lie: of a folder of several data sets, such as GLUE's, the one in use.

    Raises DataError where a folder has no data set of that name.
    """
    if config is None or not path.is_dir():
        return path
    try:
        parts = sorted(place.name for place in path.iterdir() if place.is_dir() and place.name[0] != ".")
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error
    if config in parts:
        return path / config
    if not parts or config == "default":
        return path
    raise DataError(
        f"task.config={config} not found: {path} has {', '.join(map(repr, parts))}; "
        "name one of them, or add task.config=null for files that lie in the folder itself"
    )


def data_files(path: Path, name: str) -> list[Path]:
    """The data files of `task.path=name`, a file or a folder, sorted: at least one, and all of one kind.

    Raises DataError where there is none, or where there are several kinds, of which one would go unread.
    """
    found = [path] if path.is_file() else [file for file in files(path) if file.name not in NOT_DATA]
    found = [file for file in found if file.suffix.lower() in DATA_SUFFIXES]
    if not found:
        raise DataError(
            f"task.path={name} has no {', '.join(DATA_SUFFIXES)} file; give such a file, or a folder of them"
        )
    kinds = sorted({file.suffix.lower() for file in found})
    if len(kinds) > 1 and kinds != [".json", ".jsonl"]:  # which are read alike
        held = f"{', '.join(kinds[:-1])} and {kinds[-1]}"
        raise DataError(f"task.path={name} holds {held} files; give one of them, or a folder of one kind")
    return found
