"""Read a task's splits with `datasets`: from the hub, a local folder in the hub's layout, or plain files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intrinsic_cli import paths
from intrinsic_cli.errors import DataError
from intrinsic_cli.spec import TaskSpec
from intrinsic_cli.tasks import records


def read_splits(task: TaskSpec) -> Mapping[str, Any]:
    """The splits of `task.path` by name, each a `datasets.Dataset`. Raises DataError."""
    assert task.path is not None
    local = paths.local_path(task.path, "task.path")
    if local is None:
        offline = paths.go_offline_if_unreachable()
    import datasets
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    paths.quiet()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if local is None and task.path in _PACKAGED_DATASETS_MODULES:  # it would read the working directory
        raise DataError(
            f"task.path={task.path} is a format, not a data set; give a file, as rows.{task.path}"
        )
    try:
        if local is None:
            return datasets.load_dataset(task.path, task.config, revision=task.revision)
        # The library's cache knows a local file by its time stamp alone: a changed file could give old rows.
        with tempfile.TemporaryDirectory() as place:
            path, options = _builder(task, local, Path(place))
            return datasets.load_dataset(
                path, task.config, cache_dir=f"{place}/cache", keep_in_memory=True, **options
            )
    except DataError:
        raise
    except Exception as error:  # `datasets` passes on whatever its readers raise
        cause = " ".join(str(error.__cause__ or error).split())
        if "corresponds to no data" in cause:
            raise DataError(f"task.path={task.path} has an empty split (a header without rows?)") from error
        if local is not None:
            raise DataError(
                f"task.path={task.path} can't be read: {cause}; mend it, or save it in another format"
            ) from error
        if offline:
            raise DataError(
                f"data set {task.path} is not in the cache {datasets.config.HF_DATASETS_CACHE} and the hub "
                "can't be reached; connect to a network or give a local copy by task.path=/path"
            ) from error
        raise DataError(f"data set {task.path} (config {task.config}) can't be loaded: {cause}") from error


def _builder(task: TaskSpec, path: Path, place: Path) -> tuple[str, dict[str, Any]]:
    """The builder and options of `load_dataset` for a file, or for a folder of files.

    It gets a link in `place` to a file: it takes `*`, `[` and `::` in a name for a pattern or an address.
    """
    files = paths.data_files(path, str(task.path))
    for file in files:
        records.check(file, (*task.text, task.label))
    suffix = files[0].suffix.lower()
    options: dict[str, Any] = {}
    if suffix in (".csv", ".tsv"):
        # pandas would read the words NA, null and None as missing; only an empty field is.
        options = {"keep_default_na": False, "na_values": [""]}
    if suffix == ".tsv":
        options["sep"] = "\t"
    if path.is_dir():
        return str(path), options
    if task.train != "train":
        raise DataError(
            f"task.train={task.train}: {task.path} is one file, whose rows are the split train; leave task.train "
            "out, or give a folder of files named after their splits"
        )
    link = place / f"rows{suffix}"
    link.symlink_to(path.absolute())
    builder = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}.get(suffix, "json")
    return builder, options | {"data_files": {task.train: str(link)}}
