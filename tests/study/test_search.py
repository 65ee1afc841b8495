"""An adaptive search with real runs: it ends, goes on where it stopped, and never exceeds its budget."""

import pytest

from intrinsic_cli.store import Store
from intrinsic_cli.study.launchers.inline import Inline
from intrinsic_cli.study.search import Study, run_study
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.stop import Stop

BUDGET = 7


@pytest.fixture
def study(make_spec):
    def make(d, seed, lr):
        return make_spec("full" if d is None else "did", d=d, seed=seed, lr=lr, max_steps=24)

    baseline = (make(None, 0, 3e-3),)
    return Study(
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


def test_a_search_passes_over_a_run_that_another_process_has(study, tmp_path, monkeypatch):
    monkeypatch.setattr("intrinsic_cli.study.search.WAIT", 0.01)
    store = Store(tmp_path)
    runner, said = Runner(store), []
    runner.begin(study)
    held = study.make(4, 0, study.lrs(4)[0])  # the first of the coarse curve
    with store.run(held).claim() as mine:
        assert mine

        class Shared(Runner):
            def launch(self, specs, store, stop):
                if len(self.trained) >= BUDGET - 1:
                    raise StopIteration  # the search goes on with all else it can do
                return super().launch(specs, store, stop)

        runner = Shared(store)
        with pytest.raises((StopIteration, TimeoutError)):
            run_study(study, store, runner, patient(said))
    assert runner.trained.count(held.run_id) == 1  # asked for once, then left to the one that has it
    assert len(runner.trained) > 1


def patient(said):
    """A `say` that gives up after many lines, so that a search that only waits ends."""

    def say(line):
        said.append(line)
        if len(said) > 40:
            raise TimeoutError(line)

    return say
