"""The runs under one output folder, wherever they lie in it, and what a look at all of them finds."""

from __future__ import annotations

import itertools
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from intrinsic_cli.errors import StoreError, one_line
from intrinsic_cli.files import write_whole
from intrinsic_cli.result import RunResult, RunState
from intrinsic_cli.rundir import CONFIG, RESULT, Look, RunDir
from intrinsic_cli.spec import RunSpec, digest

log = logging.getLogger(__name__)

STUDY = "study.yaml"  # the words of the last sweep into a folder
RUN_NAME = re.compile(r".+-lr\S+-s\d+-[0-9a-f]{10}")  # of `RunSpec.run_id`
TOLD = 20  # lines of one warning


@dataclass(frozen=True)
class Survey:
    """The runs under a folder, by name, and the folders that look like runs and count as none, with the reason."""

    runs: tuple[Look, ...]
    left_out: tuple[tuple[Path, str], ...]

    def only(self, members: Callable[[RunSpec], bool]) -> Survey:
        """The runs whose configuration is known and one of the `members`."""
        return replace(self, runs=tuple(look for look in self.runs if look.spec and members(look.spec)))

    @property
    def results(self) -> list[RunResult]:
        return [look.result for look in self.runs if look.result is not None]

    @property
    def diverged(self) -> list[RunSpec]:
        """The runs that failed as their numbers stopped being finite."""
        return [look.spec for look in self.runs if look.diverged and look.spec is not None]

    @property
    def pruned(self) -> list[tuple[RunSpec, str]]:
        """The runs that ended early as they can't matter, with the kind of their reason."""
        return [(look.spec, look.pruned) for look in self.runs if look.pruned and look.spec is not None]

    @property
    def unreadable(self) -> list[Look]:
        return [look for look in self.runs if look.state is RunState.UNREADABLE]


class Store:
    """All the runs under one output folder, however deep. A folder is a run's if its name is the run's id, or
    one that earlier versions gave it; of several, one that has a result is the run's before one that has none, then
    the one nearest to the root, then by name. A finished run of the same model under another label is the same
    run."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._by_digest: dict[str, list[Path]] | None = None
        self._told: set[str] = set()

    def check_writable(self) -> None:
        """Raise StoreError now, not after an hour of training, where the folder can't be written."""
        probe = self.root / f".probe.{secrets.token_hex(4)}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"output_dir={self.root} can't be written ({error.strerror or error}); choose another folder"
            ) from error

    def run(self, spec: RunSpec) -> RunDir:
        """The directory of a run: where it lies, or where it is to be."""
        names = (spec.run_id, *spec.legacy_ids)
        near = [self.root / name for name in names if os.path.isdir(self.root / name)]
        if self._by_digest is None:  # what lies in folders of the root was not made by a command at work here
            self._by_digest = {}
            for path, _ in _folders(self.root):
                self._by_digest.setdefault(digest(path.name), []).append(path)
        alike = [path for name in names for path in self._by_digest.get(digest(name), ())]
        there = [path for path in alike if path.name in names or _has_result(path)]
        ranked = sorted({*near, *there}, key=lambda path: (len(path.parts), path.name != spec.run_id, path))
        if len(ranked) > 1:
            looks = [RunDir(path).look() for path in ranked if not _is_empty(path)]
            own = [look for look in looks if not look.spec or digest(look.spec.run_id) == digest(spec.run_id)]
            ranked = [look.path for look in sorted(own, key=lambda look: look.result is None)] or ranked
        return RunDir(ranked[0] if ranked else self.root / spec.run_id, spec)

    def survey(self) -> Survey:
        """Look at every run under the root. Raises StoreError where that is no folder."""
        if not os.path.isdir(self.root):  # which takes a name of any length
            raise StoreError(f"{self.root} is not a folder; give the output_dir of a sweep, such as outputs/")
        try:
            os.listdir(self.root)
        except OSError as error:
            raise StoreError(f"can't read {self.root}: {error.strerror or error}") from error
        chosen: dict[str, Look] = {}
        left_out = []
        looks = [RunDir(path).look() for path, names in _folders(self.root) if _may_be_run(path, names)]
        looks = [look for look in looks if os.path.lexists(look.path)]  # not forgotten meanwhile
        looks.sort(  # as in `run`
            key=lambda look: (
                look.result is None,
                len(look.path.parts),
                look.spec is None or look.path.name != look.spec.run_id,
            )
        )
        real: set[str] = set()
        for look in looks:
            name = look.path.name
            ids = (name,) if look.spec is None else (look.spec.run_id, *look.spec.legacy_ids)
            if look.spec is None and not RUN_NAME.fullmatch(name):
                continue  # a folder with a config.json of another program
            if name in ids and digest(ids[0]) not in chosen:
                chosen[digest(ids[0])] = look
                real.add(os.path.realpath(look.path))
            else:
                left_out.append((look, ids[0]))
        told = [
            (look.path, _why_not(look, own, chosen.get(digest(own))))
            for look, own in left_out
            if os.path.realpath(look.path) not in real
        ]
        return Survey(tuple(sorted(chosen.values(), key=lambda look: look.path)), tuple(told))

    def keep_study(self, text: str) -> None:
        """Write `text` as the folder's study file. One of other words stays, once, under the next free
        number."""
        path = self.root / STUDY
        try:
            before = path.read_bytes() if path.is_file() else None
            if before == text.encode():
                return
            kept = (other.read_bytes() for other in self.root.glob("study-*.yaml") if other.is_file())
            if before is not None and before not in kept:
                number = next(n for n in itertools.count(1) if not (self.root / f"study-{n}.yaml").exists())
                with suppress(FileNotFoundError):  # another driver was first
                    os.replace(path, self.root / f"study-{number}.yaml")
        except OSError as error:
            raise StoreError(f"can't write {path}: {error.strerror or error}") from error
        write_whole(path, text.encode())

    def runs(self) -> list[RunDir]:
        """Every run directory under the root, by name."""
        return [RunDir(look.path) for look in self.survey().runs]

    def read(self) -> Survey:
        """A survey of runs to report on: what can't be read or counts as no run is said in warnings."""
        survey = self.survey()
        bad = [f"{look.path}: {look.reason}" for look in survey.unreadable]
        self._tell(f"{len(bad)} of {len(survey.runs)} runs can't be read and are left out:", bad)
        others = [f"{path}: {reason}" for path, reason in survey.left_out]
        self._tell(f"{len(others)} folders count as no run and are left out:", others)
        return survey

    def results(self) -> list[RunResult]:
        """The results of all finished runs, as `read` finds them."""
        return self.read().results

    def _tell(self, head: str, lines: Sequence[str]) -> None:
        """Warn of what is left out, once."""
        if lines and head not in self._told:
            self._told.add(head)
            more = [f"and {len(lines) - TOLD} more; `idim status` lists all"] if len(lines) > TOLD else []
            log.warning("\n  ".join([head, *map(one_line, lines[:TOLD]), *more]))


