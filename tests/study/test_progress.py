"""What a sweep says while it trains."""

import threading

import pytest

from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.words import parse
from intrinsic_cli.store import Store
from intrinsic_cli.study import progress


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "out")


def test_runs_under_way_are_named_with_their_steps(store, make_spec):
    specs = [make_spec(d=d) for d in (50, 60, 70, 80)]
    assert progress.under_way(specs, store) == ""
    for spec in specs:
        store.run(spec).plan(spec)
    assert progress.under_way(specs, store) == ""
    run = store.run(specs[0])
    with run.claim():
        assert progress.under_way(specs, store) == f"1 running: {run.path.name} step 0"
        assert progress.under_way(specs[1:], store) == ""  # another sweep's
        run.log(step=20, steps=90, loss=1.0)
        assert progress.under_way(specs, store) == f"1 running: {run.path.name} step 20 of 90"
        with store.run(specs[1]).claim(), store.run(specs[2]).claim(), store.run(specs[3]).claim():
            assert progress.under_way(specs, store).startswith("4 running: ")
            assert progress.under_way(specs, store).endswith(", and 1 more")


def test_a_line_now_and_then_as_long_as_the_block_lasts(store, make_spec):
    spec = make_spec(d=50)
    store.run(spec).plan(spec)
    said, twice = [], threading.Event()

    def say(line):
        said.append(line)
        if len(said) == 2:
            twice.set()

    with store.run(spec).claim():
        before = set(threading.enumerate())
        with progress.lines([spec], store, say, every=0.001):
            assert twice.wait(60)
            [speaker] = set(threading.enumerate()) - before
        speaker.join(60)
        assert not speaker.is_alive()
    assert set(said) == {f"1 running: {spec.run_id} step 0"}


@pytest.mark.parametrize(
    ("words", "noted"),
    [
        (["lr=0.1"], True),
        (["lr=0.1", "subspace=did,said"], True),
        (["d=50"], False),
        (["lr=0.1", "baseline.lr=1e-4"], False),
        (["lr=0.1", "baseline.run=false"], False),
        (["lr=1e-4", "subspace=full"], False),
    ],
)
def test_rates_that_do_not_reach_full_fine_tuning_are_noted(words, noted):
    notes = sweep_plan(parse(["model=tiny", *words])).notes
    assert bool(notes) is noted
    assert all("full fine-tuning keeps 0.0001" in note and "baseline.lr" in note for note in notes)
