"""One run from claim to result: what it leaves, and what a failed one must not leave."""

import json
import math
import signal
import threading
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from intrinsic_cli import __version__
from intrinsic_cli.errors import DataError, RunError, Stopped
from intrinsic_cli.projections import versions
from intrinsic_cli.result import RunResult
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store
from intrinsic_cli.tasks.task import task_of
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.run import execute
from intrinsic_cli.training.stop import Stop

KEYS = {
    "run_id", "study", "spec", "metric", "score", "metrics", "holdout_metrics", "chance", "n_train", "n_eval",
    "n_holdout", "d", "m", "D", "steps", "projection_version", "precision", "device", "started", "seconds",
    "peak_memory_mb", "model_hash", "settings_hash", "data_hash", "label_names", "environment",
}  # fmt: skip


@pytest.fixture(scope="module")
def loader():
    return Loader()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_a_run_leaves_all_that_repeats_it(store, loader, make_spec):
    spec = make_spec("said", holdout=10, metrics=("accuracy", "f1_macro"))
    result = execute(spec, store, loader)
    run = store.run(spec)
    assert {path.name for path in run.path.iterdir()} - {".lock"} == {
        "config.json", "result.json", "history.jsonl", "theta.safetensors", "outcomes.npz"
    }  # fmt: skip
    assert run.state == "done"
    assert RunResult.from_dict(json.loads((run.path / "result.json").read_text())) == result
    assert result.to_dict().keys() >= KEYS
    assert RunSpec.from_dict(json.loads((run.path / "config.json").read_text())) == spec
    assert result.spec == spec
    assert result.score == result.metrics["accuracy"] == run.history()[-1]["eval_accuracy"]
    assert result.metrics.keys() == result.holdout_metrics.keys() == {"accuracy", "f1_macro"}
    assert (result.n_train, result.n_eval, result.n_holdout) == (86, 40, 10)
    assert (result.d, result.m, result.steps) == (200, 5, 6)
    assert sum(p.numel() for p in loader(spec).base.model.parameters()) == result.D
    assert result.chance == 0.5
    assert result.label_names == ("calm", "loud")
    assert result.environment["idim"] == __version__
    assert result.environment["torch"] == torch.__version__
    assert 0 < result.seconds["evaluation"] < result.seconds["total"]
    assert 10 < result.peak_memory_mb < 10**5
    with safe_open(run.path / "theta.safetensors", "pt") as file:
        assert RunSpec.from_dict(json.loads(file.metadata()["spec"])) == spec
        assert (
            int(file.metadata()["projection_version"])
            == result.projection_version
            == versions("fastfood")[-1]
        )
        assert file.get_tensor("theta").shape == (195,)
        assert file.get_tensor("lam").shape == (5,)


@pytest.mark.parametrize("options", [
    {"metrics": ("f1", "matthews")}, {"patience": 1, "evals": 3, "lr": 0.5, "max_steps": 30},
])  # fmt: skip
def test_outcomes_give_every_score_again(store, loader, make_spec, options):
    """Rows in the file's order, so that any metric can be had of any rows, such as those of a bootstrap."""
    spec = make_spec(holdout=10, **options)
    result = execute(spec, store, loader)
    inputs, found = loader(spec), store.run(spec).outcomes()
    assert found["validation"]["label"].tolist() == inputs.validation.labels.tolist()
    assert found["holdout"]["label"].tolist() == inputs.holdout.labels.tolist()
    task = task_of(spec.task)
    assert task.score(found["validation"]) == result.metrics
    assert task.score(found["holdout"]) == result.holdout_metrics


def test_equal_thetas_have_equal_hashes(tmp_path, loader, make_spec):
    spec = make_spec("said")
    [first, again] = [execute(spec, Store(tmp_path / name), loader) for name in ("a", "b")]
    other = execute(make_spec("said", seed=1), Store(tmp_path / "a"), loader)
    assert first.theta_hash == again.theta_hash != other.theta_hash


def test_full_fine_tuning_leaves_the_same_kind_of_folder(store, loader, make_spec):
    spec = make_spec("full", lr=1e-3)
    result = execute(spec, store, loader)
    assert result.to_dict().keys() >= KEYS
    assert (result.m, result.projection_version) == (0, None)
    assert result.d == result.D
    assert result.theta_hash is None  # nothing is kept
    with safe_open(store.run(spec).path / "theta.safetensors", "pt") as file:
        assert not file.keys()


def test_a_finished_run_is_not_trained_again(store, loader, make_spec):
    spec = make_spec()
    first = execute(spec, store, loader)
    stamps = {
        path: path.stat().st_mtime_ns for path in store.run(spec).path.iterdir() if path.name != ".lock"
    }
    assert execute(spec, store, loader) == first
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_run_held_elsewhere_is_left_alone(store, loader, make_spec):
    spec = make_spec()
    with store.run(spec).claim():
        assert execute(spec, store, loader) is None
    assert store.run(spec).state == "pending"


def test_a_diverged_run_records_its_error_and_no_result(store, loader, make_spec):
    spec = make_spec("full", lr=1e30)
    with pytest.raises(RunError, match="smaller lr"):
        execute(spec, store, loader)
    run = store.run(spec)
    assert run.state == "failed"
    assert not (run.path / "result.json").exists()
    assert run.error()["error"] == "RunError"
    assert "trainer.py" in run.error()["traceback"]
    assert all(math.isfinite(value) for record in run.history() for value in record.values())
    assert store.results() == []


def test_a_failed_run_can_be_tried_again(store, loader, make_spec, tmp_path, task_folder):
    spec = make_spec(path=task_folder)
    broken = replace(spec, task=replace(spec.task, path=str(tmp_path / "gone")))
    assert broken.run_id == spec.run_id  # the same data by their fingerprint
    with pytest.raises(DataError):
        execute(broken, store, Loader())
    assert store.run(spec).state == "failed"
    assert execute(spec, store, loader).score == store.run(spec).result().score
    assert store.run(spec).state == "done"
    assert not (store.run(spec).path / "error.json").exists()


def test_an_interrupted_run_stays_pending(store, loader, make_spec):
    class Interrupted(Loader):
        def __call__(self, spec):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(make_spec(), store, Interrupted())
    assert store.run(make_spec()).state == "pending"


def test_a_tracker_gets_what_the_history_gets(make_spec, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra [tensorboard]")
    spec = replace(make_spec(), tracker="tensorboard")
    store = Store(tmp_path)
    execute(spec, store, Loader())
    assert spec.run_id == replace(spec, tracker="none").run_id  # where it is logged is no part of the science
    assert list(store.run(spec).path.rglob("*tfevents*"))


def test_a_run_that_is_stopped_finishes_its_tracker(make_spec, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra [tensorboard]")
    before = threading.enumerate()
    stop = Stop()
    stop.request(signal.SIGINT)
    with pytest.raises(Stopped):
        execute(replace(make_spec(), tracker="tensorboard"), Store(tmp_path), Loader(), stop=stop)
    assert threading.enumerate() == before  # tensorboard writes in one of its own
