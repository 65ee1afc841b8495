"""Run directories: the state of a run is what lies in its folder, whoever wrote it and however they ended."""

import json
import os
import re
import subprocess
import sys
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import made_runs

from intrinsic_cli.errors import DamagedError, IdimError, RunError, StoreError
from intrinsic_cli.files import publish
from intrinsic_cli.rundir import OUTCOMES, RESULT, RunDir
from intrinsic_cli.store import Store

RECORD = made_runs.result(100, 0.5)


def result_of(spec, score=0.5):
    return replace(
        RECORD, spec=spec, run_id=spec.run_id, score=score, metrics={"accuracy": score}, d=spec.d or RECORD.D
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "outputs")


@pytest.fixture
def run(store, make_spec):
    return store.run(make_spec())


@pytest.mark.parametrize(
    ("state", "offsets", "found"),
    [
        ('{"position": {"step": 7}, "steps": 90}', None, (7, 90)),
        ('{"position": {"step": 7}}', None, (7, None)),  # of an earlier version
        ('{"position": 7}', None, None),
        ('{"position": {"step": 1e400}}', None, None),
        ("[]", None, None),
        ("", None, None),
        ("{}", [0, -1], None),
        ("{}", [-99, 2], None),
        ("{}", [10**30, 10**30], None),
    ],
)
def test_where_a_snapshot_goes_on_is_read_from_any_file(run, state, offsets, found):
    header = json.dumps({"state": {"data_offsets": offsets or [0, len(state)]}}).encode()
    run.path.mkdir(parents=True)
    run.save(len(header).to_bytes(8, "little") + header + state.encode())
    assert run.resumes_at() == found


def begun(run, spec):
    with run.claim() as mine:
        assert mine
        run.begin(spec)
    return run


def test_the_states_of_a_run(run, make_spec):
    assert run.state == "pending"  # not even a folder
    with run.claim() as mine:
        assert mine
        run.begin(make_spec())
        assert run.state == "running"
    assert run.state == "pending"  # interrupted: nothing was recorded
    run.fail(RunError("the loss became nan"))
    assert run.state == "failed"
    with run.claim():
        assert run.state == "running"  # a failed run that is tried again
        run.begin(make_spec())
    assert run.state == "pending"
    run.finish(result_of(make_spec()))
    assert run.state == "done"
    assert run.result() == result_of(make_spec())


def test_beginning_again_leaves_nothing_of_the_attempt_before(run, make_spec):
    spec = make_spec()
    begun(run, spec)
    run.log(step=1)
    run.fail(ValueError("x"))
    (run.path / "theta.safetensors").write_bytes(b"old")
    begun(run, spec)
    assert {path.name for path in run.path.iterdir()} <= {"config.json", ".lock"}
    assert json.loads((run.path / "config.json").read_text()) == spec.to_dict()


def test_an_error_is_recorded_with_its_traceback(run, make_spec):
    begun(run, make_spec())

    def culprit():
        raise ZeroDivisionError("by zero")

    try:
        culprit()
    except ZeroDivisionError as error:
        run.fail(error)
    record = run.error()
    assert (record["error"], record["message"], record["expected"]) == ("ZeroDivisionError", "by zero", False)
    assert "culprit" in record["traceback"]
    run.fail(RunError("nan"))
    assert run.error()["expected"] is True


def test_a_torn_last_line_of_the_history_is_left_out(run, make_spec):
    begun(run, make_spec())
    assert run.history() == []
    run.log(step=1, loss=0.5)
    run.log(step=2, loss=0.25)
    whole = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    assert run.history() == whole
    path = run.path / "history.jsonl"
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    assert run.history() == whole


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_never_written(run, make_spec, value):
    begun(run, make_spec())
    with pytest.raises(ValueError, match="JSON compliant"):
        run.finish(replace(RECORD, chance=value))
    with pytest.raises(ValueError, match="JSON compliant"):
        run.log(loss=value)
    assert run.state == "pending"
    assert run.history() == []
    assert {path.name for path in run.path.iterdir()} <= {"config.json", "history.jsonl", ".lock"}


