"""A worker imports the idim of its driver, and no file of the working folder."""

import os
import subprocess
import sys

from intrinsic_cli.study.launchers.local import same_code


def test_no_file_of_the_working_folder_is_a_module(tmp_path, monkeypatch):
    for name in ("random", "datasets", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the working folder was run')")
    words = [sys.executable, "-m", "intrinsic_cli.study.worker", str(tmp_path / "out")]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env=same_code(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
