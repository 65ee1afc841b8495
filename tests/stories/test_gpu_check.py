"""scripts/gpu-check on this machine, whatever it has: it must not rot between two machines with a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_measures_what_it_names(tmp_path):
    done = subprocess.run(
        [ROOT / "scripts" / "gpu-check", "--only", "draws,step,curve", "--json", tmp_path / "told.json"],
        capture_output=True, text=True, env=os.environ | {"PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["broken"] == {}
    figures = {figure["name"]: figure["value"] for figure in told["figures"]}
    assert figures["draws that differ from the CPU's"] == 0
    assert sum("DID ÷ full" in name and name.startswith("step") for name in figures) in (4, 8)
    assert all(name in done.stdout for name in figures)


def test_an_unknown_section_is_refused():
    done = subprocess.run(
        [ROOT / "scripts" / "gpu-check", "--only", "nix"], capture_output=True, text=True,
        env=os.environ | {"PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no section nix" in done.stderr
