"""A study as a story: launched, launched again, broken, and taken up again."""

import json
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from intrinsic_cli.errors import ConfigError, RunError, StoreError
from intrinsic_cli.render import duration
from intrinsic_cli.reports.curves import group
from intrinsic_cli.store import Store
from intrinsic_cli.study import sweep
from intrinsic_cli.study.clock import Clock
from intrinsic_cli.study.forecast import Costs, forecast, timed
from intrinsic_cli.study.launchers.inline import Inline
from intrinsic_cli.study.launchers.local import Local
from intrinsic_cli.training import inputs
from intrinsic_cli.training.inputs import Inputs, Loader
from intrinsic_cli.training.stop import Stop


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "outputs")


@pytest.fixture
def study(make_spec):
    return [make_spec("full", lr=1e-3, max_steps=2), *(make_spec(d=d, max_steps=2) for d in (50, 100))]


@pytest.fixture
def loads(monkeypatch):
    """The cells that were loaded, in turn."""
    seen = []
    load = inputs.load
    monkeypatch.setattr(inputs, "load", lambda spec: seen.append(spec.model) or load(spec))
    return seen


def go(specs, store, load=None, **options):
    said = []
    report = sweep.sweep(specs, store, Inline(load), said.append, **options)
    return report, said


@pytest.mark.parametrize("launcher", [Inline, Local])
def test_a_run_that_another_driver_has_failed_meanwhile_is_left_so(study, store, launcher):
    spec = study[1]
    store.run(spec).plan(spec)
    store.run(spec).fail(RunError("the loss is nan: diverged"))
    assert list(launcher().launch([spec], store, Stop())) == [(spec, "failed")]
    assert store.run(spec).error()["message"] == "the loss is nan: diverged"
    assert list(store.run(spec).history()) == []


def stamps(store):
    return {run.path.name: (run.path / "result.json").stat().st_mtime_ns for run in store.runs()}


def as_an_earlier_version_left_it(store):
    """Directories of the names, and results of the keys, that there were while names were made of every value."""
    for run in store.runs():
        record = json.loads((run.path / "result.json").read_text())
        name = run.result().spec.legacy_ids[0]
        for key in ("resumed", "processes", "sent_bytes_per_step", "theta_hash"):
            del record[key]
        changed = record | {"run_id": name, "study": "0123456789"}
        (run.path / "result.json").write_text(json.dumps(changed))
        run.path.rename(store.root / name)


def test_a_sweep_of_an_earlier_version_is_summarized_and_extended(study, store, make_spec, loads):
    old = [spec for spec in study if spec.subspace.kind == "did"]
    full = [make_spec("full", lr=1e-3, max_steps=2, seed=seed) for seed in range(2)]
    go(old + full, store)
    as_an_earlier_version_left_it(store)
    before = stamps(store)
    assert not before.keys() & {spec.run_id for spec in study}
    [curve] = group(store.results())
    assert (len(curve.runs), len(curve.baseline)) == (len(old), 2)

    (store.run(old[0]).path / "result.json").unlink()  # interrupted by the earlier version
    more = [replace(spec, seed=9) for spec in old]
    report, said = go([*old, *full, *more], store)
    assert said[0] == f"{len(old) + 1} of {2 * len(old) + 2} runs are over already"
    assert report.failed == ()
    after = stamps(store)
    assert after.keys() == before.keys() | {spec.run_id for spec in more}
    assert [name for name in before if after[name] != before[name]] == [old[0].legacy_ids[0]]
    [curve] = group(store.results())
    assert (len(curve.runs), len(curve.baseline)) == (2 * len(old), 2)


def test_runs_from_before_a_key_are_pointed_out(study, store):
    go(study[:1], store)
    clipped = [replace(spec, train=replace(spec.train, clip="weights")) for spec in study]
    told = "1 of these runs lie here with train.clip=trained; add it to go on with them"
    assert told in go(clipped, store)[1]
    assert told not in go(clipped, store)[1]  # they are here now
    assert not any("train.clip" in line for line in go(study, store)[1])


def test_weights_that_a_run_did_not_keep_are_missed(study, store):
    def told(specs):
        return [line for line in go(specs, store)[1] if "weights" in line]

    kept = [replace(spec, train=replace(spec.train, keep_weights=True)) for spec in study]
    assert told(study) == []
    [line] = told(kept)
    assert line == (
        "1 of these runs ended without train.keep_weights=true and have no weights; to train them again, delete "
        "their folders, or give another output_dir"
    )
    [full] = [run for run in store.runs() if run.spec().is_full]
    assert read_tensors(full) == 0
    shutil.rmtree(full.path)
    assert told(kept) == told(kept) == told(study) == []  # θ is kept anyway, and so are they now
    assert read_tensors(full) > 0


def read_tensors(run):
    return len(load_file(run.path / "theta.safetensors"))


