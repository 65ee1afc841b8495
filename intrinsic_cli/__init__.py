"""Measure the intrinsic dimension of fine-tuning a language model.

The public names, each loaded when first used: `import intrinsic_cli` alone stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intrinsic_cli.errors import IdimError
    from intrinsic_cli.finetunes.arithmetic import combine
    from intrinsic_cli.finetunes.file import FineTune
    from intrinsic_cli.finetunes.rebuild import load
    from intrinsic_cli.projections import make_projection
    from intrinsic_cli.reports.frames import d90, results, summarize
    from intrinsic_cli.result import RunResult
    from intrinsic_cli.spec import ProjectionSpec, RunSpec, SubspaceSpec
    from intrinsic_cli.statistics.estimate import Estimate
    from intrinsic_cli.statistics.points import Point
    from intrinsic_cli.store import Store
    from intrinsic_cli.subspace.attach import Subspace

__version__ = "0.1.0"

_HOMES = {
    "Estimate": "statistics.estimate",
    "FineTune": "finetunes.file",
    "IdimError": "errors",
    "Point": "statistics.points",
    "ProjectionSpec": "spec",
    "RunResult": "result",
    "RunSpec": "spec",
    "Store": "store",
    "Subspace": "subspace.attach",
    "SubspaceSpec": "spec",
    "combine": "finetunes.arithmetic",
    "d90": "reports.frames",
    "load": "finetunes.rebuild",
    "make_projection": "projections",
    "results": "reports.frames",
    "summarize": "reports.frames",
}
__all__ = [
    "Estimate",
    "FineTune",
    "IdimError",
    "Point",
    "ProjectionSpec",
    "RunResult",
    "RunSpec",
    "Store",
    "Subspace",
    "SubspaceSpec",
    "__version__",
    "combine",
    "d90",
    "load",
    "make_projection",
    "results",
    "summarize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES[name]}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return __all__
