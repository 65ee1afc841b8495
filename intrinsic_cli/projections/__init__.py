"""Random projections P of shape (D, d), named like SciPy's linear operators: `matvec`, `rmatvec`.

Every kind keeps one contract (`base.Projection`): P is a function of (kind, version, seed, shape) and of
nothing else, every entry has variance 1/D, so that E‖Pθ‖² = ‖θ‖², and `rmatvec` is the exact adjoint of
`matvec`. To add a kind, write its class in a module of its own and name it in `_CLASSES`.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

from intrinsic_cli.errors import ConfigError

if TYPE_CHECKING:
    from intrinsic_cli.projections.contract import Projection

# Imported when first built: torch and numba take seconds that `idim --help` does not have.
_CLASSES = {"fastfood": "Fastfood", "sorf": "Sorf", "dense": "Dense", "sparse": "Sparse"}
KINDS = tuple(_CLASSES)


def make_projection(
    kind: str, *, shape: tuple[int, int], seed: int, cache: str = "auto", version: int | None = None
) -> Projection:
    """The random matrix P of `shape` (D, d) that `seed` (0 to 2⁶⁴ − 1) picks, in the newest draw or `version`.

    `cache` says whether random numbers are kept between uses (`store`, at most 2 bytes per row of P) or
    drawn anew each time (`regenerate`, nothing kept); both give the same bits. `auto` is `store`.
    Raises ConfigError for an unknown kind, cache or version, d < 1, D < 1, or a seed out of range.
    """
    return _class(kind)(shape, seed, cache, version)


def versions(kind: str) -> tuple[int, ...]:
    """The draw versions of P that can be made, the newest last. Raises ConfigError for an unknown kind."""
    return _class(kind).versions


def _class(kind: str) -> type[Projection]:
    if kind not in _CLASSES:
        near = difflib.get_close_matches(str(kind), KINDS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"projection={kind!r} is not known; {hint}use one of {', '.join(KINDS)}")
    return getattr(import_module(f"{__name__}.{kind}"), _CLASSES[kind])
