"""Sweeps on a real Ray cluster of two nodes on this machine, of which one is killed. Loopback only."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's word for: addresses are loopback
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.cluster_utils import Cluster
from support.processes import meanwhile, until

import intrinsic_cli
from intrinsic_cli.errors import ConfigError
from intrinsic_cli.reports.curves import estimates, group
from intrinsic_cli.reports.tables import grid
from intrinsic_cli.rundir import HISTORY, SNAPSHOT, THETA
from intrinsic_cli.store import Store
from intrinsic_cli.study.launchers import make_launcher
from intrinsic_cli.study.launchers.inline import Inline
from intrinsic_cli.study.sweep import sweep
from intrinsic_cli.training.stop import Stop

ROOM = 80 * 2**20  # bytes of shared memory per node: containers have little


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each; the second is there to be killed."""
    options = {"num_cpus": 1, "object_store_memory": ROOM}
    made = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **options})
    made.add_node(**options)
    ray.init(address=made.address, log_to_driver=False, configure_logging=False)
    yield made
    ray.shutdown()
    made.shutdown()


def at_work(node=None):
    """The processes of this machine's raylets (of one node's) in which a task runs."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            raylet = process.parent()
            ours = node is None or raylet.pid == node.all_processes["raylet"][0].process.pid
            if ours and process.name().startswith("ray::work"):
                found.append(process)
    return found


def test_a_run_whose_process_dies_is_recorded_with_the_reason(cluster, make_spec, tmp_path):
    spec, store, stop = make_spec(max_steps=10**6), Store(tmp_path), Stop()
    launcher = make_launcher("ray", retries=0)

    def kill():
        until((store.run(spec).path / HISTORY).exists, "training")
        for process in until(at_work, "a task at work"):
            process.kill()

    thread = meanwhile(kill, stop)
    assert list(launcher.launch([spec], store, stop)) == [(spec, "failed")]
    thread.join()
    assert "its Ray task died" in store.run(spec).error()["message"]
    assert store.run(spec).error()["attempts"] == 1


def test_a_stopped_run_leaves_a_snapshot_and_one_behind_it_is_not_begun(cluster, make_spec, tmp_path):
    specs, store, stop = [make_spec(seed=i, max_steps=10**6) for i in range(3)], Store(tmp_path), Stop()
    launcher = make_launcher("ray")
    assert launcher.slots == 2

    def ask():
        until(lambda: sum((store.run(spec).path / HISTORY).exists() for spec in specs) == 2, "training")
        stop.request()

    thread = meanwhile(ask, stop)
    ended = list(launcher.launch(specs, store, stop))
    thread.join()
    assert [state for _, state in ended] == ["stopped", "stopped"]
    assert all((store.run(spec).path / SNAPSHOT).exists() for spec, _ in ended)
    assert [store.run(spec).state for spec in specs] == ["pending"] * 3


def test_a_sweep_survives_the_death_of_a_node(cluster, make_spec, tmp_path):
    specs = [make_spec(kind="full", lr=1e-3, max_steps=12)]
    specs += [make_spec(d=d, seed=seed, max_steps=12) for d in (50, 200) for seed in range(2)]
    calm, store = Store(tmp_path / "calm"), Store(tmp_path / "disturbed")
    sweep(specs, calm, Inline(), str)
    [node] = cluster.worker_nodes

    def kill():
        until(lambda: at_work(node), "a task at work on the node")
        cluster.remove_node(node, allow_graceful=False)

    stop = Stop()
    thread = meanwhile(kill, stop)
    said = []
    report = sweep(specs, store, make_launcher("ray"), said.append, stop=stop)
    thread.join()
    assert not cluster.worker_nodes
    assert sorted(report.done) == sorted(spec.run_id for spec in specs)
    assert report.failed == ()
    assert sum(" to go" in line or "all done" in line for line in said) == len(specs), "none is told twice"
    for spec in specs:
        theta, again = (load_file(s.run(spec).path / THETA) for s in (calm, store))
        assert theta.keys() == again.keys()
        assert all(torch.equal(theta[name], again[name]) for name in theta)
    assert grid(estimates(group(calm.results()))) == grid(estimates(group(store.results())))


def test_no_file_of_the_working_folder_is_a_module_of_a_node(task_folder, tmp_path):
    """A cluster of its own, started from a folder of modules that end whoever imports one."""
    here = tmp_path / "here"
    here.mkdir()
    for name in ("random", "datasets", "numba", "safetensors", "yaml", "transformers"):
        (here / f"{name}.py").write_text("raise SystemExit('a file of the working folder was run')")
    words = ["model=tiny", "task=custom", f"task.path={task_folder}", "data.max_length=32", "train.max_steps=2",
             "train.precision=fp32", "d=20", "baseline.run=false", "launcher=ray", "output_dir=out"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-m", "intrinsic_cli", "sweep", *words], cwd=here, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(intrinsic_cli.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(here.glob("out/*/result.json"))) == 1


def test_a_task_that_takes_no_step_is_killed_and_its_run_tried_again(cluster, make_spec, tmp_path):
    spec, store, stop = make_spec(max_steps=60), Store(tmp_path), Stop()
    launcher = make_launcher("ray", timeout=40)

    def suspend():
        until((store.run(spec).path / HISTORY).exists, "training")
        for process in until(at_work, "a task at work"):
            process.suspend()

    thread = meanwhile(suspend, stop)
    assert list(launcher.launch([spec], store, stop)) == [(spec, "done")]
    thread.join()


def test_a_node_without_the_output_folder_is_noticed(cluster, make_spec, tmp_path):
    from intrinsic_cli.study.launchers.ray import work

    spec = make_spec()
    answer = ray.remote(work).remote(spec.to_dict(), str(tmp_path / "not there"), os.getcwd())
    assert ray.get(answer) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [({"cpus": 64}, "more than the Ray cluster has"), ({"gpus": -1}, "launcher.gpus=-1 must be"),
     ({"retries": -1}, "launcher.retries=-1 must be")],
)  # fmt: skip
def test_what_the_cluster_cannot_give_is_refused(cluster, options, words):
    with pytest.raises(ConfigError, match=words):
        make_launcher("ray", **options)


def test_an_address_where_nobody_answers_is_refused(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="no Ray cluster answers there"):
        make_launcher("ray", address="127.0.0.1:1")
