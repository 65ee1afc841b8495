"""Job arrays of Slurm, through submitit: an array task trains some runs of one cell, one after the other.

Slurm starts a task again that was preempted or reached its time limit, and its run goes on from the snapshot.
The driver only watches. It may leave while the jobs go on; the same command then watches them again.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import time as clock
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

from submitit import AutoExecutor, Job
from submitit.core.utils import FailedJobError

from intrinsic_cli.errors import ConfigError, DamagedError, StoreError, one_of
from intrinsic_cli.files import publish, read_json
from intrinsic_cli.result import RunState
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.ending import ended

# The pickles of queued jobs may name Runs as this module's.
from intrinsic_cli.study.launchers.array_task import Runs
from intrinsic_cli.study.launchers.base import Watch, at_least, timeout_of
from intrinsic_cli.study.launchers.process import check_apart, same_code
from intrinsic_cli.study.launchers.queue import Queue, cancel
from intrinsic_cli.training.stop import Stop

log = logging.getLogger(__name__)
CLUSTERS = ("slurm", "local", "debug")
LOOK = 0.5  # seconds between two looks at the runs' files
LARGEST_ARRAY = 1000  # tasks: Slurm's own default of MaxArraySize allows no more
LONGEST_NOTE = 16 << 20  # bytes of what is noted of an array
TIME_LIMITS = 1000  # that a task may reach; each time its run has got further


class Slurm:
    """`array_parallelism` tasks of `runs_per_task` runs at once; a run whose task dies is tried `retries` more
    times, unless somebody cancelled it. A task whose run takes no step for `timeout` seconds is cancelled here, and
    counts as one that died.

    `time` is minutes or Slurm's text, `gpus` and `cpus` are counts per task, `memory` is Slurm's text, `grace`
    the seconds before the time limit at which a task saves its run and is queued again, `setup` shell lines
    that come first in the job, `additional` any other option of sbatch. `cluster` is `slurm`, or `local` (all
    tasks at once on this machine) or `debug` (in this process) to try a sweep out.
    """

    def __init__(
        self,
        cluster: str = "slurm",
        partition: str | None = None,
        time: int | str = 60,
        gpus: int | None = None,
        cpus: int | None = None,
        memory: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        array_parallelism: int = 16,
        runs_per_task: int = 1,
        retries: int = 1,
        grace: int = 90,
        setup: Sequence[str] = (),
        additional: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        if cluster not in CLUSTERS:
            raise ConfigError(f"launcher.cluster={cluster}{one_of(cluster, CLUSTERS)}")
        self.slots = at_least("array_parallelism", array_parallelism, 1)
        self._cluster = cluster
        self._runs_per_task = at_least("runs_per_task", runs_per_task, 1)
        self._retries = at_least("retries", retries, 0)
        self._timeout = timeout_of(timeout)
        if timeout is not None and cluster != "slurm":
            raise ConfigError(
                f"launcher.timeout={timeout} is for launcher.cluster=slurm, whose scancel ends a task; leave it out"
            )
        self._watches: dict[str, tuple[RunSpec, Watch]] = {}  # of jobs at work, by id: the run under way
        self._lost: dict[str, Watch] = {}  # jobs that were cancelled here
        limit = minutes(time)
        if at_least("grace", grace, 1) >= 60 * limit:
            raise ConfigError(
                f"launcher.grace={grace} seconds leave nothing of launcher.time={time}; use less, or more time"
            )
        lines = [setup] if isinstance(setup, str) else setup
        if not (isinstance(lines, Sequence) and all(isinstance(line, str) for line in lines)):
            raise ConfigError(
                f"launcher.setup={setup} is no list of shell lines; write launcher.setup=[module load x]"
            )
        if not isinstance(additional, Mapping | None):
            raise ConfigError(
                f"launcher.additional={additional} is no mapping; write launcher.additional={{exclude: node7}}"
            )
        own = same_code(os.environ)
        exports = [f"export {k}={shlex.quote(own[k])}" for k in ("PYTHONSAFEPATH", "PYTHONPATH") if k in own]
        self._parameters = {
            "name": "idim",
            "timeout_min": limit,
            "gpus_per_node": gpus if gpus is None else at_least("gpus", gpus, 0),
            "cpus_per_task": cpus if cpus is None else at_least("cpus", cpus, 1),
            "slurm_mem": memory,
            "slurm_partition": partition,
            "slurm_account": account,
            "slurm_qos": qos,
            "slurm_constraint": constraint,
            "slurm_array_parallelism": self.slots,
            "slurm_signal_delay_s": grace,
            "slurm_setup": [*exports, *lines],
            "local_setup": [*exports, *lines],
            "slurm_additional_parameters": {"requeue": True, **(additional or {})},
        }

    def executor(self, folder: Path) -> AutoExecutor:
        """submitit's executor with these parameters, which keeps its files in `folder`.

        Raises ConfigError where there is no Slurm on this machine.
        """
        try:
            executor = AutoExecutor(folder, cluster=self._cluster, slurm_max_num_timeout=TIME_LIMITS)
        except RuntimeError as error:
            raise ConfigError(
                "launcher=slurm finds no srun here; start it on a login node of the cluster, or use launcher=local"
            ) from error
        executor.update_parameters(**self._parameters)
        return executor

    def check(self, cells: Sequence[Sequence[RunSpec]], store: Store, stop: Stop) -> list[str]:
        return check_apart(cells, store, stop, self._timeout)

    def launch(
        self, specs: Sequence[RunSpec], store: Store, stop: Stop
    ) -> Generator[tuple[RunSpec, RunState], None, None]:
        """As `Launcher.launch`, but for a requested stop: the jobs go on, and no run is yielded as `stopped`."""
        folder = store.root.absolute() / ".slurm"
        executor, queue = self.executor(folder), Queue()
        attempts: Counter[RunSpec] = Counter()
        living = self._attach(executor, queue, store, specs, stop)
        there = {spec for group in living.values() for spec in group}
        todo = []
        for spec in specs:
            if spec not in there and store.run(spec).state is RunState.DONE:
                yield spec, RunState.DONE  # by a job of an earlier command, since this one looked
            elif spec not in there:
                todo.append(spec)
        while todo or living:
            if stop.requested:
                if living:
                    log.warning(
                        "%d Slurm jobs go on without this command, which finds them when it is started again; "
                        "scancel %s ends them", len(living), " ".join(sorted({_array(job) for job in living})),
                    )  # fmt: skip
                return
            if todo:
                living |= self._submit(executor, todo, store, folder)
                queue.forget()
                todo = []
            for job, group in list(living.items()):
                if stop.requested:
                    break
                self._watch(job.job_id, group, queue, store)
                ending = self._ending(job, queue)
                del living[job]
                for spec, state in self._look(job, group, ending, store, attempts):
                    if state is None:
                        todo.append(spec)
                    elif state is RunState.PENDING:
                        living.setdefault(job, []).append(spec)
                    else:
                        yield spec, state
            clock.sleep(LOOK)

    def _watch(self, job_id: str, group: Sequence[RunSpec], queue: Queue, store: Store) -> None:
        """Cancel a job that is at work, and whose run has gone too long without a step."""
        if self._timeout is None:
            return
        current = next((spec for spec in group if not store.run(spec).state.over), None)
        if current is None or not queue.runs(job_id):  # it may wait as long as it has to
            self._watches.pop(job_id, None)
            return
        if job_id not in self._watches or self._watches[job_id][0] != current:
            self._watches[job_id] = current, Watch(self._timeout)
        watch = self._watches[job_id][1]
        if watch.lost(store.run(current)):
            self._lost[job_id] = watch
            del self._watches[job_id]  # so that it is cancelled once more, should that be in vain
            cancel(job_id)
            queue.forget()

    def _ending(self, job: Job[None], queue: Queue) -> str | None:
        """The cluster's word for how a job ended; None while it waits or runs."""
        if self._cluster == "slurm":
            return queue.ending(job.job_id)
        return job.state if job.done() else None

    def _look(
        self,
        job: Job[None],
        group: list[RunSpec],
        ending: str | None,
        store: Store,
        attempts: Counter[RunSpec],
    ) -> Iterator[tuple[RunSpec, RunState | None]]:
        """What has become of a job's runs: pending while it waits or runs, None to try again.

        Of a job that died, the first run without a word was under way; those behind it wait for another job,
        as it does while it has attempts left.
        """
        lost = self._lost.get(job.job_id)
        cancelled, died = ending == "CANCELLED" and lost is None, False
        how = f"ended as {ending}" if lost is None else f"was cancelled, {lost}"
        reason = f"its Slurm job {job.job_id} {how} (log: {job.paths.stderr})"
        for spec in group:
            run = store.run(spec)
            state = run.state
            if ending is None and state not in (RunState.DONE, RunState.PRUNED):
                yield spec, RunState.PENDING
                continue
            word = state if state.over else None
            if word is None and state is not RunState.RUNNING:
                if died and not cancelled:
                    yield spec, None
                    continue
                died = True
            attempts[spec] += 1
            yield spec, ended(
                run, word, reason, attempts=attempts[spec], stopping=False,
                retries=0 if cancelled else self._retries,
            )  # fmt: skip

    def _submit(
        self, executor: AutoExecutor, specs: Sequence[RunSpec], store: Store, folder: Path
    ) -> dict[Job[None], list[RunSpec]]:
        """Queue the runs, cell by cell, and note beside the logs which job has which."""
        cells = [list(cell) for _, cell in groupby(specs, key=lambda spec: spec.cell)]
        groups = [group for cell in cells for group in pieces(cell, self._runs_per_task)]
        folder.mkdir(parents=True, exist_ok=True)
        jobs: dict[Job[None], list[RunSpec]] = {}
        for spec in specs:
            store.run(spec).plan(spec)
        for part in pieces(groups, LARGEST_ARRAY):
            calls = [Runs([spec.to_dict() for spec in group], store.root.absolute()) for group in part]
            try:
                array = dict(zip(executor.submit_array(calls), part, strict=True))
            except FailedJobError as error:
                raise ConfigError(f"sbatch refused the job: {' '.join(str(error).split())}") from error
            names = {
                job.job_id: [store.run(spec).path.name for spec in group] for job, group in array.items()
            }
            note = {"root": str(store.root.absolute()), "jobs": names}
            publish(folder / f"{_array(next(iter(array)))}.json", note)
            jobs |= array
        return jobs

    def _attach(
        self, executor: AutoExecutor, queue: Queue, store: Store, specs: Sequence[RunSpec], stop: Stop
    ) -> dict[Job[None], list[RunSpec]]:
        """The jobs of earlier commands on this folder that Slurm still has, with their runs among `specs`: waits
        until it can be asked. None of them where `stop` is requested first."""
        if self._cluster != "slurm":
            return {}
        wanted = {store.run(spec).path.name: spec for spec in specs}
        folder, living = store.root.absolute() / ".slurm", {}
        noted = [job for path in sorted(folder.glob("*.json")) for job in _jobs(path, store.root).items()]
        noted = [(job_id, names) for job_id, names in noted if not wanted.keys().isdisjoint(names)]
        if noted and not queue.answers():
            log.warning(
                "squeue does not answer; waiting for what it says of %d jobs of earlier commands", len(noted)
            )
            while not queue.answers():
                if stop.requested:
                    return {}
                clock.sleep(LOOK)
        for job_id, names in noted:
            group = [wanted.pop(name) for name in names if name in wanted and not queue.ending(job_id)]
            if group:
                living[executor.job_class(folder, job_id)] = group
        if living:
            log.warning("watching %d Slurm jobs that an earlier command has left", len(living))
        return living