def test_a_reader_never_sees_half_a_record(tmp_path):
    """A record that can't be written whole leaves the one before."""
    path = tmp_path / RESULT
    publish(path, {"score": 1})
    with pytest.raises(TypeError):
        publish(path, {"score": object()})
    assert json.loads(path.read_text()) == {"score": 1}
    assert [p.name for p in tmp_path.iterdir()] == [RESULT]


def test_a_damaged_result_is_named(run, make_spec, store):
    begun(run, make_spec())
    (run.path / RESULT).write_text('{"score": 0.')
    with pytest.raises(DamagedError, match=r"result.json is damaged .*; delete it"):
        run.result()
    assert store.results() == []
    [look] = store.survey().runs
    assert (look.state, look.spec) == ("unreadable", make_spec())
    assert re.match(r"result.json is damaged .*; delete it", look.reason)


def test_results_are_found_below_the_folder(store, make_spec):
    specs = [make_spec(seed=seed) for seed in range(3)]
    for spec in specs:
        begun(store.run(spec), spec)
    expected = result_of(specs[1])
    store.run(specs[1]).finish(expected)
    assert len(store.runs()) == 3
    for place in (store, Store(store.root.parent)):
        assert place.results() == [expected]
        assert [result.path for result in place.results()] == [store.run(specs[1]).path]


def test_a_folder_that_is_not_there(store):
    with pytest.raises(StoreError, match="outputs is not a folder; give the output_dir"):
        store.runs()


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_place_that_can_not_be_written(tmp_path, below, make_spec):
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / below)
    with pytest.raises(StoreError, match=r"output_dir=.*file.* can't be written \(.*\); choose another"):
        store.check_writable()
    with pytest.raises(StoreError, match="can't write"), store.run(make_spec()).claim():
        pass


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="can't be written"):
        Store(tmp_path).check_writable()


def test_the_check_leaves_nothing(store):
    store.check_writable()
    assert list(store.root.iterdir()) == []


HOLDER = """
import sys
from pathlib import Path
from intrinsic_cli.rundir import RunDir
with RunDir(Path(sys.argv[1])).claim() as mine:
    print(mine, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.long
def test_a_run_has_one_owner_among_processes(tmp_path):
    run = RunDir(tmp_path / "run")

    def hold():
        return subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(run.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    with hold() as owner:
        assert owner.stdout.readline() == "True\n"
        assert run.state == "running"
        with run.claim() as mine:
            assert not mine
        with hold() as rival:
            assert rival.stdout.readline() == "False\n"
            rival.communicate("\n")
        owner.kill()  # even a killed owner lets go
        owner.wait()
    assert run.state == "pending"
    with run.claim() as mine:
        assert mine


def test_an_exception_releases_the_claim(run):
    with pytest.raises(IdimError), run.claim():
        raise IdimError("x")
    assert run.state == "pending"


def test_a_run_that_is_planned_again_has_not_failed(run, make_spec):
    begun(run, make_spec())
    run.fail(RunError("killed"))
    assert run.state == "failed"
    run.plan(make_spec())
    assert run.state == "pending"


# --- what the final evaluation answered -------------------------------------------------------------------


def tables(n=872):
    """A validation split of the size of SST-2's, nine tenths of it right, and a smaller holdout."""
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, n)
    right = draw.random(n) < 0.9
    made = {"validation": {"prediction": np.where(right, label, 1 - label), "label": label}}
    return made | {"holdout": {name: column[:100] for name, column in made["validation"].items()}}


