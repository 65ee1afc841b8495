"""What has been trained, looked at without training: status, show, diff, forget."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.made_runs import result, save
from support.rows import write_task

from intrinsic_cli.cli.arguments import in_shell
from intrinsic_cli.errors import RunError
from intrinsic_cli.files import publish
from intrinsic_cli.planning import compose, specs
from intrinsic_cli.planning.words import parse, setting
from intrinsic_cli.result import RunBound
from intrinsic_cli.rundir import BEAT, CONFIG, RunDir
from intrinsic_cli.store import Store


@pytest.fixture
def store(tmp_path):
    """Three runs that are done, one that failed, one pending, and the folder of a model."""
    store = save([result(d, 0.5 + d / 1e5) for d in (10000, 300, 1000)], tmp_path / "out")
    for d, seed in ((300, 7), (1000, 7)):
        spec = result(d, 0.5, seed=seed).spec
        store.run(spec).plan(spec)
    store.run(result(300, 0.5, seed=7).spec).fail(RunError("it diverged"))
    (store.root / "model").mkdir()
    (store.root / "model" / CONFIG).write_text('{"hidden_size": 8}')
    (store.root / "model" / "model.safetensors").write_text("weights")
    return store


@pytest.mark.parametrize(
    "words",
    [
        ["status"], ["summarize"], ["report"], ["compare", "--against", "bound"],
        ["sweep", "model=tiny", "d=5", "subspace=said", "--dry-run"],
        ["sweep", "modle=tiny"], ["sweep", "train.epochs=x"], ["sweep", "task=mprc"], ["sweep", "adapter=lara"],
        ["sweep", "--dryrun"], ["summrize"], ["keys", "trian"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_trains_nothing_loads_no_torch(store, words):
    """Nor does it ask the hub: planning and looking are for laptops without either."""
    if words[0] in ("status", "summarize", "report", "compare"):
        words = [*words, str(store.root)]
    code = f"""
import socket, sys
from intrinsic_cli.cli.main import main
socket.socket.connect = None
try:
    status = main({words!r})
except SystemExit as stop:
    status = stop.code
print(sorted(set(sys.modules) & {{"torch", "transformers", "datasets", "sklearn", "numba"}}), status)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=store.root
    )
    # There are no bounds here.
    refused = words[0] not in ("status", "summarize", "report") and "--dry-run" not in words
    assert done.stdout.splitlines()[-1] == f"[] {2 if refused else 0}", done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_the_statistics_of_a_command_start_no_threads(store):
    """Threads of BLAS doubled the time of `summarize` over many curves."""
    code = f"""
import os
from intrinsic_cli.__main__ import main
main(["summarize", {str(store.root)!r}])
import numpy
print(len(os.listdir("/proc/self/task")))
"""
    own = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own)
    assert done.stdout.splitlines()[-1] == "1"


def test_status_begins_with_counts_and_counts_d_as_numbers(idim, store):
    status, printed, _ = idim("status", store.root)
    first, *lines = printed.splitlines()
    assert status == 0
    assert first.startswith("3 done, 0 running, 1 failed, 1 pending; about 60 s to go with 1 at once")
    done = [line for line in lines if line.startswith("done")]
    assert [re.search(r"-d(\d+)-", line)[1] for line in done] == ["300", "1000", "10000"]


def test_status_of_the_failed_alone_and_as_json(idim, store):
    _, printed, _ = idim("status", store.root, "--failed")
    _, line = printed.splitlines()
    assert line.startswith("failed   minilm-sst2-did-d300-lr0.1-s7-")
    assert line.endswith("it diverged")
    found = json.loads(idim("status", store.root, "--json")[1])
    assert found["counts"] == {"done": 3, "failed": 1, "pending": 1}  # the model is no run
    assert len(found["runs"]) == 5
    [failed] = json.loads(idim("status", store.root, "--json", "--failed")[1])["runs"]
    assert (failed["state"], failed["message"]) == ("failed", "it diverged")