def _has_result(path: Path) -> bool:
    """Whether a folder holds a result of the run that it is called by."""
    look = RunDir(path).look()
    return look.result is not None and look.result.spec.run_id == path.name


def _is_empty(path: Path) -> bool:
    try:
        return not os.listdir(path)
    except OSError:
        return False


def _why_not(look: Look, own: str, chosen: Look | None) -> str:
    """Why a folder of the run `own` counts as none beside the `chosen` one of it."""
    if chosen is None:
        return f"its name is not its run's, {own}"
    if look.result and chosen.result and look.result.metrics != chosen.result.metrics:
        return f"the same run as {chosen.path}, with other scores"
    if chosen.result and not look.result:
        return f"an unfinished folder of the run in {chosen.path}"
    return f"a copy of {chosen.path}"


def _folders(root: Path) -> Iterator[tuple[Path, frozenset[str] | None]]:
    """`root` and every folder below it but hidden ones that are no run's, the shallow first, with the names of what
    each holds; None for one that can't be looked into. Links are followed, and no folder is gone into twice."""
    level, seen = [root], set()
    while level:
        below: list[Path] = []
        for folder in level:
            try:
                names = sorted(os.listdir(folder))
                key = os.path.realpath(folder)
            except OSError:
                names, key = None, ""
            yield folder, None if names is None else frozenset(names)
            if names and key not in seen:
                seen.add(key)
                inside = (folder / name for name in names if name[0] != "." or RUN_NAME.fullmatch(name))
                below += (path for path in inside if os.path.isdir(path))
        level = below


def _may_be_run(path: Path, names: frozenset[str] | None) -> bool:
    """Whether a folder that holds `names` may be a run's, by them and by its own."""
    if RUN_NAME.fullmatch(path.name):
        return names is None or bool(names)
    return bool(names and names & {RESULT, CONFIG})
