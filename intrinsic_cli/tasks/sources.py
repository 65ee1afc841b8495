"""A task's splits as tables: from a local file, a folder, or the hub.

Local data are read by our own readers, from literal files: `datasets` would take names for patterns, obey a README,
answer from a cache, and guess types. Only what the hub has is read with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intrinsic_cli import hub, paths
from intrinsic_cli.errors import DataError, near
from intrinsic_cli.spec import DataSpec, TaskSpec
from intrinsic_cli.tasks import records
from intrinsic_cli.tasks.layout import Layout, layout, refuse_other_kinds
from intrinsic_cli.tasks.table import Table, as_text, joined, numbers


@dataclass(frozen=True)
class Source:
    """The tables of the training and, where there is one, the validation split, in this order.

    `files[split]` says in words where its rows come from, and `unread` are data files beside them.
    """

    tables: Mapping[str, Table]
    files: Mapping[str, str]
    unread: tuple[str, ...] = ()


def read(task: TaskSpec, data: DataSpec) -> Source:
    """The splits of `task.path`, each a Table. Raises DataError.

    Of local data, what was read must be what `task.fingerprint` says, where the plan knew one.
    """
    assert task.path is not None
    local = paths.local_path(task.path, "task.path")
    return _hub(task) if local is None else _local(task, local, int(data.read_limit * 2**30))


def wanted(task: TaskSpec, splits: Mapping[str, str]) -> list[str]:
    """The splits that the task needs, of those there are: the training split alone where the other is set apart.

    `splits[name]` says in words where a split lies, where a message is to say so.
    """
    set_apart = task.validation is None or (
        task.validation == "validation" and task.validation not in splits and len(splits) == 1
    )
    names = [task.train, *([] if set_apart or task.validation is None else [task.validation])]
    for name in names:
        if name not in splits:
            there = ", ".join(f"{split} ({place})" if place else split for split, place in splits.items())
            raise DataError(
                f"task {task.name}: {task.path or task.name} has no split {name!r}; it has {there}"
                f"{near(name, splits) or _ways(task, name, splits)}"
            )
    return names


def _ways(task: TaskSpec, name: str, splits: Mapping[str, str]) -> str:
    """What to give where the split `name` is missing."""
    if name == task.train:
        return "; name the one to train on by task.train"
    others = [split for split in splits if split != task.train]
    score = f"task.validation={others[0]} to score that one, or " if others else ""
    return f"; add {score}task.validation=null to set a fifth of the training rows apart"


def _local(task: TaskSpec, path: Path, limit: int) -> Source:
    root = paths.data_root(path, task.config)
    files = paths.data_files(root, str(task.path))
    if root.is_file():
        if task.train != "train":
            raise DataError(
                f"task.train={task.train}: {task.path} is one file, whose rows are the split train; leave "
                "task.train out, or give a folder of files named after their splits"
            )
        found = Layout({"train": (root,)}, ())
    else:
        asked = [task.train] if task.validation is None else [task.train, task.validation]
        found = layout(root, files, asked)
        refuse_other_kinds(root, paths.files(root), found, asked)
    splits = found.splits
    place = root if root.is_dir() else root.parent
    named = {
        split: _names([str(file.relative_to(place)) for file in files]) for split, files in splits.items()
    }
    tables: dict[str, Table] = {}
    digests: dict[Path, str] = {}
    for split in wanted(task, named):
        pieces = []
        for file in splits[split]:
            table, digests[file] = records.read(file, task.columns, limit)
            pieces.append(table)
        tables[split] = joined(pieces, splits[split])
    _check_planned(task, root, digests)
    read = {split: named[split] for split in tables}
    return Source(tables, read, tuple(str(file.relative_to(place)) for file in found.unread))


def _names(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} … {files[-1]} ({len(files)} files)"


def _check_planned(task: TaskSpec, root: Path, digests: Mapping[Path, str]) -> None:
    """Raise DataError unless the bytes that were read are those the run was planned with, and filed under."""
    if task.fingerprint is None:
        return
    found = paths.fingerprint(root, digests)
    if found != task.fingerprint:
        raise DataError(
            f"task.path={task.path} has changed since this run was planned (SHA-256 {found[:12]}…, planned "
            f"{task.fingerprint[:12]}…); put the files back, or give the command again for the new ones"
        )


def _hub(task: TaskSpec) -> Source:
    offline = hub.go_offline_if_unreachable()
    import datasets
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    hub.quiet()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if task.path in _PACKAGED_DATASETS_MODULES:  # it would read the working directory
        raise DataError(
            f"task.path={task.path} is a format, not a data set; give a file, as rows.{task.path}"
        )
    try:
        splits = datasets.load_dataset(task.path, task.config, revision=task.revision)
        names = wanted(task, dict.fromkeys(splits, ""))
        tables = {split: _table(splits[split], task.columns) for split in names}
    except DataError:
        raise
    except Exception as error:  # `datasets` passes on whatever its readers raise
        cause = " ".join(str(error.__cause__ or error).split())
        if offline:
            raise DataError(
                f"data set {task.path} is not in the cache {datasets.config.HF_DATASETS_CACHE} and the hub "
                "can't be reached; connect to a network or give a local copy by task.path=/path"
            ) from error
        raise DataError(f"data set {task.path} (config {task.config}) can't be loaded: {cause}") from error
    place = task.path if task.config is None else f"{task.path}/{task.config}"
    return Source(tables, {split: f"{place} {split} of the hub" for split in tables})


def _table(data: Any, names: Sequence[str]) -> Table:
    """A split of `datasets` as a Table."""
    present = [name for name in names if name in data.column_names]
    values = {name: data[name][:] for name in present}
    cells = {name: [as_text(value) for value in values[name]] for name in present}
    digits = {name: numbers(values[name]) for name in present}
    declared = {
        name: tuple(known) for name in present if (known := getattr(data.features[name], "names", None))
    }
    return Table(len(data), tuple(data.column_names), cells, declared, digits)
