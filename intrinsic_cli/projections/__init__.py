"""Random projections P of shape (D, d), named like SciPy's linear operators: `matvec`, `rmatvec`.

Every kind keeps one contract (`contract.Projection`): P is a function of (kind, version, seed, shape) and of
nothing else, every entry has variance 1/D, so that E‖Pθ‖² = ‖θ‖², and `rmatvec` is the exact adjoint of
`matvec`. To add a kind, write its class in a module of its own and name it in `_CLASSES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from intrinsic_cli.registry import Registry

if TYPE_CHECKING:
    from intrinsic_cli.projections.contract import Projection

# Imported when first built: torch and numba take seconds that `idim --help` does not have.
_CLASSES = Registry(
    "projection",
    {
        "fastfood": "intrinsic_cli.projections.fastfood:Fastfood",
        "sorf": "intrinsic_cli.projections.sorf:Sorf",
        "dense": "intrinsic_cli.projections.dense:Dense",
        "sparse": "intrinsic_cli.projections.sparse:Sparse",
        "signs": "intrinsic_cli.projections.signs:Signs",
    },
)
KINDS = tuple(_CLASSES)


def make_projection(
    kind: str,
    *,
    shape: tuple[int, ...],
    seed: int,
    cache: str = "auto",
    version: int | None = None,
    kernel: str = "auto",
) -> Projection:
    """The random matrix P that `seed` (0 to 2⁶⁴ − 1) picks, in the newest draw or `version`.

    `shape` is that of the tensor which P moves, and d behind it: (D, d), or (768, 3072, d) for a matrix.
    `cache` says whether random numbers are kept between uses (`store`, at most 2 bytes per row of P) or
    drawn anew each time (`regenerate`, nothing kept); both give the same bits. `auto` is `store`.
    `kernel` is what computes the products with P: `numba`, `torch` or `triton`; `auto` is numba on a CPU and
    triton on CUDA, where they work, and else torch.
    Raises ConfigError for an unknown kind, cache, version or kernel, d < 1, D < 1, or a seed out of range.
    """
    return _CLASSES[kind](shape, seed, cache, version, kernel)


def versions(kind: str) -> tuple[int, ...]:
    """The draw versions of P that can be made, the newest last. Raises ConfigError for an unknown kind."""
    return _CLASSES[kind].versions
