"""What goes wrong in a study of days, a story each: processes die, disks fill, files are torn, drivers meet."""

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
from support.processes import PATIENCE, end, idim, results, science, training, until, workers

from intrinsic_cli.errors import ModelError, StoreError
from intrinsic_cli.finetunes.rebuild import export
from intrinsic_cli.models import pretrained
from intrinsic_cli.result import RunState
from intrinsic_cli.rundir import SNAPSHOT
from intrinsic_cli.spec import ModelSpec
from intrinsic_cli.store import Store
from intrinsic_cli.study.launchers.inline import Inline
from intrinsic_cli.study.launchers.local import Local
from intrinsic_cli.study.sweep import sweep
from intrinsic_cli.training import stop as stop_module
from intrinsic_cli.training.stop import Stop

RUNS = 4


@pytest.fixture(scope="module")
def words(task_folder):
    """A sweep of 4 runs of the tiny model, each long enough to be disturbed."""
    return ["sweep", "model=tiny", "task=custom", f"task.path={task_folder}", "data.max_length=32",
            "train.batch_size=16", "train.max_steps=150", "train.precision=fp32", "d=50,100,200",
            "baseline.lr=1e-3"]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    status, table, _ = end(idim(*words, f"output_dir={folder}"))
    assert status == 0
    return science(folder), table


def same(folder, undisturbed):
    found = science(folder)
    assert len(found) == RUNS
    assert found == undisturbed[0]
    return True


# --- a worker dies ----------------------------------------------------------------------------------------


def test_a_killed_worker_costs_an_attempt_and_no_result(words, undisturbed, tmp_path):
    driver = idim(*words, f"output_dir={tmp_path}")
    until(lambda: training(tmp_path, lines=3), "training")
    [worker] = workers(driver)
    worker.kill()
    status, table, said = end(driver)
    assert (status, table) == (0, undisturbed[1])
    assert same(tmp_path, undisturbed)
    [resumed] = [r["resumed"] for r in results(tmp_path).values() if r["resumed"]]
    assert resumed[0] % 6 == 0  # an epoch has 6 steps: it went on from its last
    assert resumed[0] >= 24
    assert "failed" not in said


def test_a_run_that_is_killed_too_often_fails_alone_with_its_reason(make_spec, tmp_path):
    store = Store(tmp_path)
    doomed, other = make_spec(d=50, max_steps=100_000), make_spec(d=60)
    ended = {}
    for spec, state in Local(slots=2, retries=0).launch([doomed, other], store, Stop()):
        ended[spec] = state
        if spec == other:  # it ended beside the other, whose process is killed now
            until(lambda: training(tmp_path), "training")
            for process in workers_here():
                process.kill()
    assert ended == {other: "done", doomed: "failed"}
    record = store.run(doomed).error()
    assert "killed by SIGKILL" in record["message"]
    assert record["attempts"] == 1


def workers_here():
    class Here:
        pid = os.getpid()

    return workers(Here)


@pytest.fixture
def wide_model(tmp_path):
    """A model of 17 M weights whose activations take 0.5 MB a token."""
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = pretrained.load(ModelSpec("tiny"), 2).tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=1 << 17, max_position_embeddings=64,
    )  # fmt: skip
    folder = tmp_path / "wide"
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_run_that_needs_too_much_memory_fails_alone(wide_model, task_folder, tmp_path):
    """96 rows of 32 tokens make a tensor of 1.6 GB, and 2 rows one of 34 MB, under a limit of 3 GB in all."""
    limit = 3 << 30
    status, _, said = end(idim(
        "sweep", f"model.name={wide_model}", "task=custom", f"task.path={task_folder}", "data.max_length=32",
        "d=50", "train.batch_size=96,2", "train.eval_batch_size=2", "train.max_steps=1", "baseline.run=false",
        "train.precision=fp32", f"output_dir={tmp_path / 'out'}",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    ))  # fmt: skip
    assert status == 1, said
    [done] = results(tmp_path / "out").values()
    assert done["spec"]["train"]["batch_size"] == 2
    [path] = (tmp_path / "out").glob("*/error.json")
    record = json.loads(path.read_text())
    assert record["error"] == "OutOfMemory"
    assert "train.batch_size" in record["message"]


