"""Pruning in a sweep: its order, runs that end early and go on later, and decisions that don't change."""

import json
import math
from dataclasses import asdict, replace

import pytest
from support.made_runs import result

from intrinsic_cli.errors import Pruned
from intrinsic_cli.result import RunState
from intrinsic_cli.statistics.pruning import BEHIND, Limit
from intrinsic_cli.store import Store
from intrinsic_cli.study import sweep
from intrinsic_cli.study.launchers.inline import Inline
from intrinsic_cli.study.pruning import Pruning, halvings, track
from intrinsic_cli.study.search import run_study
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.run import execute, train_one
from intrinsic_cli.training.stop import Stop


@pytest.mark.parametrize(
    ("n", "expected"), [(0, []), (1, [0]), (2, [1, 0]), (3, [1, 0, 1]), (7, [2, 1, 2, 0, 2, 1, 2])]
)
def test_a_row_is_halved_until_each_place_was_a_middle(n, expected):
    assert halvings(n) == expected


def test_the_waves_before_anything_has_finished(make_spec, tmp_path):
    def wave(specs):
        return {(spec.d, spec.lr) for spec in specs}

    specs = [make_spec("full", lr=lr, seed=s) for lr in (1e-4, 1e-3, 1e-2) for s in (0, 1)]
    specs += [make_spec(d=d, lr=lr, seed=s) for d in (10, 20, 40) for lr in (0.1, 0.3, 1.0) for s in (0, 1)]
    specs.append(make_spec("none"))  # the model before training, which no rate is chosen for
    waves = list(Pruning(specs, Store(tmp_path)).waves(specs))
    assert sorted(spec.run_id for part in waves for spec in part) == sorted(spec.run_id for spec in specs)
    assert [wave(part) for part in waves] == [
        {(None, 1e-3), (0, 0.0)}, {(None, 1e-4), (None, 1e-2)},
        {(20, 0.3)}, {(20, 0.1), (20, 1.0)},
        {(10, 0.3), (40, 0.3)}, {(d, lr) for d in (10, 40) for lr in (0.1, 1.0)},
    ]  # fmt: skip


@pytest.fixture
def spec(make_spec):
    return make_spec(d=20, max_steps=12, evals=4)


ALWAYS = [asdict(Limit(6, BEHIND, 2.0, "no accuracy is 2"))]


def test_a_run_that_is_pruned_goes_on_where_nothing_limits_it(spec, tmp_path):
    load = Loader()
    undisturbed = execute(spec, Store(tmp_path / "whole"), load)
    store = Store(tmp_path / "pruned")
    run = store.run(spec)
    run.plan(spec)
    run.limit(ALWAYS)
    assert train_one(spec, store, load, Stop()) is RunState.PRUNED
    assert run.state is RunState.PRUNED
    assert (run.pruned()["step"], run.pruned()["kind"], run.result()) == (6, BEHIND, None)
    assert [line["step"] for line in run.history() if "eval_loss" in line] == [3, 6]

    run.limit([])
    assert run.state is RunState.PENDING
    assert train_one(spec, store, load, Stop()) is RunState.DONE
    result = run.result()
    assert (result.theta_hash, result.score) == (undisturbed.theta_hash, undisturbed.score)
    assert result.resumed == (6,)
    assert not {"pruned.json", "limits.json", "snapshot.bin"} & {path.name for path in run.path.iterdir()}


def test_a_single_run_is_trained_whole_whatever_a_sweep_left(spec, tmp_path):
    store, load = Store(tmp_path), Loader()
    store.run(spec).limit(ALWAYS)
    assert execute(spec, store, load).steps == 12
    with pytest.raises(Pruned, match="no accuracy is 2"):
        execute(spec, Store(tmp_path / "other"), load, limits=[Limit(6, BEHIND, 2.0, "no accuracy is 2")])


@pytest.mark.parametrize("damage", ["[1, 2", '{"step": 1}', '[{"step": "six"}]'])
def test_limits_that_can_not_be_read_end_nothing(spec, tmp_path, damage, caplog):
    store = Store(tmp_path)
    run = store.run(spec)
    run.plan(spec)
    (run.path / "limits.json").write_text(damage)
    assert train_one(spec, store, Loader(), Stop()) is RunState.DONE
    assert "trained to its end" in caplog.text


