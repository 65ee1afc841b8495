"""Slurm's launcher with submitit's local and debug executors, and the text that it would give to sbatch.

`scripts/slurm-smoke` does the same on a real Slurm.
"""

import json
import os
import re
import shutil
import signal
import stat
import time
from contextlib import suppress

import psutil
import pytest
from submitit import SlurmExecutor
from support.processes import meanwhile, until

from intrinsic_cli.cli import main as cli
from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.words import parse
from intrinsic_cli.rundir import HISTORY, THETA
from intrinsic_cli.store import Store
from intrinsic_cli.study.launchers import make_launcher, queue
from intrinsic_cli.study.launchers.inline import Inline
from intrinsic_cli.study.launchers.queue import Queue
from intrinsic_cli.study.launchers.slurm import minutes
from intrinsic_cli.study.sweep import sweep
from intrinsic_cli.training.stop import Stop


@pytest.fixture
def slurm_commands(tmp_path, monkeypatch):
    """A folder of stand-ins for Slurm's commands, first on the PATH: `slurm_commands(squeue="echo ...")`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(**bodies):
        for name, body in bodies.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name).chmod(stat.S_IRWXU)

    make(srun="exit 1", sbatch="exit 1", squeue="exit 1")
    return make


def sbatch_text(launcher, folder, tasks=5):
    """What submitit would hand to sbatch for an array of so many tasks."""
    executor = launcher.executor(folder)
    texts = SlurmExecutor(folder)
    texts.update_parameters(**executor._executor.parameters)
    texts.parameters["map_count"] = tasks
    return texts._make_submission_file_text("COMMAND", "x").splitlines()


def test_the_text_for_sbatch_says_what_was_asked_for(slurm_commands, tmp_path):
    launcher = make_launcher(
        "slurm", partition="gpu", time="1-12:30:00", gpus=2, cpus=8, memory="32G", account="lab", qos="low",
        constraint="a100", array_parallelism=3, grace=120, setup=["module load cuda", "ulimit -n 4096"],
        additional={"exclude": "node[7-9]"},
    )  # fmt: skip
    lines = sbatch_text(launcher, tmp_path)
    for line in (
        "partition=gpu", "time=2190", "gpus-per-node=2", "cpus-per-task=8", "mem=32G", "account=lab", "qos=low",
        "constraint=a100", "array=0-4%3", "signal=USR2@120", "requeue", "exclude='node[7-9]'", "job-name=idim",
    ):  # fmt: skip
        assert f"#SBATCH --{line}" in lines
    assert lines.index("module load cuda") < lines.index("ulimit -n 4096")
    assert "ulimit -n 4096" in lines[: next(i for i, line in enumerate(lines) if line.startswith("srun"))]


def test_what_was_not_asked_for_is_left_to_the_cluster(slurm_commands, tmp_path):
    text = "\n".join(sbatch_text(make_launcher("slurm"), tmp_path))
    for key in ("partition", "gpus", "cpus", "mem", "account", "qos", "constraint", "gres"):
        assert f"--{key}" not in text
    assert "#SBATCH --requeue" in text


@pytest.mark.parametrize(
    ("time", "expected"),
    [(90, 90), ("90", 90), ("1:30", 2), ("1:30:00", 90), ("1-0", 1440), ("1-12", 2160), ("1-12:30", 2190),
     ("2-00:00:01", 2881)],
)  # fmt: skip
def test_time_is_read_as_slurm_reads_it(time, expected):
    assert minutes(time) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [({"time": "soon"}, "launcher.time=soon"), ({"time": 0}, "launcher.time=0"), ({"cluster": "pbs"}, "use one of"),
     ({"gpus": -1}, "launcher.gpus=-1"), ({"runs_per_task": 0}, "launcher.runs_per_task=0"),
     ({"time": 1, "grace": 60}, "leave nothing of launcher.time=1"), ({"timeout": 0}, "launcher.timeout=0 must be"),
     ({"timeout": 9, "cluster": "local"}, "launcher.timeout=9 is for launcher.cluster=slurm")],
)  # fmt: skip
def test_options_that_cannot_be_used_are_refused(options, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        make_launcher("slurm", **options)


def test_a_machine_without_slurm_is_told_so(make_spec, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="finds no srun here"):
        list(make_launcher("slurm").launch([make_spec()], Store(tmp_path), Stop()))


def test_a_refusal_of_sbatch_is_passed_on(slurm_commands, make_spec, tmp_path):
    slurm_commands(sbatch="echo 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1")
    with pytest.raises(ConfigError, match="invalid partition specified: gpuu"):
        list(make_launcher("slurm", partition="gpuu").launch([make_spec()], Store(tmp_path), Stop()))


def test_the_queue_knows_which_jobs_have_ended_and_how(slurm_commands):
    slurm_commands(squeue=r"printf '7_0|PENDING\n7_1|RUNNING\n7_2|COMPLETING\n7_3|OUT_OF_MEMORY\n'")
    queue = Queue()
    assert [queue.ending(f"7_{i}") for i in range(5)] == [None, None, None, "OUT_OF_MEMORY", "gone"]


def test_what_a_site_says_before_its_queue_is_no_job(slurm_commands):
    slurm_commands(squeue=r"printf 'Welcome to cluster X\n\n7_0|COMPLETED\n'")
    assert Queue().ending("7_0") == "COMPLETED"


def test_no_job_is_taken_for_dead_while_the_controller_is_away(slurm_commands):
    slurm_commands(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert Queue().ending("7_0") is None


def test_a_command_that_left_is_followed_by_one_that_watches_the_same_jobs(
    slurm_commands, make_spec, tmp_path
):
    specs, store = [make_spec(seed=i) for i in range(4)], Store(tmp_path / "out")
    slurm_commands(
        sbatch=f"echo x >> {tmp_path}/submitted; echo Submitted batch job 7",
        squeue=r"printf '7_0|RUNNING\n7_1|PENDING\n'",
    )
    stop = Stop()

    def leave():
        until((store.root / ".slurm" / "7.json").exists, "the submission")
        stop.request()

    thread = meanwhile(leave, stop)
    launcher = make_launcher("slurm", runs_per_task=2)
    assert list(launcher.launch(specs, store, stop)) == []
    thread.join()
    for spec in specs[:3]:
        sweep([spec], store, Inline(), str)  # what the jobs do
    stop = Stop()
    again = launcher.launch(specs, store, stop)
    assert [next(again) for _ in range(3)] == [(spec, "done") for spec in specs[:3]]
    stop.request()
    assert list(again) == []
    assert (tmp_path / "submitted").read_text() == "x\n"


@pytest.fixture
def slurm(slurm_commands, tmp_path, monkeypatch):
    """A Slurm that begins no job: all are in the state that `slurm(STATE)` says until they are cancelled. Returns
    the ids of those that were submitted, and that were cancelled."""
    monkeypatch.setattr(queue, "EVERY", 0.2)
    jobs = tmp_path / "jobs"
    jobs.mkdir()

    def make(state):
        slurm_commands(
            sbatch=f"n=$(ls {jobs} | wc -l); echo {state} > {jobs}/$n; echo Submitted batch job $n",
            squeue=f'cd {jobs}; for id in *; do echo "$id|$(cat $id)"; done',
            scancel=f"echo CANCELLED > {jobs}/$1",
        )

    def told():
        ids = sorted(path.name for path in jobs.iterdir())
        return ids, [i for i in ids if (jobs / i).read_text() == "CANCELLED\n"]

    return make, told


def leave_jobs(specs, store):
    """A command that submits jobs and leaves. They begin nothing."""
    stop = Stop()

    def leave():
        until(lambda: list(store.root.glob(".slurm/*.json")), "the submission")
        stop.request()

    thread = meanwhile(leave, stop)
    assert list(make_launcher("slurm").launch(specs, store, stop)) == []
    thread.join()


def train_once_submitted(specs, store, count, stop):
    """What the job does that is submitted as the last of `count`."""

    def work():
        until(lambda: len(list(store.root.glob(".slurm/*.json"))) == count, "the submission")
        for spec in specs:
            sweep([spec], store, Inline(), str)

    return meanwhile(work, stop)


def test_a_job_that_is_over_is_no_attempt_though_the_queue_was_away(
    slurm, slurm_commands, make_spec, tmp_path, caplog
):
    make, told = slurm
    make("PENDING")
    spec, store, stop = make_spec(), Store(tmp_path / "out"), Stop()
    leave_jobs([spec], store)
    away = tmp_path / "away"
    away.touch()
    jobs = f'cd {tmp_path}/jobs; for id in *; do [ $id = 0 ] || echo "$id|RUNNING"; done'  # the first is forgotten
    slurm_commands(squeue=f"[ -e {away} ] && rm {away} && exit 1; {jobs}")
    thread = train_once_submitted([spec], store, 2, stop)
    assert list(make_launcher("slurm", retries=0).launch([spec], store, stop)) == [(spec, "done")]
    thread.join()
    assert told()[0] == ["0", "1"]
    assert "squeue does not answer" in caplog.text
    assert "watching" not in caplog.text


def test_a_command_can_leave_while_the_queue_is_away(slurm, slurm_commands, make_spec, tmp_path):
    make, told = slurm
    make("PENDING")
    spec, store, stop = make_spec(), Store(tmp_path / "out"), Stop()
    leave_jobs([spec], store)
    asked = tmp_path / "asked"
    slurm_commands(squeue=f"touch {asked}; exit 1")
    thread = meanwhile(lambda: (until(asked.exists, "a question"), stop.request()), stop)
    assert list(make_launcher("slurm").launch([spec], store, stop)) == []
    thread.join()
    assert told()[0] == ["0"]


def test_jobs_of_the_folder_that_this_is_a_copy_of_are_not_its_own(slurm, make_spec, tmp_path, caplog):
    make, told = slurm
    make("PENDING")
    spec, store, stop = make_spec(), Store(tmp_path / "out"), Stop()
    leave_jobs([spec], store)
    copy = Store(shutil.copytree(store.root, tmp_path / "copy"))
    thread = train_once_submitted([spec], copy, 2, stop)
    assert list(make_launcher("slurm").launch([spec], copy, stop)) == [(spec, "done")]
    thread.join()
    assert told() == (["0", "1"], [])
    assert "watching" not in caplog.text


@pytest.mark.parametrize("noted", ["by an earlier version", "through a link"])
def test_jobs_of_this_folder_are_its_own_however_it_was_noted(slurm, make_spec, tmp_path, caplog, noted):
    make, told = slurm
    make("PENDING")
    spec, store, stop = make_spec(), Store(tmp_path / "out"), Stop()
    leave_jobs([spec], store)
    if noted == "by an earlier version":
        (store.root / ".slurm" / "0.json").write_text(json.dumps({"0": [store.run(spec).path.name]}))
    else:
        (tmp_path / "link").symlink_to(store.root)
        store = Store(tmp_path / "link")
    thread = train_once_submitted([spec], store, 1, stop)
    assert list(make_launcher("slurm").launch([spec], store, stop)) == [(spec, "done")]
    thread.join()
    assert told()[0] == ["0"]
    assert "watching 1 Slurm jobs" in caplog.text


def test_a_job_without_a_step_for_too_long_is_cancelled_and_its_runs_are_tried_again(
    slurm, make_spec, tmp_path
):
    make, told = slurm
    make("RUNNING")
    specs, store = [make_spec(seed=i) for i in range(2)], Store(tmp_path / "out")
    stop = Stop()

    def work():  # of the second job
        until((store.root / ".slurm" / "1.json").exists, "another job")
        for spec in specs:
            sweep([spec], store, Inline(), str)

    thread = meanwhile(work, stop)
    launcher = make_launcher("slurm", timeout=1, runs_per_task=2)
    assert list(launcher.launch(specs, store, stop)) == [(spec, "done") for spec in specs]
    thread.join()
    assert told() == (["0", "1"], ["0"])


def test_why_a_job_was_cancelled_is_recorded(slurm, make_spec, tmp_path):
    make, told = slurm
    make("RUNNING")
    spec, store = make_spec(), Store(tmp_path / "out")
    assert list(make_launcher("slurm", timeout=0.5).launch([spec], store, Stop())) == [(spec, "failed")]
    assert told() == (["0", "1"], ["0", "1"])
    error = store.run(spec).error()
    assert error["attempts"] == 2
    assert re.match(
        r"its Slurm job 1 was cancelled, no step for launcher\.timeout=0\.5 s \(log: .*\.err\)",
        error["message"],
    )


def test_a_job_that_waits_in_the_queue_may_wait(slurm, make_spec, tmp_path):
    make, told = slurm
    make("PENDING")
    spec, store, stop = make_spec(), Store(tmp_path / "out"), Stop()

    def work():
        until((store.root / ".slurm" / "0.json").exists, "the submission")
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 2, "many times the limit")
        sweep([spec], store, Inline(), str)

    thread = meanwhile(work, stop)
    assert list(make_launcher("slurm", timeout=0.3).launch([spec], store, stop)) == [(spec, "done")]
    thread.join()
    assert told() == (["0"], [])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"7_0": "x"}',
        b'{"7_0": [1]}',
        b'{"root": 7, "jobs": {}}',
        b'{"root": "/", "jobs": []}',
        b"[" * 10**5,
        "pipe",
        "folder",
    ],
)
def test_a_damaged_note_of_jobs_is_said_and_passed_over(slurm_commands, make_spec, tmp_path, caplog, content):
    spec, store = make_spec(), Store(tmp_path)
    sweep([spec], store, Inline(), str)
    note = tmp_path / ".slurm" / "7.json"
    note.parent.mkdir()
    if content == "pipe":
        os.mkfifo(note)
    elif content == "folder":
        note.mkdir()
    else:
        note.write_bytes(content)
    assert list(make_launcher("slurm").launch([spec], store, Stop())) == [(spec, "done")]
    assert "7.json" in caplog.text
    assert "are not watched" in caplog.text


def test_debug_trains_in_this_process(make_spec, tmp_path):
    specs, store = [make_spec(), make_spec(kind="full", lr=1e-3)], Store(tmp_path)
    launcher = make_launcher("slurm", cluster="debug")
    assert list(launcher.launch(specs, store, Stop())) == [(spec, "done") for spec in specs]


def at_work(run):
    """The task of submitit's local executor that trains `run`, once it does."""

    def found():
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "submitit.core._submit" in process.cmdline() and (run.path / HISTORY).exists():
                    return process
        return None

    return until(found, "training in a task")


