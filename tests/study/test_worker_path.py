"""A worker imports the idim of its driver, and no file of the working folder."""

import json
import os
import subprocess
import sys

import pytest

from intrinsic_cli.study.launchers.local import _environment
from intrinsic_cli.study.launchers.process import same_code


@pytest.mark.long
@pytest.mark.parametrize(
    "stated", [os.environ.get("PYTHONPATH", ""), ":/nowhere", "/nowhere::", ".", "./:/nowhere"]
)
def test_no_file_of_the_working_folder_is_a_module(tmp_path, monkeypatch, stated):
    for name in ("random", "datasets", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the working folder was run')")
    words = [sys.executable, "-m", "intrinsic_cli.study.worker", str(tmp_path / "out")]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env=same_code({**os.environ, "PYTHONPATH": stated}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.long
def test_a_driver_that_is_gone_when_its_worker_answers_is_no_traceback(make_spec, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "intrinsic_cli.study.worker", str(tmp_path / "out")], env=same_code(os.environ),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()
    process.stdin.write(json.dumps({"check": [make_spec().to_dict()]}) + "\n")
    process.stdin.flush()
    assert process.wait() == 0
    assert process.stderr.read() == ""
    process.stdin.close()


@pytest.mark.parametrize("stated", ["garbage", "4,2", "", "0", "-1", "1e9"])
def test_any_number_of_threads_that_the_environment_states(monkeypatch, stated):
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert int(_environment(0, 2, [])["OMP_NUM_THREADS"]) == (
        2 if stated == "4,2" else max(1, len(os.sched_getaffinity(0)) // 2)
    )