def pieces(items: Sequence[Any], size: int) -> Iterable[Any]:
    """`items` in lists of at most `size`."""
    return (items[i : i + size] for i in range(0, len(items), size))


def minutes(time: int | str) -> int:
    """Slurm's time text (`90`, `90:00`, `1:30:00`, `1-12`, `1-12:30`, `1-12:30:00`) in minutes, rounded up."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(time))
    if not match:
        raise ConfigError(f"launcher.time={time} is no time; write minutes, as 90, or 1:30:00 or 1-12:00:00")
    days, *rest = match.groups()
    first, second, third = (int(part) if part else 0 for part in rest)
    if days is not None or rest[2] is not None:
        seconds = int(days or 0) * 86400 + first * 3600 + second * 60 + third
    else:
        seconds = first * 60 + second
    if seconds == 0:
        raise ConfigError(f"launcher.time={time} leaves no time; write minutes, as 90")
    return ceil(seconds / 60)


def _jobs(path: Path, root: Path) -> dict[str, list[str]]:
    """The names of the runs of each job, as `_submit` noted them; none, with a word, where that can't be read. None
    either where they are runs of another folder than `root`, of which this one is a copy: the jobs write there."""
    try:
        note = read_json(path, LONGEST_NOTE)
        # Earlier versions noted the jobs alone.
        rooted = isinstance(note, dict) and isinstance(note.get("root"), str)
        jobs = note.get("jobs") if rooted else note
        if not isinstance(jobs, dict) or not all(
            isinstance(names, list) and all(isinstance(name, str) for name in names)
            for names in jobs.values()
        ):
            raise DamagedError(f"{path} is damaged (it names no runs of jobs)")
    except (StoreError, FileNotFoundError) as error:
        log.warning("%s; jobs that it tells of are not watched", error)
        return {}
    return jobs if not rooted or _same_folder(note["root"], root) else {}


def _same_folder(one: str, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # it is not there, or no name of a folder
        return False


def _array(job: Job[None]) -> str:
    """The id of the array that a job is a task of."""
    return job.job_id.split("_")[0]