def test_a_preempted_task_goes_on_and_one_that_is_killed_is_recorded(make_spec, tmp_path):
    first, second = make_spec(seed=0, max_steps=200), make_spec(seed=1, max_steps=10**6)
    store, calm = Store(tmp_path / "out"), Store(tmp_path / "calm")
    launcher = make_launcher("slurm", cluster="local", retries=0)

    def disturb(run, number):
        return lambda: at_work(run).send_signal(number)

    stop = Stop()
    thread = meanwhile(disturb(store.run(first), signal.SIGUSR2), stop)
    assert list(launcher.launch([first], store, stop)) == [(first, "done")]
    thread.join()
    assert len(store.run(first).result().resumed) == 1
    sweep([first], calm, Inline(), str)
    assert load_theta(store.run(first)) == load_theta(calm.run(first))

    thread = meanwhile(disturb(store.run(second), signal.SIGKILL), stop)
    assert list(launcher.launch([second], store, stop)) == [(second, "failed")]
    thread.join()
    error = store.run(second).error()
    assert re.search(r"its Slurm job \d+ ended as FINISHED \(log: .*\.err\)", error["message"])
    assert error["attempts"] == 1


def load_theta(run):
    from safetensors.torch import load_file

    return {name: tensor.tolist() for name, tensor in load_file(run.path / THETA).items()}