class Histories(Inline):
    """Trains nothing: a run's evaluations, at steps 3, 6 and 9 of 12, are those that `scores` has for it."""

    def __init__(self, scores, stop_after=None):
        super().__init__(Loader())
        self.scores, self.left, self.steps = scores, stop_after, 0

    def check(self, cells, store, stop):
        return []

    def launch(self, specs, store, stop):
        for spec in specs:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left = None if self.left is None else self.left - 1
            yield spec, self.tell(store.run(spec), spec)

    def tell(self, run, spec):
        *before, score = self.scores(spec)
        run.begin(spec)
        limits = [Limit(**tree) for tree in run.limits()]
        for step, value in zip((3, 6, 9), before, strict=True):
            run.log(step=step, epoch=0, eval_accuracy=value)
            self.steps += 3
            for limit in limits:
                if limit.ends(step, value):
                    run.prune({"step": step, "score": value, "kind": limit.kind, "reason": limit.reason})
                    return RunState.PRUNED
        self.steps += 3
        made = result(spec.d, score, seed=spec.seed, lr=spec.lr, n_eval=2500)
        tree = made.to_dict() | {"spec": spec.to_dict(), "run_id": spec.run_id, "steps": 12}
        (run.path / "result.json").write_text(json.dumps(tree))
        return RunState.DONE


def scores(spec):
    """A curve that rises by d up to 0.9, best at the middle rate; all rise in a straight line from 0.5."""
    level = 0.9 if spec.d is None else min(0.9, 0.5 + 0.1 * [5, 10, 20, 40, 80, 160, 320].index(spec.d))
    worse = 0.0 if spec.lr in (1e-3, 0.3) else 0.2
    end = max(0.5, level - worse + 0.001 * spec.seed)
    return [0.5 + (end - 0.5) * share for share in (0.6, 0.8, 0.9, 1.0)]


@pytest.fixture
def grid(make_spec):
    train = {"max_steps": 12, "evals": 4}
    full = [make_spec("full", lr=lr, seed=s, **train) for lr in (1e-4, 1e-3, 1e-2) for s in (0, 1)]
    ds, lrs = (5, 10, 20, 40, 80, 160, 320), (0.1, 0.3, 1.0)
    return full + [make_spec(d=d, lr=lr, seed=s, **train) for d in ds for lr in lrs for s in (0, 1)]


def swept(grid, folder, **options):
    said, launcher = [], Histories(scores, options.pop("stop_after", None))
    ended = sweep.sweep(grid, Store(folder), launcher, said.append, **options)
    return ended, launcher, said


def ends(folder):
    return {run.path.name: (str(run.state), run.pruned()) for run in Store(folder).runs()}


def test_a_pruned_sweep_finds_the_same_d90_with_half_of_the_steps(grid, tmp_path):
    from intrinsic_cli.reports import curves

    whole, all_steps, _ = swept(grid, tmp_path / "whole")
    pruned, some_steps, _ = swept(grid, tmp_path / "pruned", prune=True)
    assert (len(whole.done), len(whole.pruned)) == (48, 0)
    assert len(pruned.done) + len(pruned.pruned) == 48
    assert some_steps.steps <= all_steps.steps / 2
    found = []
    for name in ("whole", "pruned"):
        [curve] = curves.of(Store(tmp_path / name).survey())
        found.append((curve.estimate().d_t, curve.estimate(definition="chance").d_t, curve.pruned))
    # 0.81 and 0.86 lie between 0.8 at d = 40 and 0.9 at d = 80, as their lines in log2 d have it.
    assert [each[:2] for each in found] == [(43, 61)] * 2
    assert (found[0][2], found[1][2]) == (0, len(pruned.pruned))


def test_the_same_sweep_again_does_nothing(grid, tmp_path):
    swept(grid, tmp_path, prune=True)
    before = ends(tmp_path)
    again, launcher, said = swept(grid, tmp_path, prune=True)
    assert launcher.steps == 0
    assert ends(tmp_path) == before
    assert f"{len(again.pruned)} of them pruned" in said[0]


