"""When a run has gone too long without a step: by a file's time that changes, on a clock that is set here."""

import os
import time

import pytest

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.rundir import BEAT, RunDir
from intrinsic_cli.study.launchers import make_launcher
from intrinsic_cli.study.launchers.base import Watch


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


def beat(run, when):
    """A step as a process of another clock would note it."""
    (run.path / BEAT).touch()
    os.utime(run.path / BEAT, (when, when))


def test_a_run_is_lost_once_it_takes_no_step_for_so_long(run, clock):
    watch = Watch(10)
    for seconds, step, lost in [(9, None, False), (2, None, True), (0, 5e9, False), (9, None, False), (0, 3, False),
                                (10, None, False), (1, None, True), (50, 4, False)]:  # fmt: skip
        clock[0] += seconds
        if step is not None:
            beat(run, step)
        assert watch.lost(run) is lost
    assert str(watch) == "no step for launcher.timeout=10 s"


def test_a_queued_run_has_time_until_it_begins(run, clock):
    beat(run, 7)  # of a process that is dead
    watch = Watch(10, queued=True)
    for seconds, step, lost in [(0, None, False), (10**6, None, False), (0, 8, False), (10, None, False),
                                (1, None, True)]:  # fmt: skip
        clock[0] += seconds
        if step is not None:
            beat(run, step)
        assert watch.lost(run) is lost


def test_without_a_limit_nothing_is_lost(run, clock):
    watch = Watch(None)
    clock[0] += 1e9
    assert not watch.lost(run)


@pytest.mark.parametrize("timeout", [0, -1, "soon", True, [5], 1e12, float("nan"), float("inf")])
def test_what_is_no_time_is_refused(timeout):
    with pytest.raises(
        ConfigError, match=r"launcher.timeout=.* must be a number of seconds above 0, or null"
    ):
        make_launcher("local", timeout=timeout)
