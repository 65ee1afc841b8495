"""Where runs are trained: in this process, in subprocesses of this machine, on Slurm or on Ray."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from intrinsic_cli.errors import ConfigError, to_install
from intrinsic_cli.study.launchers.base import Launcher

KINDS = {"inline": "Inline", "local": "Local", "slurm": "Slurm", "ray": "Ray"}
NEEDS = {"slurm": "submitit", "ray": "ray"}  # packages that not everybody has


def make_launcher(kind: str, **options: Any) -> Launcher:
    """The launcher of `kind`. Raises ConfigError at a kind or an option value that can't be used."""
    if kind not in KINDS:
        raise ConfigError(f"launcher={kind} is not known; use one of {', '.join(KINDS)}")
    if kind in NEEDS and find_spec(NEEDS[kind]) is None:
        raise ConfigError(f"launcher={kind} needs the package {NEEDS[kind]}; {to_install(kind)}")
    return getattr(import_module(f"{__name__}.{kind}"), KINDS[kind])(**options)
