"""An adaptive search with real runs: it ends, goes on where it stopped, and never exceeds its budget."""

from contextlib import ExitStack
from dataclasses import replace

import pytest

from intrinsic_cli.errors import RunError
from intrinsic_cli.planning.plan import SearchPlan
from intrinsic_cli.spec import AdapterSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.launchers.inline import Inline
from intrinsic_cli.study.search import Members, run_study
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.stop import Stop

BUDGET = 7


@pytest.fixture
def study(make_spec):
    def make(d, seed, lr):
        return make_spec("full" if d is None else "did", d=d, seed=seed, lr=lr, max_steps=24)

    baseline = (make(None, 0, 3e-3),)
    return SearchPlan(
        baseline=baseline, make=make, lrs=lambda d: (4 / d**0.5,), d_min=4, d_max=64, seeds=(0, 1),
        rel_width=0.01, budget=BUDGET,
    )  # fmt: skip


class Runner(Inline):
    """Trains what it is given, and keeps count."""

    def __init__(self, store):
        super().__init__(Loader())
        self.store, self.trained = store, []

    def launch(self, specs, store, stop):
        self.trained += [spec.run_id for spec in specs]
        return super().launch(specs, store, stop)

    def begin(self, study):
        list(self.launch(study.baseline, self.store, Stop()))


@pytest.mark.long
def test_a_search_keeps_its_budget_and_a_second_one_trains_nothing(study, tmp_path):
    store = Store(tmp_path)
    runner, said = Runner(store), []
    runner.begin(study)
    assert run_study(study, store, runner, said.append) == []
    assert len(runner.trained) == len(set(runner.trained)) <= BUDGET
    assert {result.run_id for result in store.results()} == set(runner.trained)
    assert {r.spec.d for r in store.results()} >= {None, 4, 64}  # both ends of the range were tried
    assert "finished after" in said[-1]

    again = Runner(store)
    run_study(study, store, again, said.append)
    assert again.trained == []


@pytest.mark.long
def test_a_search_that_lost_a_result_makes_up_for_that_run_alone(study, tmp_path):
    store = Store(tmp_path)
    runner = Runner(store)
    runner.begin(study)
    run_study(study, store, runner, lambda _: None)
    lost = runner.trained[-1]
    (tmp_path / lost / "result.json").unlink()
    again = Runner(store)
    run_study(study, store, again, lambda _: None)
    assert again.trained == [lost]


def test_a_search_without_a_baseline_says_so_and_stops(study, tmp_path):
    said = []
    runner = Runner(Store(tmp_path))
    (tmp_path / "empty").mkdir()
    assert run_study(study, Store(tmp_path), runner, said.append) == []
    assert runner.trained == []
    assert "no full fine-tuning has finished" in said[0]


@pytest.mark.long
def test_a_search_passes_over_a_run_that_another_process_has_until_that_is_gone(study, tmp_path, monkeypatch):
    monkeypatch.setattr("intrinsic_cli.study.search.WAIT", 0.01)
    store = Store(tmp_path)
    runner, said, trained = Runner(store), [], []
    runner.begin(study)
    held = study.make(4, 0, study.lrs(4)[0])  # the first of the coarse curve
    with ExitStack() as other:
        assert other.enter_context(store.run(held).claim())

        def say(line):
            trained.append(len(runner.trained))
            if trained[-4:] == [trained[-1]] * 4 and len(said) > 6:  # nothing else is left to do, so it waits
                assert len(set(runner.trained)) > 2
                assert (
                    runner.trained.count(held.run_id) == 1
                )  # asked for once, then left to the one that has it
                other.close()
            said.append(line)

        assert run_study(study, store, runner, say) == []
    assert runner.trained.count(held.run_id) == 2  # and taken over
    assert "finished after" in said[-1]
    assert held.run_id in {result.run_id for result in store.results()}


@pytest.mark.long
def test_a_search_counts_no_run_of_another_space(study, make_spec, tmp_path):
    """`projection.seed` is a curve of its own in the table, and so it is in the search."""
    store = Store(tmp_path)
    first = study.ends()[0]
    assert replace(first, d=64, seed=1, lr=1.0).curve == first.curve
    elsewhere = replace(first, projection=replace(first.projection, seed=3))
    assert elsewhere.curve != first.curve
    assert replace(first, adapter=AdapterSpec("lora", 4)).curve != first.curve
    runner, said = Runner(store), []
    runner.begin(study)
    list(runner.launch([elsewhere], store, Stop()))
    run_study(study, store, runner, said.append)
    own = [spec for spec in runner.trained if spec != elsewhere.run_id]
    assert f"finished after {len(own)} runs" in said[-1]


@pytest.mark.long
def test_a_search_counts_runs_that_differ_in_what_can_not_matter(study, make_spec, tmp_path):
    """DID has no λ: with another rate of λ runs have the same names, and are not to be proposed again."""
    store = Store(tmp_path)
    runner = Runner(store)
    runner.begin(study)
    run_study(study, store, runner, lambda _: None)

    def make(d, seed, lr):
        spec = study.make(d, seed, lr)
        return spec if d is None else replace(spec, subspace=replace(spec.subspace, lam_lr=0.5))

    assert make(4, 0, 2.0).run_id == study.make(4, 0, 2.0).run_id
    again, said = Runner(store), []
    assert run_study(replace(study, make=make), store, again, said.append) == []
    assert again.trained == []
    assert f"finished after {len(runner.trained)} runs" in said[-1]


@pytest.mark.long
def test_a_search_knows_rows_and_runs_that_diverged(study, tmp_path):
    """As tables do: it reads what each row said, and a diverged run counts against its rate."""
    store = Store(tmp_path)
    runner, said = Runner(store), []
    runner.begin(study)
    dead = study.make(4, 0, study.lrs(4)[0])  # the first of the coarse curve
    store.run(dead).plan(dead)
    store.run(dead).fail(RunError("the loss is nan: diverged at lr=2"))
    assert run_study(study, store, runner, said.append) == [dead.run_id]
    assert dead.run_id not in runner.trained
    members = Members.of(study, store.read())
    curve, full = members.points()
    assert [(p.d, p.lr, p.score) for p in curve if p.score is None] == [(4, dead.lr, None)]
    assert members.done == len(curve) + len(full) - 1
    for point in (p for p in (*curve, *full) if p.score is not None):
        assert point.rows.mean() == pytest.approx(point.score)
    # It is tried again where that is asked for.
    assert Members.of(study, store.read(), own=set()).diverged == ()
    again = Runner(store)
    run_study(replace(study, budget=99), store, again, said.append, retry_failed=True)
    assert dead.run_id in again.trained