def test_status_shows_the_step_of_a_run_that_is_running(idim, store):
    run = store.run(result(1000, 0.5, seed=7).spec)
    run.log(step=40, steps=250, loss=1.0)
    with run.claim() as mine:
        assert mine
        _, printed, _ = idim("status", store.root)
        _, shown, _ = idim("show", run.path)
    [line] = [line for line in printed.splitlines() if line.startswith("running")]
    assert line.endswith("  step 40 of 250")
    assert shown.splitlines()[0].endswith(": running, step 40 of 250")
    assert re.search(r"\nstep +40  loss 1\n", shown)


@pytest.fixture
def interrupted(store):
    """A run of the store that left a snapshot at step 33 of 250."""
    run = store.run(result(1000, 0.5, seed=7).spec)
    run.log(step=30, steps=250, loss=1.0)
    state = json.dumps({"position": {"step": 33}, "steps": 250}).encode()
    header = json.dumps({"state": {"data_offsets": [0, len(state)]}}).encode()
    run.save(len(header).to_bytes(8, "little") + header + state)
    return run


def test_a_run_that_was_interrupted_is_said_to_go_on(idim, store, interrupted):
    first, *lines = idim("status", store.root)[1].splitlines()
    assert "1 pending (1 interrupted)" in first
    [line] = [line for line in lines if line.startswith("pending")]
    assert line.endswith("  interrupted at step 33 of 250; the same command continues there")
    [found] = [r for r in json.loads(idim("status", store.root, "--json")[1])["runs"] if "step" in r]
    assert (found["state"], found["step"], found["steps"]) == ("pending", 33, 250)
    shown = idim("show", interrupted.path)[1].splitlines()
    assert shown[0].endswith(": pending, interrupted at step 33 of 250; the same command continues there")
    assert f"output_dir={store.root}" in shlex.split(shown[1])


