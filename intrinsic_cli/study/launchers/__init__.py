"""Where runs are trained: in this process, in subprocesses of this machine, on Slurm or on Ray."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from intrinsic_cli.errors import ConfigError, to_install
from intrinsic_cli.registry import Registry
from intrinsic_cli.study.launchers.base import Launcher

KINDS = Registry(
    "launcher",
    {
        "inline": "intrinsic_cli.study.launchers.inline:Inline",
        "local": "intrinsic_cli.study.launchers.local:Local",
        "slurm": "intrinsic_cli.study.launchers.slurm:Slurm",
        "ray": "intrinsic_cli.study.launchers.ray:Ray",
    },
)
NEEDS = {"slurm": "submitit", "ray": "ray"}  # packages that not everybody has


def make_launcher(kind: str, **options: Any) -> Launcher:
    """The launcher of `kind`. Raises ConfigError at a kind or an option value that can't be used."""
    if kind in NEEDS and find_spec(NEEDS[kind]) is None:
        raise ConfigError(f"launcher={kind} needs the package {NEEDS[kind]}; {to_install(kind)}")
    return KINDS[kind](**options)
