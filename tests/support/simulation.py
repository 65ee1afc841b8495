"""`scripts/simulate_d90.py` as a module: studies whose true d_t is known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _load():
    path = Path(__file__).parents[2] / "scripts" / "simulate_d90.py"
    spec = importlib.util.spec_from_file_location("simulate_d90", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


simulation = _load()