def test_launch_relaunch_delete_relaunch(study, store, loads):
    ids = {spec.run_id for spec in study}
    report, said = go(study, store)
    assert set(report.done) == ids
    assert report.failed == ()
    assert {run.path.name: run.state for run in store.runs()} == dict.fromkeys(ids, "done")
    assert len(loads) == 1  # one model and one data set for all three runs
    assert [line[:5] for line in said] == ["task ", "train", "3 run", "[1/3]", "[2/3]", "[3/3]"]
    assert said[1].startswith("trained on cpu in fp32 with ")
    assert said[2] == "3 runs to do, 1 at once"
    assert said[-1].endswith("all done")

    first = stamps(store)
    report, said = go(study, store)
    assert set(report.done) == ids
    assert stamps(store) == first
    assert said == ["3 of 3 runs are over already"]
    assert len(loads) == 1  # nothing to train, nothing to load

    lost = study[1]
    (store.run(lost).path / "result.json").unlink()
    assert sweep.pending(study, store) == [lost]
    report, said = go(study, store)
    assert set(report.done) == ids
    second = stamps(store)
    assert {name for name in ids if second[name] != first[name]} == {lost.run_id}
    assert said[0] == "2 of 3 runs are over already"


def test_a_longer_study_trains_what_is_new(study, store, make_spec):
    go(study[:2], store)
    first = stamps(store)
    go([*study, make_spec(d=70, max_steps=2)], store)
    assert len(stamps(store)) == 4
    assert first.items() <= stamps(store).items()


def test_a_failing_run_does_not_stop_the_rest(study, store, make_spec):
    bad = make_spec("full", lr=1e30, max_steps=2)
    report, said = go([bad, *study], store)
    assert report.failed == (bad.run_id,)
    assert set(report.done) == {spec.run_id for spec in study}
    assert "smaller lr" in said[3]
    assert store.run(bad).state == "failed"


def test_a_failed_run_is_tried_again_only_where_asked(study, store, make_spec):
    bad = make_spec("full", lr=1e30, max_steps=2)
    go([bad, *study], store)
    (store.run(bad).path / "error.json").write_text('{"message": "the power went", "expected": true}')
    report, said = go([bad, *study], store)
    assert said == ["4 of 4 runs are over already, 1 of them failed and are left so (--retry-failed)"]
    assert report.failed == (bad.run_id,)
    report, said = go([bad, *study], store, retry_failed=True)
    assert "smaller lr" in said[-1]
    assert "smaller lr" in store.run(bad).error()["message"]


def test_a_failed_run_that_is_forgotten_while_inputs_are_checked_is_done(study, store, make_spec):
    class Meanwhile(Inline):
        """Somebody types `idim forget --failed` while the inputs of other runs are checked."""

        def check(self, cells, store, stop):
            assert store.run(study[0]).forget()
            return super().check(cells, store, stop)

    store.run(study[0]).plan(study[0])
    store.run(study[0]).fail(RunError("the power went"))
    said = []
    report = sweep.sweep(study, store, Meanwhile(), said.append)
    assert set(report.done) == {spec.run_id for spec in study}
    assert "3 runs to do, 1 at once" in said
    assert said[-1].endswith("all done")


def test_an_error_that_nobody_foresaw_does_not_stop_the_rest_either(study, store):
    class Broken(Loader):
        def __call__(self, spec):
            return super().__call__(spec) if spec is not study[1] else [][1]

    report, said = go(study, store, Broken())
    assert report.failed == (study[1].run_id,)
    assert set(report.done) == {study[0].run_id, study[2].run_id}
    assert "failed: IndexError: list index out of range" in said[4]
    assert "IndexError" in store.run(study[1]).error()["traceback"]