@pytest.mark.parametrize("stop_after", [1, 5, 9, 14, 19])
def test_a_sweep_that_was_cut_off_takes_the_same_decisions(grid, tmp_path, stop_after):
    swept(grid, tmp_path / "undisturbed", prune=True)
    with pytest.raises(KeyboardInterrupt):
        swept(grid, tmp_path / "cut", prune=True, stop_after=stop_after)
    swept(grid, tmp_path / "cut", prune=True)
    assert ends(tmp_path / "cut") == ends(tmp_path / "undisturbed")


def test_decisions_do_not_depend_on_the_order_within_a_wave(grid, tmp_path):
    swept(grid, tmp_path / "one", prune=True)
    swept(grid[::-1], tmp_path / "other", prune=True)
    assert ends(tmp_path / "one") == ends(tmp_path / "other")


def test_without_pruning_the_rest_is_done(grid, tmp_path):
    swept(grid, tmp_path, prune=True)
    ended, _, _ = swept(grid, tmp_path)
    assert len(ended.done) == 48
    assert {state for state, _ in ends(tmp_path).values()} == {"done"}


@pytest.mark.parametrize("word", [RunState.ELSEWHERE, RunState.PRUNED])
def test_what_another_driver_prunes_goes_on_in_a_sweep_without_pruning(spec, tmp_path, word):
    """Its process had the run, or it wrote limits after this sweep had taken them away."""

    class Beside(Inline):
        def launch(self, specs, store, stop):
            run = store.run(spec)
            if not others:
                others.append("a driver with search.prune=true")
                run.limit(ALWAYS)
                assert train_one(spec, store, Loader(), stop) is RunState.PRUNED
                yield spec, word
            else:
                yield from super().launch(specs, store, stop)

    others, said, store = [], [], Store(tmp_path)
    ended = sweep.sweep([spec], store, Beside(Loader()), said.append)
    assert (ended.done, ended.pruned) == ((spec.run_id,), ())
    assert store.run(spec).result().resumed == (6,)
    assert not any("pruned at step" in line for line in said)
    assert said[-2] == "1 runs that another sweep has pruned go on"
    assert said[-1].startswith("[1/1]")


def test_a_longer_grid_takes_up_what_it_no_longer_has_a_reason_to_prune(grid, tmp_path):
    few = [spec for spec in grid if spec.d in (None, 80, 320)]
    swept(few, tmp_path, prune=True)
    assert ends(tmp_path)[few[-1].run_id][0] == "pruned"  # 320, as 80 reaches the target
    lone = [spec for spec in few if spec.d != 80]
    ended, _, _ = swept(lone, tmp_path, prune=True)
    assert few[-3].run_id in ended.done  # the middle rate of 320, the only d of this sweep


def test_a_run_that_died_between_its_snapshot_and_its_word_is_pruned_where_it_was(spec, tmp_path):
    store, load = Store(tmp_path), Loader()
    run = store.run(spec)
    run.plan(spec)
    run.limit(ALWAYS)
    assert train_one(spec, store, load, Stop()) is RunState.PRUNED
    (run.path / "pruned.json").unlink()  # as a kill before it leaves the folder
    assert train_one(spec, store, load, Stop()) is RunState.PRUNED
    assert run.pruned()["step"] == 6
    assert [line["step"] for line in run.history() if "eval_loss" in line] == [3, 6]


def test_with_patience_the_best_evaluation_is_judged(make_spec, tmp_path):
    """The score is that of the best evaluation, so that a dip behind it ends nothing."""
    spec = make_spec(d=20, lr=4.0, seed=1, max_steps=24, evals=12, patience=11)
    whole = execute(spec, Store(tmp_path / "whole"), Loader())
    history = Store(tmp_path / "whole").run(spec).history()
    values = [line["eval_accuracy"] for line in history if "eval_accuracy" in line]
    steps = [int(line["step"]) for line in history if "eval_accuracy" in line]
    dips = [k for k in range(1, len(values) - 1) if values[k] < max(values[:k])]
    assert dips, values
    at = dips[0]
    between = (values[at] + max(values[:at])) / 2
    limit = Limit(steps[at], BEHIND, between, "the dip lies under it, the best does not")
    assert execute(spec, Store(tmp_path / "other"), Loader(), limits=[limit]).score == whole.score
    best = [max(values[: k + 1]) for k in range(len(values))]
    assert list(track(whole).before.values()) == best[: len(track(whole).before)]


