"""What is recorded of a machine, also where it tells little."""

import json

import pytest

from intrinsic_cli.training import environment as module


@pytest.mark.parametrize("kind", ["missing", "forbidden", "empty"])
def test_a_machine_without_proc_costs_no_score(monkeypatch, tmp_path, kind):
    proc = tmp_path / "proc"
    if kind != "missing":
        (proc / "self").mkdir(parents=True)
        for name in ("self/status", "self/clear_refs", "cpuinfo"):
            if kind == "forbidden":
                (proc / name).mkdir()  # root may read any file, and no folder as one
            else:
                (proc / name).write_text("")
    monkeypatch.setattr(module, "PROC", proc)
    module.reset_peak_memory()
    assert 10 < module.peak_memory_mb("cpu") < 10**6  # of a Python with torch
    found = module.environment.__wrapped__()
    assert found["processor"]
    json.dumps(found, allow_nan=False)


def test_a_library_that_does_not_say_its_version_costs_no_score(monkeypatch):
    monkeypatch.setattr(module, "LIBRARIES", ("torch", "no-such-library"))
    found = module.environment.__wrapped__()
    assert found["torch"]
    assert found["no-such-library"] is None
