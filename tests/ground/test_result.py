"""What a run measured: written as JSON and read back with every field checked."""

import json
import math
from contextlib import suppress
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.made_runs import result

from intrinsic_cli.errors import DamagedError, StoreError
from intrinsic_cli.result import RunResult, RunState

RECORD = replace(
    result(100, 0.75, holdout=0.5), resumed=(3, 9), projection_version=2, theta_hash="2" * 64,
    peak_memory_mb=100.5,
)  # fmt: skip
NEWER = (  # what files of the first version lack
    "resumed", "processes", "sent_bytes_per_step", "theta_hash",
)  # fmt: skip


def written(record=RECORD):
    return json.loads(json.dumps(record.to_dict(), allow_nan=False))


def test_there_and_back():
    assert RunResult.from_dict(written()) == RECORD
    full = result(None, 0.8)
    assert RunResult.from_dict(written(full)) == full
    assert full.spec.d is None


def test_every_field_is_described_and_written():
    names = {f.name for f in fields(RunResult)}
    told = {name.strip(",") for line in RunResult.__doc__.splitlines() for name in line[:40].split()}
    assert names <= told
    assert written().keys() == names - {"path"} | {"format", "study"}


def test_files_of_earlier_and_later_versions_load():
    tree = written()
    for key in NEWER:
        del tree[key]
    old = RunResult.from_dict(tree)
    assert (old.resumed, old.processes, old.sent_bytes_per_step, old.theta_hash) == ((), 1, 0, None)
    assert RunResult.from_dict(written() | {"key_of_next_year": [1]}) == RECORD
    with pytest.raises(StoreError, match="of format 2 and this idim reads 1") as refused:
        RunResult.from_dict(written() | {"format": 2})
    assert not isinstance(refused.value, DamagedError)  # a file to keep, not one to replace


def test_what_follows_from_the_fields():
    assert (RECORD.holdout, result(100, 0.5).holdout) == (0.5, None)
    assert RECORD.total_seconds == 60.0
    assert RECORD.study == RECORD.spec.study
    with pytest.raises(StoreError, match="was not read from"):
        _ = replace(RECORD, path=None).directory


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("score", 10**400, "score=an integer of 1,329 bits is not a number"),
        ("score", "high", "score='high' is not a number"),
        ("score", True, "score=true"),
        ("score", math.nan, "score=nan"),
        ("spec", [], "spec=.. is a group of keys, not a value"),
        ("chance", None, "chance=null is not a number"),
        ("d", 1.5, "d=1.5 is not an integer"),
        ("D", 10**400, "D=1000.* is not from 1 to 9223"),
        ("d", -1, "d=-1 is not from 0 to"),
        ("n_eval", 0, "n_eval=0 is not from 1 to"),
        ("metric", "f1", "metrics lacks f1"),
        ("metrics", {"accuracy": "0.5"}, r"metrics.accuracy='0.5' is not a number"),
        ("holdout_metrics", {"f1": 0.5}, "holdout_metrics lacks accuracy"),
        ("seconds", {}, "seconds lacks a total"),
        ("run_id", "\ud800", "run_id='.ud800' is not a text"),
        ("label_names", "calm", "label_names='calm' is not a list"),
        ("label_names", ["calm", 1], r"label_names=1 is not a text"),
        ("environment", {"python": [3]}, "environment.python="),
        ("theta_hash", 7, "theta_hash=7 is not a text"),
        ("format", [], "format=.. is no number"),
    ],
)  # fmt: skip
def test_a_field_that_no_run_leaves_is_named(key, value, message):
    with pytest.raises(DamagedError, match=message):
        RunResult.from_dict(written() | {key: value})


@pytest.mark.parametrize(
    "path", ["spec.d", "spec.lr", "spec.task.text", "spec.train.epochs", "spec.model.name"]
)
def test_a_spec_of_other_types_is_named_by_its_key(path):
    tree = written()
    part = tree
    *parents, last = path.split(".")
    for key in parents:
        part = part[key]
    part[last] = {"a": 1}
    with pytest.raises(DamagedError, match=rf"{path}=.* is not "):
        RunResult.from_dict(tree)


@pytest.mark.parametrize(
    ("key", "value"), [("score", 0.76), ("d", 7), ("metrics", {"accuracy": 0.5}), ("metric", "f1")]
)
def test_what_contradicts_itself_is_damaged(key, value):
    tree = written() | {key: value}
    if key == "metric":
        tree["metrics"] = tree["holdout_metrics"] = {"accuracy": 0.75, "f1": 0.75}
    with pytest.raises(DamagedError, match=r"contradicts|lacks"):
        RunResult.from_dict(tree)


@pytest.mark.parametrize("key", ["run_id", "spec", "metric", "score", "seconds", "chance", "D"])
def test_a_missing_field_is_named(key):
    with pytest.raises(DamagedError, match=f"lacks .'{key}'."):
        RunResult.from_dict({k: v for k, v in written().items() if k != key})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(written())), JSON)
def test_any_value_in_any_field_is_read_or_refused(key, value):
    with suppress(StoreError):
        RunResult.from_dict(written() | {key: value})


@given(JSON)
def test_any_json_at_all_is_refused(tree):
    with pytest.raises(StoreError):
        RunResult.from_dict(tree)


def test_a_state_is_a_word_everywhere():
    assert f"{RunState.DONE}" == str(RunState("done")) == json.loads(json.dumps(RunState.DONE)) == "done"
    assert {state for state in RunState if state.over} == {RunState.DONE, RunState.FAILED, RunState.PRUNED}
