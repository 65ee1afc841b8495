"""One run, one owner: by a lock, where somebody deletes the lock's file, and where the file system knows none."""

import os
import subprocess
import sys
import time

import pytest

from intrinsic_cli import claims as module
from intrinsic_cli.claims import LEASE, LOCK
from intrinsic_cli.errors import StoreError
from intrinsic_cli.result import RunState
from intrinsic_cli.rundir import RunDir

# A process that claims a run, says so, and holds it until it is told to leave. `without` is the error number of
# a file system without locks.
HOLDER = """
import fcntl, os, sys
without = int(sys.argv[2])
if without:
    def flock(*_):
        raise OSError(without, os.strerror(without))
    fcntl.flock = flock
from pathlib import Path
from intrinsic_cli.rundir import RunDir
run = RunDir(Path(sys.argv[1]))
with run.claim() as mine:
    print(mine, flush=True)
    sys.stdin.readline()
    try:
        run.log(step=1)
        print("wrote", flush=True)
    except Exception as error:
        print(error, flush=True)
"""
ERRORS = {"locks": 0, "ENOLCK": 37, "ENOSYS": 38, "EOPNOTSUPP": 95}


@pytest.fixture(params=ERRORS)
def without(request):
    return ERRORS[request.param]


@pytest.fixture
def hold(tmp_path):
    """Start a process that claims the run; all are ended with the test."""
    started = []

    def start(without=0):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "run"), str(without)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "run")


@pytest.mark.long
def test_one_owner_and_one_after_it_dies(hold, run, without):
    owner = hold(without)
    assert owner.stdout.readline() == "True\n"
    assert run.state is RunState.RUNNING or without  # see below
    rival = hold(without)
    assert rival.stdout.readline() == "False\n"
    owner.kill()  # of this machine: known to be gone at once
    owner.wait()
    heir = hold(without)
    assert heir.stdout.readline() == "True\n"
    heir.stdin.write("\n")
    heir.stdin.flush()
    assert heir.stdout.readline() == "wrote\n"
    assert heir.wait() == 0
    assert [path.name for path in run.path.iterdir() if path.name not in (LOCK, "history.jsonl")] == []
    assert ("has no locks" in heir.stderr.read()) == bool(without)


def test_a_reader_without_locks_sees_the_heartbeat(hold, run, monkeypatch):
    owner = hold(38)
    assert owner.stdout.readline() == "True\n"

    def missing(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(module.fcntl, "flock", missing)
    assert run.state is RunState.RUNNING
    old = time.time() - 2 * module.BEATS - 1
    os.utime(run.path / LEASE, (old, old))  # as of an owner on a machine that is gone
    assert run.state is RunState.PENDING


def test_a_file_system_without_locks_is_named_once_for_all_its_runs(tmp_path, monkeypatch, caplog):
    def missing(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", missing)
    for name in ("one", "two", "three"):
        with RunDir(tmp_path / name).claim() as mine:
            assert mine
    assert [record.message.count("has no locks (No locks available)") for record in caplog.records] == [1]


def test_a_deleted_lock_gives_nobody_the_run(hold, run, monkeypatch):
    owner = hold()
    assert owner.stdout.readline() == "True\n"
    (run.path / LOCK).unlink()
    assert run.state is RunState.RUNNING
    monkeypatch.setattr(module, "PATIENCE", 0.5)  # and not until a heartbeat is missed
    for _ in range(2):  # the first attempt makes the lock's file again
        with run.claim() as mine:
            assert not mine
        assert run.state is RunState.RUNNING
    owner.stdin.write("\n")
    owner.stdin.flush()
    assert owner.stdout.readline() == "wrote\n"
    assert owner.wait() == 0
    with run.claim() as mine:
        assert mine


def test_a_deleted_lease_leaves_the_run_to_the_owner_of_its_lock(run):
    with run.claim() as mine:
        assert mine
        (run.path / LEASE).unlink()
        with RunDir(run.path).claim() as other:
            assert not other
        run.log(step=1)
    assert run.history() == [{"step": 1}]


def test_an_owner_that_lost_its_claim_writes_nothing(run):
    with run.claim() as mine:
        assert mine
        run._claim.lost = "owner-changed"  # as its heartbeat finds it
        with pytest.raises(StoreError, match="another process has taken this run over"):
            run.log(step=1)
        with pytest.raises(StoreError, match="another process has taken this run over"):
            run.save(b"")
    assert not (run.path / "history.jsonl").exists()
