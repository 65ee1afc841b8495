"""Measure the intrinsic dimension of fine-tuning a language model.

The public names, each loaded when first used: `import intrinsic_cli` alone stays cheap.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "IdimError": "errors",
    "RunSpec": "spec",
    "SubspaceSpec": "spec",
    "ProjectionSpec": "spec",
    "make_projection": "projections",
    "Subspace": "subspace.attach",
    "Store": "store",
    "FineTune": "finetunes.file",
    "combine": "finetunes.file",
    "load": "finetunes.rebuild",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES[name]}")
    globals()[name] = value = getattr(module, name)
    return value