def test_slots_share_the_threads_and_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    assert Local().slots == 2
    assert [e["CUDA_VISIBLE_DEVICES"] for e in Local(slots=3)._environments] == ["2", "GPU-5", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert [e["OMP_NUM_THREADS"] for e in Local(slots=3)._environments] == ["2"] * 3


# --- the driver dies, or is asked to leave ----------------------------------------------------------------


def test_a_killed_driver_takes_its_workers_along_and_the_rerun_loses_nothing(words, undisturbed, tmp_path):
    driver = idim(*words, f"output_dir={tmp_path}")
    until(lambda: results(tmp_path) and training(tmp_path, lines=2), "the second run")
    orphans = workers(driver)
    driver.kill()
    driver.communicate()
    before = results(tmp_path)
    status, table, _ = end(
        idim(*words, f"output_dir={tmp_path}")
    )  # at once: the orphan may still hold its run
    assert (status, table) == (0, undisturbed[1])
    assert same(tmp_path, undisturbed)
    assert before.items() <= results(tmp_path).items()  # none was done twice
    assert not any(p.is_running() and p.status() != "zombie" for p in orphans)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_driver_that_is_asked_to_leave_finishes_the_step(words, undisturbed, tmp_path, number, status):
    driver = idim(*words, f"output_dir={tmp_path}", start_new_session=True)
    [run] = until(lambda: training(tmp_path, lines=2), "training")
    os.killpg(driver.pid, number)  # as a terminal does: all its processes get it
    ended, table, said = end(driver)
    assert (ended, table) == (status, "")
    assert said.splitlines()[-1].startswith("idim: stopped with ")
    assert "the same command goes on from there" in said
    assert (run / SNAPSHOT).exists()
    assert not (run / "error.json").exists()
    assert end(idim(*words, f"output_dir={tmp_path}"))[:2] == (0, undisturbed[1])
    assert same(tmp_path, undisturbed)
    assert sum(bool(r["resumed"]) for r in results(tmp_path).values()) == 1


def test_a_second_interrupt_leaves_now(task_folder, tmp_path):
    run = ["run", "model=tiny", "task=custom", f"task.path={task_folder}", "d=50", "train.max_steps=1000000",
           "train.accumulate=1000000", "train.epochs=1000", f"output_dir={tmp_path}"]  # fmt: skip
    driver = idim(*run)
    until(lambda: list(tmp_path.glob("*/config.json")), "the run")
    said = ""
    while driver.poll() is None and not said:
        driver.send_signal(signal.SIGINT)
        try:
            said = driver.communicate(timeout=0.5)[1]
        except subprocess.TimeoutExpired:
            continue
    assert driver.returncode in (130, -signal.SIGINT)  # a third one may end it while it says so
    assert not results(tmp_path)


@pytest.mark.parametrize("wrong", ["subspace.include=[nix]", "task.label=nix", "model.num_hidden_layers=99"])
def test_inputs_that_a_worker_refuses_cost_a_line_and_leave_nothing(words, tmp_path, wrong):
    status, printed, said = end(idim(*words, wrong, f"output_dir={tmp_path / 'out'}"))
    assert (status, printed) == (2, "")
    assert said.startswith("idim: ")
    assert said.count("\n") == 1
    assert wrong.split("=")[1].strip("[]") in said
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_process_that_dies_over_the_inputs_costs_a_line_and_leaves_nothing(words, tmp_path):
    """As a tokenizer's native code can abort: the first thing that a worker does is to check the inputs."""
    driver = idim(*words, "launcher.retries=0", f"output_dir={tmp_path / 'out'}")
    until(lambda: workers(driver), "a worker")[0].kill()
    status, table, said = end(driver)
    assert (status, table, said.count("\n")) == (2, "", 1)
    assert "its process was killed by SIGKILL" in said
    assert "model.name=tiny" in said
    assert not (tmp_path / "out").exists()


def test_a_stranger_s_model_is_read_where_a_crash_costs_a_line(words, wide_model, tmp_path):
    driver = idim("run", *words[2:-2], "d=50", f"model.name={wide_model}", f"output_dir={tmp_path / 'out'}")
    until(lambda: workers(driver), "a worker")[0].send_signal(signal.SIGABRT)
    status, printed, said = end(driver)
    assert (status, printed, said.count("\n")) == (2, "", 1)
    assert f"model.name={wide_model}" in said
    assert "its process was killed by SIGABRT while it read them" in said
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def fine_tune(tmp_path_factory, task_folder, make_spec):
    """A run and its fine-tune as a file."""
    store = Store(tmp_path_factory.mktemp("runs"))
    spec = make_spec()
    sweep([spec], store, Inline(), str)
    run = store.run(spec)
    return run.path, export(run, store.root / "it.safetensors")


@pytest.fixture
def reading(fine_tune, tmp_path):
    """A command that reads a model in a process of its own, begun, and that process."""
    driver = idim("export", fine_tune[0], "--out", tmp_path / "out.safetensors")
    [reader] = until(lambda: psutil.Process(driver.pid).children(), "the process")
    until(lambda: reader.memory_info().rss > 80 << 20, "torch in it")
    return driver, reader


def test_a_model_that_kills_its_reader_leaves_a_line(reading, tmp_path):
    driver, reader = reading
    reader.send_signal(signal.SIGABRT)
    status, printed, said = end(driver)
    assert (status, printed, said.count("\n")) == (2, "", 1)
    assert said.startswith(
        "idim: idim export can't go on: its process was killed by SIGABRT; give other files"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_reader_ends_with_its_command(reading, number):
    driver, reader = reading
    reader.suspend()  # as one that hangs in native code
    driver.send_signal(number)
    status, _, said = end(driver)
    assert status == (130 if number == signal.SIGINT else -number)
    assert ("interrupted" in said) == (number == signal.SIGINT)
    until(lambda: not reader.is_running() or reader.status() == psutil.STATUS_ZOMBIE, "its end")


WRITER = """
import signal, sys
from pathlib import Path
from intrinsic_cli.cli.apart import status_apart
from intrinsic_cli.files import new_folder
if status_apart("apply") is None:
    with new_folder("--out", Path(sys.argv[1])) as draft:
        (draft / "config.json").touch()
        print("in", flush=True)
        signal.pause()
"""


def test_a_reader_that_is_interrupted_leaves_nothing_of_what_it_wrote(tmp_path):
    words = [sys.executable, "-c", WRITER, str(tmp_path / "out")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    assert list(tmp_path.iterdir())
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=PATIENCE)[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_command_that_reads_a_model_answers_as_ever(fine_tune, tmp_path):
    run, file = fine_tune
    status, out, said = end(idim("export", run, "--out", tmp_path / "it.safetensors"))
    assert (status, said) == (0, "")
    assert out == f"{tmp_path / 'it.safetensors'}  {file.stat().st_size:,} bytes\n"
    assert (tmp_path / "it.safetensors").read_bytes() == file.read_bytes()
    status, out, said = end(idim("eval", tmp_path / "none.safetensors"))
    assert (status, out, said.count("\n")) == (2, "", 1)


def test_a_process_that_somebody_kills_over_the_inputs_is_tried_again(words, undisturbed, tmp_path):
    driver = idim(*words, f"output_dir={tmp_path}")
    until(lambda: workers(driver), "a worker")[0].kill()
    status, table, said = end(driver)
    assert status == 0, said
    assert table == undisturbed[1]


# --- the disk ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own of 2 MB, where root may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_and_invents_nothing(words, undisturbed, small_disk):
    out = small_disk / "out"
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2_060_000))
    status, _, said = end(idim(*words, f"output_dir={out}"))
    assert status == 2
    assert said.splitlines()[-1].startswith("idim: can't write ")
    assert said.count("No space left on device") == 1  # and no other run is tried
    assert "Traceback" not in said
    for name, record in results(out).items():  # those that still had room
        assert undisturbed[0][name][0] == record["metrics"]
    filler.unlink()
    status, table, said = end(idim(*words, f"output_dir={out}"))
    assert (status, table) == (0, undisturbed[1]), said
    assert same(out, undisturbed)


def test_a_folder_that_can_only_be_read(words, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    status, printed, said = end(idim(*words, f"output_dir={small_disk / 'out'}"))
    assert (status, printed) == (2, "")
    assert said.startswith("idim: output_dir=")
    assert "Read-only file system" in said
    assert said.count("\n") == 1


def test_what_is_finished_is_told_where_nothing_can_be_written(words, small_disk):
    run = ["run", *words[1:-2], "d=50", f"output_dir={small_disk / 'out'}"]
    study = [*words, "d=50", "baseline.run=false", f"output_dir={small_disk / 'out'}"]
    status, score, _ = end(idim(*run))
    assert status == 0
    status, table, _ = end(idim(*study))
    assert status == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert end(idim(*run)) == (0, score, "")
    assert end(idim(*study)) == (0, table, "1 of 1 runs are over already\n")


# --- torn, old and strangely dated files ------------------------------------------------------------------


@pytest.fixture
def finished(make_spec, tmp_path):
    """Two finished runs: their specs, store and results."""
    store = Store(tmp_path / "out")
    specs = [make_spec(d=50), make_spec(d=60)]
    assert sweep_here(specs, store) == []
    return specs, store, results(store.root)


def sweep_here(specs, store):
    """What `idim sweep` says of runs it did; a list of its lines."""
    from intrinsic_cli.study.launchers.inline import Inline
    from intrinsic_cli.study.sweep import sweep

    said = []
    assert sweep(specs, store, Inline(), said.append).failed == ()
    return [line for line in said if "failed" in line]


@pytest.mark.parametrize(
    "content", [b"", b'{"score": 0.', b"[]", b'{"score": "high"}', b"\xff\xfe", b'{"score": 1}']
)
def test_a_result_that_is_not_whole_or_of_an_older_format_is_done_again(finished, content):
    specs, store, before = finished
    path = store.run(specs[0]).path / "result.json"
    path.write_bytes(content)
    assert store.run(specs[0]).state is RunState.UNREADABLE
    status, _, said = end(idim("summarize", store.root))
    assert status == 0
    assert "1 of 2 runs can't be read" in said
    assert "result.json is " in said
    assert "run its sweep again" in said
    sweep_here(specs, store)
    after = results(store.root)
    assert [r["score"] for r in after.values()] == [r["score"] for r in before.values()]


def test_a_result_of_a_newer_format_is_refused_and_kept(finished):
    specs, store, before = finished
    path = store.run(specs[0]).path / "result.json"
    newer = json.dumps(before[specs[0].run_id] | {"format": 2}).encode()
    path.write_bytes(newer)
    with pytest.raises(StoreError, match="is of format 2 and this idim reads 1; use the idim that wrote it"):
        sweep_here(specs, store)
    assert path.read_bytes() == newer


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_result_that_can_not_be_read_is_not_done_again(finished):
    specs, store, _ = finished
    path = store.run(specs[0]).path / "result.json"
    path.chmod(0)
    with pytest.raises(StoreError, match="can't read"):
        sweep_here(specs, store)
    path.chmod(0o600)
    assert store.run(specs[0]).state == "done"


def test_a_torn_history_and_a_config_of_an_older_format_do_no_harm(finished):
    specs, store, before = finished
    folder = store.run(specs[0]).path
    (folder / "history.jsonl").write_text('{"step": 6, "lo')
    (folder / "config.json").write_text('{"old": "format"}')
    sweep_here(specs, store)
    assert results(store.root) == before
    status, printed, _ = end(idim("status", store.root))
    assert (status, printed.splitlines()[0]) == (0, "2 done, 0 running, 0 failed, 0 pending")


@pytest.mark.parametrize("when", [0, 2**33])
def test_the_clock_does_not_matter(finished, when):
    """Files dated 1970 or 2242 are the files they are."""
    specs, store, before = finished
    for path in store.root.rglob("*"):
        os.utime(path, (when, when))
    sweep_here(specs, store)
    assert results(store.root) == before


# --- two drivers ------------------------------------------------------------------------------------------


def test_two_drivers_share_one_folder(words, undisturbed, tmp_path):
    drivers = [idim(*words, f"output_dir={tmp_path}") for _ in range(2)]
    ended = [end(driver) for driver in drivers]
    assert [(status, table) for status, table, _ in ended] == [(0, undisturbed[1])] * 2
    assert same(tmp_path, undisturbed)
    assert all("failed" not in said for _, _, said in ended)


# --- status -----------------------------------------------------------------------------------------------


def test_status_tells_done_running_failed_and_pending_with_reasons_and_time(words, tmp_path):
    long = [*words, "train.max_steps=1000000", "d=50,100", "baseline.lr=1e30,1e-4"]
    driver = idim(*long, f"output_dir={tmp_path}")
    until(lambda: list(tmp_path.glob("*/error.json")) and training(tmp_path), "a failure and a run after it")
    status, printed, _ = end(idim("status", tmp_path))
    driver.kill()
    driver.communicate()
    assert status == 0
    first, *lines = printed.splitlines()
    states = {line.split()[1]: line.split()[0] for line in lines}
    assert sorted(states.values()) == ["failed", "pending", "pending", "running"]
    assert any(line.startswith("failed") and "try a smaller lr" in line for line in lines)
    assert first == "0 done, 1 running, 1 failed, 2 pending"


# --- a process that does not answer -----------------------------------------------------------------------


def test_a_worker_that_takes_no_step_is_killed_and_its_run_tried_again(words, undisturbed, tmp_path):
    driver = idim(*words, "launcher.timeout=30", f"output_dir={tmp_path}")
    until(lambda: training(tmp_path, lines=3), "training")
    [worker] = workers(driver)
    worker.suspend()
    status, table, said = end(driver)
    assert (status, table) == (0, undisturbed[1]), said
    assert not worker.is_running()
    assert same(tmp_path, undisturbed)
    assert sum(bool(r["resumed"]) for r in results(tmp_path).values()) == 1


def test_what_takes_longer_than_its_time_ends_with_the_reason(make_spec, tmp_path):
    """No process reads a model, or comes to a first step, in a tenth of a second."""
    store, doomed = Store(tmp_path), make_spec(d=50, max_steps=100_000)
    with pytest.raises(ModelError, match=r"it came to no end in launcher.timeout=0.1 s while it read them"):
        Local(retries=0, timeout=0.1).check([[doomed]], store, Stop())
    assert list(Local(retries=1, timeout=0.1).launch([doomed], store, Stop())) == [(doomed, "failed")]
    record = store.run(doomed).error()
    assert record["message"] == "its process was killed, no step for launcher.timeout=0.1 s"
    assert record["attempts"] == 2
    assert workers_here() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_driver_and_workers_that_do_not_answer(words, tmp_path, number):
    driver = idim(*words, "train.max_steps=1000000", "launcher.slots=2", f"output_dir={tmp_path}")
    until(lambda: len(training(tmp_path)) == 2, "training")
    stopped = workers(driver)
    try:
        for worker in stopped:
            worker.suspend()
        driver.send_signal(number)
        until(lambda: "once more leaves at once" in driver.stderr.readline(), "a word on it")
        with pytest.raises(subprocess.TimeoutExpired):
            driver.wait(stop_module.TOGETHER + 0.2)  # it waits for its workers
        driver.send_signal(number)
        assert driver.wait(PATIENCE) == 128 + number
        assert not any(worker.is_running() for worker in stopped)
    finally:
        for process in (*stopped, driver):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        driver.communicate()


ENDLESS = """
import hashlib
from intrinsic_cli.training.stop import on_signals
with on_signals():
    print("in", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


def test_a_second_signal_ends_a_process_whose_native_code_does_not_return():
    """Python hears of a signal between two of its own steps, and here is none for many minutes."""
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    for _ in range(2):
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(stop_module.TOGETHER + 0.2)
        process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    process.communicate()