@pytest.mark.parametrize("name", ["out", "my runs", "runs (2), it's $HOME"])
def test_the_command_that_show_prints_finds_the_run(idim, tmp_path, monkeypatch, name):
    """Whatever its folder and its data are called, and from wherever it is shown."""
    data = write_task(tmp_path / f"data of {name}", 12, 12)
    monkeypatch.chdir(tmp_path)
    words = [
        "model=tiny",
        setting("task", str(data)).input_line,
        "d=9",
        setting("output_dir", name).input_line,
    ]
    cfg = compose.compose_config("run", parse(words))
    spec = specs.run_spec(cfg)
    run = Store(tmp_path / name).run(spec)
    run.plan(spec)
    for place, typed in (
        (tmp_path, f"{name}/{run.path.name}"),
        (tmp_path / name, run.path.name),
        (run.path, "."),
    ):
        monkeypatch.chdir(place)
        line = idim("show", typed)[1].splitlines()[1]
        told = subprocess.run(
            ["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True
        )
        idim_, command, *again = told.stdout.split("\0")[:-1]
        assert (idim_, command) == ("idim", "run")
        cfg = compose.compose_config("run", parse(again))
        assert specs.run_spec(cfg) == spec
        assert Store(specs.output_dir(cfg)).run(spec).path.samefile(run.path)


def test_a_command_is_printed_as_it_is_easily_read():
    words = ["idim", "d=5", "task.path='a b.csv'", "x='$y'", "task.text=[a,b]"]
    line = in_shell(words)
    assert shlex.split(line) == words
    assert "\"task.path='a b.csv'\"" in line


def test_status_tells_of_a_run_that_takes_no_step(idim, store):
    run = store.run(result(1000, 0.5, seed=7).spec)
    run.log(step=40, loss=1.0)
    with run.claim():
        before = time.time() - 600
        os.utime(run.path / BEAT, (before, before))
        _, printed, _ = idim("status", store.root)
        found = json.loads(idim("status", store.root, "--json")[1])["runs"]
    [line] = [line for line in printed.splitlines() if line.startswith("running")]
    assert re.search(r"  step 40, no step for 1[01] min$", line)
    assert [record["silent"] for record in found if "silent" in record] == [pytest.approx(600, abs=100)]
    assert not (run.path / BEAT).exists()  # and it is told of nobody who is gone


def test_show_says_the_words_the_curve_and_the_files(idim, store):
    run = store.run(result(300, 0.5).spec)
    status, printed, _ = idim("show", run.path)
    lines = printed.splitlines()
    assert status == 0
    assert lines[0] == f"{run.path.name}: done"
    words = shlex.split(lines[1])
    assert words[:3] == ["idim", "run", "task=sst2"]
    assert {"d=300", "lr=0.1", "task.path=glue"} <= set(words)
    changed = [word for word in words if word.startswith(("seed", "train.", "data.", "model."))]
    assert changed == ["train.clip=trained"]  # and all else is as ever
    assert lines[2] == "accuracy 0.5030"
    steps = [int(line.split()[1]) for line in lines if line.startswith("step")]
    assert len(steps) == 10
    assert (steps[0], steps[-1]) == (1, 100)
    assert any("history.jsonl  " in line for line in lines)
    assert json.loads(idim("show", run.path, "--json")[1])["score"] == run.result().score


@pytest.mark.parametrize(
    "words",
    [
        ["task=mrpc", "model=tiny", "subspace=said", "subspace.groups=tensor", "d=77", "seed=3", "lr=0.25"],
        ["model=owner/net", "model.num_hidden_layers=2", "task=owner/rows", "task.text=a b,c", "d=9"],
        ["model=roberta-base", "subspace=full", "train.epochs=0.5", "data.max_train=4k"],
        ["subspace.include=*.weight,'a[0-9]'", "projection=sorf", "projection.seed=1"],
        ["task.labels=yes,'no, never'", "task.name='1k'", "task.label=null_", "tracker=none"],
    ],
)  # fmt: skip
def test_the_words_of_a_run_make_it_again(words):
    spec = specs.run_spec(compose.compose_config("run", parse(["model=tiny", *words])))
    again = specs.run_spec(compose.compose_config("run", parse(specs.words_of(spec))))
    assert again == spec


def test_diff_shows_what_differs_and_nothing_else(idim, store):
    one, other = (store.run(result(d, 0.5).spec).path for d in (300, 1000))
    found = {
        r["key"]: (r["one"], r["other"]) for r in json.loads(idim("diff", one, other, "--format", "json")[1])
    }
    assert found["d"] == ("300", "1000")
    assert found["score"] == ("0.503", "0.51")
    assert not any(key.startswith(("task.", "train.", "environment.")) for key in found)
    assert "no difference" in idim("diff", one, one)[1]
    failed = store.run(result(300, 0.5, seed=7).spec).path
    assert "failed" in idim("diff", one, failed)[1]


@pytest.mark.parametrize("state", ["failed", "pending"])
def test_forget_removes_runs_of_one_state_and_nothing_else(idim, store, state):
    before = sorted(store.root.iterdir())
    status, _, said = idim("forget", store.root, f"--{state}")
    assert (status, sorted(store.root.iterdir())) == (2, before)
    assert "1 " + state in said
    assert "--yes" in said
    gone = store.run(result(300 if state == "failed" else 1000, 0.5, seed=7).spec).path
    (gone.parent / "kept").mkdir()
    assert idim("forget", store.root, f"--{state}", "--yes")[0] == 0
    assert sorted(store.root.iterdir()) == sorted([*(p for p in before if p != gone), store.root / "kept"])
    assert (store.root / "model" / "model.safetensors").exists()
    assert len(store.results()) == 3


def test_forget_leaves_a_run_that_somebody_holds_and_files_that_are_no_run_s(idim, store):
    run = store.run(result(1000, 0.5, seed=7).spec)
    with RunDir(run.path).claim() as mine:
        assert mine
        assert not run.forget()
    (run.path / "notes.txt").write_text("mine")
    assert run.forget()
    assert [path.name for path in run.path.iterdir()] == ["notes.txt"]


def test_forget_takes_all_that_a_run_leaves_and_nothing_of_its_owner_s(store):
    spec, theirs = (result(1000, 0.5, seed=seed).spec for seed in (9, 10))
    run, other = store.run(spec), store.run(theirs)
    with run.claim():
        run.begin(spec)
        run.log(step=1, loss=0.5)
        run.save(b"where it goes on")
        run.theta(b"what it learned")
        run.keep_outcomes({"validation": {"label": [0, 1]}})
        run.keep_bound(RunBound(risk=0.3, delta=0.05, levels=4, bits=100.0, valid=True))
        run.limit([{"step": 1}])
        run.prune({"step": 1, "kind": "low", "reason": "too low"})
        run.fail(RuntimeError("the disk went away"))
    for name in ("idim/events.out.tfevents.1.host.2.0", "wandb/run-1/run.wandb", "wandb/debug.log",
                 f".theta.safetensors.{'0a' * 4}.tmp"):  # fmt: skip
        path = run.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (run.path / "wandb" / "latest-run").symlink_to(run.path / "wandb" / "run-1")
    shutil.copytree(run.path, other.path, symlinks=True)
    publish(other.path / "config.json", theirs.to_dict())
    own = [other.path / name for name in (".notes.tmp", ".result.json.tmp", "wandb/mine.txt", "idim/x/y.txt")]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    assert run.forget()
    assert not run.path.exists()
    assert other.forget()
    assert sorted(path for path in other.path.rglob("*") if path.is_file()) == sorted(own)


def test_a_folder_that_is_no_run_is_refused(idim, store, tmp_path):
    for words in (["show", tmp_path], ["show", store.root / "model"], ["diff", tmp_path, tmp_path]):
        status, printed, said = idim(*words)
        assert (status, printed, said.count("\n")) == (2, "", 1)
        assert "config.json is not the configuration of a run (" in said


def test_a_finished_run_is_shown_whatever_its_other_files_hold(idim, store):
    run = store.run(result(300, 0.5).spec)
    before = idim("show", run.path)[1].splitlines()
    (run.path / "config.json").unlink()
    (run.path / "history.jsonl").write_bytes(b"\xff\xfe{]\n")
    status, printed, _ = idim("show", run.path)
    assert status == 0
    lines = printed.splitlines()
    assert lines[:4] == before[:4]
    assert "history.jsonl, line 1 is damaged" in lines[4]
    assert lines[-1].startswith(f"{run.path}")
    assert idim("show", run.path, "--json")[0] == 0


def test_words_of_a_spec_with_a_rate_that_is_the_default_still_have_it(store):
    spec = replace(store.results()[0].spec, lr=0.231)
    assert "lr=0.231" in specs.words_of(spec)


@pytest.mark.parametrize("command", ["summarize", "report", "compare"])
def test_what_is_told_of_a_study_says_that_runs_are_missing(idim, store, command):
    """A study that was stopped would else look like one that measured that d90 lies above its d's."""
    _, printed, said = idim(command, store.root)
    assert "2 of 5 runs are not done (1 failed, 1 pending); idim status" in said
    assert "not done" not in printed
    for kind in ("--pending", "--failed"):
        assert idim("forget", store.root, kind, "--yes")[0] == 0
    assert "not done" not in idim(command, store.root)[2]


def test_a_run_that_is_no_folder_is_called_so(idim, tmp_path):
    status, _, said = idim("show", tmp_path / "nowhere")
    assert status == 2
    assert "nowhere is not a folder; give that of a run" in said


@pytest.mark.parametrize(
    "words", [("show", "{}"), ("diff", "{}", "{}"), ("export", "{}", "--out", "x.safetensors")]
)
def test_a_name_as_status_prints_it_is_told_its_folder(idim, store, monkeypatch, words):
    [run, *_] = store.runs()
    monkeypatch.chdir(store.root.parent)
    status, _, said = idim(*(word.format(run.path.name) for word in words))
    assert status == 2
    assert f"did you mean {store.root.name}/{run.path.name}?" in said


@pytest.mark.parametrize(
    "words", [("show", "{}"), ("diff", "{}", "{}"), ("export", "{}", "--out", "x.safetensors")]
)
def test_a_folder_of_runs_is_told_from_a_run(idim, store, words):
    status, _, said = idim(*(word.format(store.root) for word in words))
    assert (status, said.count("\n")) == (2, 1)
    assert f"it is a folder of runs, which idim status {store.root} lists" in said


def test_a_folder_of_models_is_no_folder_of_runs(idim, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    status, _, said = idim("show", tmp_path)
    assert (status, "folder of runs" in said) == (2, False)
