"""Whether a GPU computes the same P, and what P and a training step cost there, each figure beside its target.

    scripts/gpu-check [--only draws,products,kernel,step,curve,slots] [--json FILE]

Every section runs in a process of its own, and one that dies says so in the table and takes no other along.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from bench import show
from bench_kernel import Shapes
from figure import Figure

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.models.pretrained import load
from intrinsic_cli.projections import KINDS, draws, make_projection, versions
from intrinsic_cli.projections.contract import add_to_all, fold_all
from intrinsic_cli.spec import ModelSpec, ProjectionSpec, SubspaceSpec
from intrinsic_cli.subspace.attach import Full, Subspace

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
CPU = torch.device("cpu")
# Kernels that may compute P here beside torch's operations, the fastest first.
KERNELS = ("triton", "torch") if GPU else ("numba", "torch")


def seconds(action: Callable[[], Any], repeats: int) -> float:
    """The median time of an action, after one call to warm up."""
    action()
    if not GPU:
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            action()
            times.append(time.perf_counter() - began)
        return statistics.median(times)
    times = []
    for _ in range(repeats):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        action()
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) / 1e3)
    return statistics.median(times)


def draws_figures() -> Iterator[Figure]:
    """(a) The random numbers are the same bits as on the CPU."""
    differing = 0
    for key in (draws.key(seed, stream) for seed in (0, 7) for stream in range(1, 7)):
        counters = torch.arange(0, 1 << 16)
        differing += int((draws.words(key, counters.to(DEVICE)).cpu() != draws.words(key, counters)).sum())
        for draw in (draws.normals, draws.signs):
            differing += int((draw(key, 64, 4096, DEVICE).cpu() != draw(key, 64, 4096, CPU)).sum())
    yield Figure("draws that differ from the CPU's", differing, "", 0)


def products_figures() -> Iterator[Figure]:
    """(b) Every kernel's P is its definition's, its adjoint is exact, and two calls give the same bits."""
    shapes = [(1, 1), (384, 768), (3000, 100), (9_000, 5000), (40_000, 12_000)]
    for name in KERNELS:
        far = apart = moved = 0.0
        for kind in KINDS:
            for version in versions(kind):
                for D, d in shapes:
                    if kind in ("dense", "sparse") and D * d > 3e7:
                        continue
                    try:
                        P = make_projection(kind, shape=(D, d), seed=3, version=version, kernel=name)
                        theta = torch.randn(d, generator=torch.Generator().manual_seed(1))
                        v = torch.randn(D, generator=torch.Generator().manual_seed(2))
                        there, back = (P.matvec(theta.to(DEVICE)), P.rmatvec(v.to(DEVICE)))
                    except ConfigError as error:
                        if "no code for" in str(error):
                            continue
                        raise
                    Q = make_projection(kind, shape=(D, d), seed=3, version=version, kernel="torch")
                    expected = Q.matvec(theta.double())
                    far = max(far, float((there.cpu().double() - expected).norm() / expected.norm()))
                    left, right = there.cpu().double() @ v.double(), theta.double() @ back.cpu().double()
                    size = float(expected.norm() * v.double().norm())
                    apart = max(apart, abs(float(left - right)) / size)
                    moved += float((P.rmatvec(v.to(DEVICE)) != back).sum())
        yield Figure(f"{name}: ‖Pθ − P₆₄θ‖ ÷ ‖P₆₄θ‖, worst", far, "", 1e-5)
        yield Figure(f"{name}: |⟨Pθ, v⟩ − ⟨θ, Pᵀv⟩| ÷ lengths, worst", apart, "", 1e-6)
        yield Figure(f"{name}: numbers of Pᵀv that two calls disagree on", moved, "", 0)


def language_model(width: int, layers: int, vocabulary: int) -> Shapes:
    """The weights of a transformer encoder, tensor by tensor."""
    layer: Shapes = [(width, width), (width,)] * 4 + [(width,)] * 4
    layer += [(4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    return [(vocabulary, width), (512, width), *layer * layers]


def replayed(action: Callable[[], Any]) -> Callable[[], Any]:
    """The action as one graph of the device, whose launches cost the CPU nothing; without a GPU the action."""
    if not GPU:
        return action
    for _ in range(3):
        action()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay


def kernel_figures() -> Iterator[Figure]:
    """(c) P θ and Pᵀ g over a whole model ÷ an add (two reads, one write) and a read of as many numbers."""
    models = {
        "22M": (384, 6, 30_522), "125M": (768, 12, 50_265), "355M": (1024, 24, 50_265), "1.3B": (2048, 24, 50_265),
    } if GPU else {"2M": (128, 6, 6_000)}  # fmt: skip
    for label, (width, layers, vocabulary) in models.items():
        shapes = language_model(width, layers, vocabulary)
        dtype = torch.bfloat16 if label == "1.3B" else torch.float32
        passes = passes_seconds(sum(math.prod(shape) for shape in shapes), dtype)
        for d in (100, 1_000, 8_192, 100_000, 1_000_000) if GPU else (100, 8_192):
            for name in KERNELS if label in ("22M", "2M") else KERNELS[:1]:
                spent = kernel_seconds(shapes, d, name, dtype)
                target = None if name == "torch" or not GPU else 1.5 if d <= 8_192 else 2.5
                yield Figure(
                    f"kernel {name}, {label}, d = {d:,} ÷ (add + read)", sum(spent) / passes, "×", target
                )
                torch.cuda.empty_cache()
            if GPU and label == "125M":
                spent = kernel_seconds(shapes, d, "triton", dtype, "signs")
                yield Figure(
                    f"kernel triton, {label}, signs, d = {d:,} ÷ (add + read)", sum(spent) / passes, "×"
                )


def passes_seconds(numbers: int, dtype: torch.dtype) -> float:
    """Seconds of the yardstick, over one tensor."""
    one, other, out = (torch.randn(numbers, device=DEVICE, dtype=dtype) for _ in range(3))
    return seconds(replayed(lambda: (torch.add(one, other, out=out), other.sum())), 20)


def kernel_seconds(
    shapes: Shapes, d: int, name: str, dtype: torch.dtype, kind: str = "fastfood"
) -> list[float]:
    """Seconds of W ← W0 + Pθ and of Pᵀ g, on the device alone."""
    P = [make_projection(kind, shape=(*shape, d), seed=i, kernel=name) for i, shape in enumerate(shapes)]
    w0, w, grad = (
        [torch.randn(math.prod(shape), device=DEVICE, dtype=dtype) for shape in shapes] for _ in range(3)
    )
    ones = [1.0] * len(shapes)
    x = P[0].encode(torch.randn(d, device=DEVICE))
    z = P[0].accumulator(torch.float32, DEVICE)
    actions = (lambda: add_to_all(P, w0, x, ones, w)), (lambda: fold_all(P, grad, ones, z))
    return [seconds(replayed(action) if name == "triton" else action, 20) for action in actions]


def encoder(large: bool) -> torch.nn.Module:
    """A RoBERTa-shaped classifier of random weights; a tiny one without a GPU."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    if not GPU:
        sizes = {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 128,
        }
    elif large:
        sizes = {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        }
    else:
        sizes = {}
    config = RobertaConfig(vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1, **sizes)
    with DEVICE:
        return RobertaForSequenceClassification(config)