def test_outcomes_come_back_row_by_row_in_less_than_a_kilobyte(tmp_path):
    run = RunDir(tmp_path)
    assert run.outcomes() is None  # a run of an earlier version has none
    run.keep_outcomes({"validation": tables()["validation"]})
    assert (tmp_path / OUTCOMES).stat().st_size <= 1024
    run.keep_outcomes(tables())
    assert run.outcomes().keys() == {"validation", "holdout"}
    for split, table in tables().items():
        for name, column in table.items():
            assert run.outcomes()[split][name].tolist() == column.tolist()


def test_outcomes_keep_reals_and_many_classes(tmp_path):
    run, values = RunDir(tmp_path), np.linspace(-3, 3, 7)
    run.keep_outcomes({"validation": {"prediction": values, "label": np.arange(7) * 60_000}})
    found = run.outcomes()["validation"]
    assert found["prediction"].dtype == np.float32
    np.testing.assert_array_equal(found["prediction"], values.astype(np.float32))
    assert found["label"].tolist() == [0, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000]


@given(cut=st.integers(0, 99))
@settings(max_examples=20)
def test_torn_outcomes_are_damaged(cut, tmp_path_factory):
    run = RunDir(tmp_path_factory.mktemp("torn"))
    run.keep_outcomes(tables())
    path = run.path / OUTCOMES
    path.write_bytes(path.read_bytes()[: path.stat().st_size * cut // 100])
    with pytest.raises(DamagedError, match="run it again"):
        run.outcomes()


@given(bit=st.integers(0, 10**6))
@settings(max_examples=200)
def test_outcomes_with_a_flipped_bit_are_damaged_or_as_they_were(bit, tmp_path_factory):
    run = RunDir(tmp_path_factory.mktemp("flipped"))
    run.keep_outcomes(tables())
    path = run.path / OUTCOMES
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)
    with suppress(DamagedError):  # else a bit of a date, of a name, or of nothing that is read
        columns = [column for part in run.outcomes().values() for column in part.values()]
        kept = [column for part in tables().values() for column in part.values()]
        for column, before in zip(columns, kept, strict=True):
            np.testing.assert_array_equal(column, before)


@pytest.mark.parametrize("values", [[-1, 5], [-1, 200], [-(2**40), 3], [-3, 2**40], [2**63]])
def test_outcomes_keep_whole_numbers_of_either_sign(values, tmp_path):
    run = RunDir(tmp_path)
    run.keep_outcomes({"validation": {"label": np.array(values)}})
    assert run.outcomes()["validation"]["label"].tolist() == values


def test_outcomes_that_unpack_to_more_than_memory_are_refused(tmp_path, monkeypatch):
    run = RunDir(tmp_path)
    run.keep_outcomes({"validation": {"label": np.zeros(100_000, np.int64)}})
    monkeypatch.setattr("intrinsic_cli.outcomes.LARGEST", 10_000)
    with pytest.raises(DamagedError, match="unpacks to more than 10000 bytes"):
        run.outcomes()


def test_outcomes_that_are_a_folder_are_damaged(tmp_path):
    (tmp_path / OUTCOMES).mkdir()
    with pytest.raises(DamagedError, match="run it again"):
        RunDir(tmp_path).outcomes()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i8', 'fortran_order': False, 'shape': (7,",
        "{[]: 1}",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (True,)}",
    ],
)
def test_outcomes_of_a_header_that_describes_nothing_are_damaged(header, tmp_path):
    text = header.encode().ljust(117) + b"\n"
    column = np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text + b"\0" * 56
    with zipfile.ZipFile(tmp_path / OUTCOMES, "w") as packed:
        packed.writestr("validation.label.npy", column)
    with pytest.raises(DamagedError, match="run it again"):
        RunDir(tmp_path).outcomes()


def test_outcomes_hold_no_pickles(tmp_path):
    np.savez(tmp_path / OUTCOMES, **{"validation.label": np.array([{}], dtype=object)})
    with pytest.raises(DamagedError):
        RunDir(tmp_path).outcomes()