def test_a_run_behind_one_whose_task_died_keeps_its_own_attempts(make_spec, tmp_path):
    specs, store = [make_spec(seed=i) for i in range(2)], Store(tmp_path)
    launcher = make_launcher("slurm", cluster="local", setup=["exit 3"], runs_per_task=2, retries=1)
    assert list(launcher.launch(specs, store, Stop())) == [(spec, "failed") for spec in specs]
    assert [store.run(spec).error()["attempts"] for spec in specs] == [2, 2]
    assert len(list((tmp_path / ".slurm").glob("*.json"))) == 4  # both twice, then the second twice alone


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("launcher.setup=exit 3", ["exit 3"]),
        ("launcher.setup=[exit 3,echo b]", ["exit 3", "echo b"]),
        ("d=3", []),
    ],
)
def test_one_line_to_set_up_is_a_line(word, expected):
    plan = sweep_plan(parse(["model=tiny", "launcher=slurm", "launcher.cluster=local", word]))
    lines = make_launcher(**plan.launcher)._parameters["slurm_setup"]
    assert [line for line in lines if not line.startswith("export ")] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [({"setup": 5}, "launcher.setup=5 is no list"), ({"setup": [1]}, "is no list of shell lines"),
     ({"additional": 5}, "launcher.additional=5 is no mapping")],
)  # fmt: skip
def test_setup_and_additional_of_another_kind_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_launcher("slurm", cluster="local", **options)


def test_a_sweep_of_which_every_run_died_ends_with_status_1(task_folder, tmp_path, capfd):
    words = ["model=tiny", "task=custom", f"task.path={task_folder}", "d=200", "baseline.run=false"]
    words += ["launcher=slurm", "launcher.cluster=local", "launcher.setup=[exit 3]", "launcher.retries=0"]
    assert cli.main(["sweep", *words, f"output_dir={tmp_path}"]) == 1
    assert "1 run failed" in capfd.readouterr().err