class Steps:
    """Training steps of 32 rows of 128 tokens, full or in a subspace of d = 1,000; `coarse`: of weights that
    bfloat16 holds exactly, as a checkpoint in it has."""

    def __init__(self, space: str, precision: str, large: bool, coarse: bool) -> None:
        before = torch.cuda.memory_allocated() if GPU else 0
        torch.manual_seed(0)
        self.model = encoder(large).train()
        if coarse:
            self.model.bfloat16().float()
        self.precision = precision
        dtype = torch.bfloat16 if precision == "pure_bf16" else None
        self.space: Full | Subspace
        if space == "full":
            self.space = Full(self.model, dtype)
            self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
                list(self.space.direct), lr=1e-5, fused=True
            )
        else:
            projection = ProjectionSpec(kernel=KERNELS[0])
            self.space = Subspace(self.model, SubspaceSpec(space), 1000, 0, projection, dtype=dtype)
            self.optimizer = torch.optim.Adam([self.space.theta], lr=1e-4, fused=True)
        rows, length = (32, 128) if GPU else (4, 16)
        self.ids = torch.randint(5, 50_000, (rows, length), device=DEVICE)
        self.mask, self.labels = torch.ones_like(self.ids), torch.arange(rows, device=DEVICE) % 2
        if GPU:
            torch.cuda.reset_peak_memory_stats()
        for _ in range(3):
            self()
        self.peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if GPU else None

    def __call__(self) -> None:
        self.space.write()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.model(input_ids=self.ids, attention_mask=self.mask, labels=self.labels).loss
        loss.backward()
        self.space.collect()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def several(self) -> float:
        """Seconds of a step: the mean of five."""
        return seconds(lambda: [self() for _ in range(5)], 1) / 5


def step_figures() -> Iterator[Figure]:
    """(d) and (e): a subspace step ÷ a full one, in pairs, and the memory of both."""
    for large in (False, True) if GPU else (False,):
        name = "RoBERTa-large" if large else "RoBERTa-base" if GPU else "tiny"
        for precision, coarse in (
            ("fp32", False),
            ("bf16", False),
            ("pure_bf16", False),
            ("pure_bf16", True),
        ):
            full, did = (Steps(space, precision, large, coarse) for space in ("full", "did"))
            kind = f"{name}, {precision}" + ", a bfloat16 checkpoint" * coarse
            pairs = [(full.several(), did.several()) for _ in range(7 if GPU else 2)]
            target = 1.02 if GPU else None
            ratio = statistics.median(b / a for a, b in pairs)
            yield Figure(f"step, {kind}: DID ÷ full", ratio, "×", target)
            yield Figure(f"step, {kind}: full", 1e3 * statistics.median(a for a, _ in pairs), "ms")
            for part, action in (("write", did.space.write), ("collect", did.space.collect)):
                yield Figure(f"step, {kind}: {part} alone", 1e3 * seconds(action, 10), "ms")
            if full.peak and did.peak:
                limit = 0.6 if precision == "pure_bf16" else None
                yield Figure(f"peak memory, {kind}: DID ÷ full", did.peak / full.peak, "×", limit)
                yield Figure(f"peak memory, {kind}: full", full.peak, "MiB")