def test_every_run_that_no_longer_stands_is_taken_up_in_the_same_sweep(grid, make_spec, tmp_path):
    """More seeds take the size below its target that put a larger one above: that one goes on."""

    def unlucky(spec):
        return [0.7] * 4 if spec.d == 80 and spec.seed > 1 else scores(spec)

    few = [spec for spec in grid if spec.d in (None, 20, 80, 320)]
    swept(few, tmp_path, prune=True)
    assert {ends(tmp_path)[spec.run_id][0] for spec in few if spec.d == 320} == {"pruned"}
    train = {"max_steps": 12, "evals": 4}
    more = [make_spec(d=80, lr=lr, seed=s, **train) for lr in (0.1, 0.3, 1.0) for s in range(2, 9)]
    said, launcher = [], Histories(unlucky)
    sweep.sweep([*few, *more], Store(tmp_path), launcher, said.append, prune=True)
    left = Pruning([*few, *more], Store(tmp_path))
    pruned = [spec for spec in (*few, *more) if Store(tmp_path).run(spec).state is RunState.PRUNED]
    assert left.standing(pruned) == set(pruned)
    assert ends(tmp_path)[next(s for s in few if s.d == 320 and s.lr == 0.3).run_id][0] == "done"
    assert any("matter after all" in line for line in said)


def test_a_record_without_a_step_is_none(spec, tmp_path):
    run = Store(tmp_path).run(spec)
    run.plan(spec)
    run.prune({"kind": BEHIND, "reason": "edited by hand", "score": 0.5})
    assert (run.pruned(), run.state) == (None, RunState.PENDING)


@pytest.fixture
def study(make_spec):
    from intrinsic_cli.planning.plan import SearchPlan

    def make(d, seed, lr):
        return make_spec("full" if d is None else "did", d=d, seed=seed, lr=lr, max_steps=12, evals=4)

    return SearchPlan(
        baseline=(make(None, 0, 1e-3),), make=make, lrs=lambda d: (0.1, 0.3, 1.0), d_min=5, d_max=320,
        seeds=(0, 1, 2), rel_width=0.01, budget=30,
    )  # fmt: skip


def searched(study, folder, *, prune, histories=None):
    launcher, said = Histories(histories or rising), []

    def say(line):
        said.append(line)
        assert len(said) < 150, said[-5:]

    store = Store(folder)
    for spec in study.baseline:
        store.run(spec).plan(spec)
    list(launcher.launch([spec for spec in study.baseline if not store.run(spec).state.over], store, None))
    run_study(study, store, launcher, say, prune=prune)
    return launcher, said


def rising(spec):
    """As `scores`, at any d; the second seed is lost at the middle rate, where it begins far below."""
    level = 0.9 if spec.d is None else min(0.9, 0.5 + 0.1 * math.log2(spec.d / 5))
    end = max(0.5, level - (0.0 if spec.lr in (1e-3, 0.3) else 0.2))
    if spec.d is not None and spec.seed == 1 and spec.lr == 0.3:
        return [0.3, 0.3, 0.3, 0.3]
    return [0.5 + (end - 0.5) * share for share in (0.6, 0.8, 0.9, 1.0)]


def test_a_search_that_prunes_asks_for_no_run_twice(study, tmp_path):
    _, said = searched(study, tmp_path, prune=True)
    assert "finished after" in said[-1]
    states = [state for state, _ in ends(tmp_path).values()]
    assert "pruned" in states
    assert len(states) <= study.budget


def test_a_search_without_pruning_takes_up_what_was_pruned(study, tmp_path):
    searched(study, tmp_path, prune=True)
    assert "pruned" in {state for state, _ in ends(tmp_path).values()}
    _, said = searched(replace(study, budget=60), tmp_path, prune=False)
    assert {state for state, _ in ends(tmp_path).values()} == {"done"}
    assert "runs that were pruned" in said[0]
