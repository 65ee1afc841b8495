"""Read a task's splits with `datasets`: from the hub, a local folder in the hub's layout, or plain files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intrinsic_cli import folders, hub
from intrinsic_cli.errors import DataError
from intrinsic_cli.spec import TaskSpec


def read_splits(task: TaskSpec) -> Mapping[str, Any]:
    """The splits of `task.path` by name, each a `datasets.Dataset`. Raises DataError."""
    assert task.path is not None
    local = hub.local_path(task.path, "task.path")
    if local is None:
        offline = hub.go_offline_if_unreachable()
    import datasets

    hub.quiet()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        if local is None:
            return datasets.load_dataset(task.path, task.config, revision=task.revision)
        path, options = _builder(task, local)
        # The library's cache knows a local file by its time stamp alone: a changed file could give old rows.
        with tempfile.TemporaryDirectory() as cache:
            return datasets.load_dataset(path, task.config, cache_dir=cache, keep_in_memory=True, **options)
    except DataError:
        raise
    except Exception as error:  # `datasets` passes on whatever its readers raise
        cause = " ".join(str(error.__cause__ or error).split())
        if "corresponds to no data" in cause:
            raise DataError(f"task.path={task.path} has an empty split (a header without rows?)") from error
        if local is not None:
            raise DataError(f"task.path={task.path} can't be read: {cause}") from error
        if offline:
            raise DataError(
                f"data set {task.path} is not in the cache {datasets.config.HF_DATASETS_CACHE} and the hub "
                "can't be reached; connect to a network or give a local copy by task.path=/path"
            ) from error
        raise DataError(f"data set {task.path} (config {task.config}) can't be loaded: {cause}") from error


def _builder(task: TaskSpec, path: Path) -> tuple[str, dict[str, Any]]:
    """The builder and options of `load_dataset` for a file, or for a folder of files."""
    files = folders.data_files(path, str(task.path))
    suffixes = {file.suffix.lower() for file in files}
    options: dict[str, Any] = {}
    if suffixes <= {".csv", ".tsv"}:
        # pandas would read the words NA, null and None as missing; only an empty field is.
        options = {"keep_default_na": False, "na_values": [""]}
    if suffixes == {".tsv"}:
        options["sep"] = "\t"
    for file in files:
        if file.suffix.lower() != ".parquet":
            _check_text(file)
    if path.is_dir():
        return str(path), options
    builder = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}.get(path.suffix.lower(), "json")
    return builder, options | {"data_files": {task.train: str(path)}}


def _check_text(file: Path) -> None:
    """Raise DataError where a text file holds a NUL byte or is not UTF-8, with the line."""
    try:
        if not file.stat().st_size:
            raise DataError(f"{file} is empty")
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if b"\0" in line:
                    raise DataError(f"{file}, line {number}: holds a NUL byte; save the file as UTF-8 text")
                line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}, line {number}: is not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"can't read {file}: {error.strerror}") from error
