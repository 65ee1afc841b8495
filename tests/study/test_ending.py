"""What becomes of a run of which an attempt has ended: the whole table of cases, without a process."""

import json

import pytest
from support import made_runs

from intrinsic_cli.errors import OutOfMemory, RunError
from intrinsic_cli.result import RunState
from intrinsic_cli.store import Store
from intrinsic_cli.study.ending import death, ended

DONE, FAILED, PENDING = RunState.DONE, RunState.FAILED, RunState.PENDING
STOPPED, ELSEWHERE, RUNNING = RunState.STOPPED, RunState.ELSEWHERE, RunState.RUNNING
RESULT = made_runs.result(100, 0.75)
AGAIN = None


@pytest.fixture
def run(tmp_path):
    found = Store(tmp_path).run(RESULT.spec)
    with found.claim():
        found.begin(RESULT.spec)
    return found


def judge(run, word, *, attempts=1, retries=1, stopping=False):
    return ended(run, word, "it died", attempts=attempts, retries=retries, stopping=stopping)


@pytest.mark.parametrize("stopping", [False, True])
@pytest.mark.parametrize("word", [DONE, FAILED, ELSEWHERE])
def test_a_word_stands(run, word, stopping):
    if word is FAILED:
        run.fail(RunError("nan"))
    assert judge(run, word, stopping=stopping) is word
    assert run.has_error == (word is FAILED)


@pytest.mark.parametrize("word", [None, STOPPED])
def test_without_a_word_that_stands_it_is_tried_again_and_then_recorded(run, word):
    assert judge(run, word, attempts=1, retries=2) is judge(run, word, attempts=2, retries=2) is AGAIN
    assert run.state is PENDING
    assert judge(run, word, stopping=True) is STOPPED
    assert run.state is PENDING
    assert judge(run, word, attempts=3, retries=2) is FAILED
    assert (run.error()["message"], run.error()["attempts"]) == ("it died", 3)


def test_want_of_memory_is_worth_another_attempt_and_keeps_its_own_reason(run):
    run.fail(OutOfMemory("too large"))
    assert judge(run, FAILED) is AGAIN
    assert judge(run, FAILED, stopping=True) is STOPPED
    assert judge(run, FAILED, attempts=2) is FAILED
    assert run.error()["message"] == "too large"


@pytest.mark.parametrize("stopping", [False, True])
def test_files_know_more_than_a_process_that_died(run, stopping):
    with run.claim():
        assert judge(run, None, attempts=9, stopping=stopping) is ELSEWHERE
    run.finish(RESULT)
    assert judge(run, None, attempts=9, stopping=stopping) is DONE
    assert not run.has_error


def test_a_result_that_is_not_whole_is_no_end(run):
    (run.path / "result.json").write_text('{"score": 0.')
    assert judge(run, None) is AGAIN
    assert judge(run, None, attempts=2) is FAILED
    assert json.loads((run.path / "error.json").read_text())["message"] == "it died"


def test_the_words_for_an_exit_status():
    assert death(3) == "its process ended with status 3 and left no word"
    assert death(-9) == "its process was killed by SIGKILL, as the system does when memory runs out"
    assert death(-15) == "its process was killed by SIGTERM"
    assert death(-99) == "its process was killed by signal 99"