def idim(*words: str, **environment: str) -> str:
    """Run a command; returns what it printed. Raises RuntimeError where it fails."""
    import os

    done = subprocess.run(
        [sys.executable, "-m", "intrinsic_cli", *words], capture_output=True, text=True,
        env=os.environ | environment,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def short_task(folder: Path, steps: int) -> list[str]:
    """Words of some steps on two easy classes of a tiny model without dropout, whose draws are the device's own."""
    loaded = load(ModelSpec("tiny"), 2)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(loaded.model.config, name, 0.0)
    for part in (loaded.model, loaded.tokenizer):
        part.save_pretrained(folder / "model")
    rows = [
        {"text": f"{'soft quiet rain' if i % 2 else 'loud wild storm'} number {i}", "label": i % 2}
        for i in range(400)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [f"model.name={folder / 'model'}", f"task={folder / 'rows.jsonl'}", "data.max_length=16",
            "train.precision=fp32", f"train.max_steps={steps}"]  # fmt: skip


def curve_figures() -> Iterator[Figure]:
    """(f) One run from one seed on the CPU and on the device: how far apart θ ends."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as place:
        folder, thetas = Path(place), []
        words = short_task(folder, 60)
        for name, hidden in (("cpu", ""), ("device", None)):
            environment = {} if hidden is None else {"CUDA_VISIBLE_DEVICES": hidden}
            idim("run", *words, "d=200", f"output_dir={folder / name}", **environment)
            [path] = (folder / name).rglob("theta.safetensors")
            thetas.append(load_file(path)["theta"])
    apart = (thetas[0] - thetas[1]).norm() / thetas[0].norm()
    yield Figure("θ after 60 steps: ‖CPU − device‖ ÷ ‖CPU‖", float(apart), "", 0.05)


def slots_figures() -> Iterator[Figure]:
    """(g) Two slots on one device: wall time of four runs ÷ that with one slot."""
    with tempfile.TemporaryDirectory() as place:
        folder, spent = Path(place), []
        words = [*short_task(folder, 1000 if GPU else 100), "d=100,200", "seed=0,1", "baseline.run=false"]
        for slots in (1, 2):
            began = time.perf_counter()
            idim("sweep", *words, f"launcher.slots={slots}", f"output_dir={folder / str(slots)}")
            spent.append(time.perf_counter() - began)
    yield Figure("four runs, two slots ÷ one", spent[1] / spent[0], "×", None)


SECTIONS: dict[str, Callable[[], Iterator[Figure]]] = {
    "draws": draws_figures, "products": products_figures, "kernel": kernel_figures, "step": step_figures,
    "curve": curve_figures, "slots": slots_figures,
}  # fmt: skip


def measured(name: str) -> tuple[list[Figure], str]:
    """A section's figures, and why it ended early where it did."""
    found: list[Figure] = []
    try:
        for figure in SECTIONS[name]():
            found.append(figure)
            print(f"{figure.name}: {figure.value:.4g} {figure.unit}", file=sys.stderr, flush=True)
    except Exception as error:
        return found, f"{type(error).__name__}: {error}"
    return found, ""


def main() -> int:
    """Run the sections; exit status 1 where one died or a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="SECTION,...", default=",".join(SECTIONS))
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := sorted(set(names) - set(SECTIONS)):
        parser.error(f"--only: no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    figures: list[Figure] = []
    broken = {}
    for name in names:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                found, why = pool.submit(measured, name).result()
            except BrokenProcessPool:
                found, why = [], "its process died"
        figures += found
        if why:
            broken[name] = why
    card = torch.cuda.get_device_name() if GPU else "no GPU; the CPU, smaller"
    print(f"{card}; torch {torch.__version__}")
    show(figures)
    for name, why in broken.items():
        print(f"{name} ended early: {why}")
    if arguments.json:
        tree = {
            "device": card,
            "torch": torch.__version__,
            "figures": [asdict(f) for f in figures],
            "broken": broken,
        }
        arguments.json.write_text(json.dumps(tree, indent=1, allow_nan=False))
    return int(
        bool(broken) or any(figure.ok is False for figure in figures if GPU or figure.target is not None)
    )


if __name__ == "__main__":
    sys.exit(main())