HOLDER = """
import sys
from pathlib import Path
from intrinsic_cli.rundir import RunDir
with RunDir(Path(sys.argv[1])).claim() as mine:
    print(mine, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(run):
    """Another process that holds a run until it is killed or reads a line."""
    words = [sys.executable, "-c", HOLDER, str(run.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        yield holder


def test_a_run_of_another_process_is_waited_for_and_taken_over_when_that_dies(study, store):
    said = []
    with held(store.run(study[1])) as holder:

        def say(line):
            said.append(line)
            if line.startswith("waiting"):
                holder.kill()
                holder.wait()  # a zombie still counts as a process

        report = sweep.sweep(study, store, Inline(), say)
    assert set(report.done) == {spec.run_id for spec in study}
    assert "waiting for 1 runs that other processes have" in said
    assert said[-1].startswith(f"[3/3] {study[1].run_id}")


def test_a_run_that_fails_in_another_process_is_not_done_again_here(study, store):
    said = []
    with held(store.run(study[1])) as holder:

        def say(line):
            said.append(line)
            if line.startswith("waiting"):
                store.run(study[1]).fail(RunError("it diverged there"))
                holder.communicate("\n")

        report = sweep.sweep(study, store, Inline(), say)
    assert report.failed == (study[1].run_id,)
    assert "failed: it diverged there; all done" in said[-1]
    assert store.run(study[1]).error()["message"] == "it diverged there"


def test_runs_of_one_cell_stay_together(study, make_spec, store, loads):
    other = [replace(spec, model=replace(spec.model, num_hidden_layers=1)) for spec in study]
    mixed = [spec for pair in zip(study, other, strict=True) for spec in pair]
    assert [len(cell) for cell in sweep.cells(mixed)] == [3, 3]
    assert sweep.pending(mixed, store) == [*study, *other]
    go(mixed, store)
    for mine, theirs in zip(study, other, strict=True):  # one layer less in every run of the other cell
        assert store.run(theirs).result().D < store.run(mine).result().D
    assert len(loads) == 2  # each cell once: what was checked is what is trained


def test_cells_that_fill_the_memory_make_room_for_each_other(study, store, loads, monkeypatch):
    monkeypatch.setattr(inputs, "KEPT", 0)
    other = [replace(spec, model=replace(spec.model, num_hidden_layers=1)) for spec in study]
    go([*study, *other], store)
    layers = [model.num_hidden_layers for model in loads]
    assert layers == [1, None, 1]  # the first to be trained is checked last


def test_bad_input_ends_a_sweep_before_any_training(study, store, make_spec, tmp_path):
    with pytest.raises(ConfigError, match=r"d=5 .*m=5"):
        go([*study, make_spec("said", d=5)], store)
    with pytest.raises(ConfigError, match="max_length=999"):
        go([*study, make_spec(max_length=999)], store)
    with pytest.raises(ConfigError, match=r"d=5 .*m=5"):
        go(study, store, later=[make_spec("said", d=5)])
    assert not store.root.exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be written"):
        go(study, Store(tmp_path / "file"))


def test_the_forecast_adds_up_what_each_kind_of_run_costs(make_spec):
    """By hand: a run is once + steps × step + evaluations × evaluation, the steps of P dearer with d."""
    looked = []

    def cost(spec, inputs):
        looked.append((spec.subspace.kind, spec.d, spec.train.batch_size))
        return Costs(once=10.0, step=0.5 if spec.d is None else spec.d / 100, evaluation=2.0)

    full = [make_spec("full", d=None, seed=seed, max_steps=20, evals=3) for seed in (0, 1)]
    points = [make_spec(d=d, max_steps=20, evals=3) for d in (300, 100, 200)]
    other = replace(points[0], train=replace(points[0].train, batch_size=1))
    by_hand = 2 * (10 + 20 * 0.5 + 6) + (3 * 16 + 20 * (3.0 + 1.0 + 2.0)) + (16 + 20 * 3.0)
    runs = [*full, *points, other]
    assert forecast(runs, Loader(), 1, cost) == pytest.approx(by_hand)
    assert sorted(looked, key=str) == sorted(
        [("full", None, 16), ("did", 100, 16), ("did", 300, 16), ("did", 300, 1)], key=str
    )
    # Six runs in four slots take two rounds.
    assert forecast(runs, Loader(), 4, cost) == pytest.approx(by_hand / 6 * 2)
    assert forecast([], Loader(), 1, cost) == 0.0


class Counted(Inputs):
    """Inputs whose models note each forward pass."""

    passes: list

    def fresh_model(self, *asked):
        model = super().fresh_model(*asked)
        model.register_forward_pre_hook(lambda *_: self.passes.append(1))
        return model


def test_what_a_run_does_once_is_no_step_of_it(make_spec, monkeypatch):
    """With a forward pass for a second: one a step, and one for each of 40 rows, or of 96, that are scored."""
    spec = make_spec(d=50, max_steps=10)
    counted = Counted(**Loader()(spec).__dict__)
    object.__setattr__(counted, "passes", [])
    monkeypatch.setattr(time, "perf_counter", lambda: float(len(counted.passes)))
    train = replace(spec.train, eval_batch_size=1, batch_size=1)
    without, scored = (replace(spec, train=replace(train, score_train=asked)) for asked in (False, True))
    assert timed(without, counted) == Costs(once=0.0, step=1.0, evaluation=40.0)
    assert timed(scored, counted) == Costs(once=96.0, step=1.0, evaluation=40.0)
    untrained = make_spec("none", eval_batch_size=1)
    assert timed(untrained, counted) == Costs(once=40.0, step=0.0, evaluation=0.0)


def test_runs_that_need_not_begin_tell_nothing_of_the_time_left():
    clock = Clock(5, slots=1)
    assert clock.left() == "5 to go"
    clock.expect(-3)  # pruned before they began
    assert clock.left() == "2 to go"
    clock.tick()
    assert clock.left().startswith("1 to go, about ")
    clock.tick()
    assert clock.left() == "all done"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (100, "2 min"), (5340, "89 min"), (9000, "2.5 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
