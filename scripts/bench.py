"""Measure what the project promises about speed and memory, and print every figure beside its target.

    scripts/bench [--quick] [--only kernel,step-fp32,...] [--package CLONE] [--json FILE]

Ratios of paired runs, medians. --quick ends in about two minutes and is rough. Run it on a quiet machine.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import bench_kernel
import bench_training
from figure import Figure
from tabulate import tabulate

SECTIONS = {
    "kernel": bench_kernel.figures,
    "step-fp32": partial(bench_training.step_figures, precision="fp32"),
    "step-bf16": partial(bench_training.step_figures, precision="bf16"),
    "step-pure_bf16": partial(bench_training.step_figures, precision="pure_bf16"),
    "adapters": bench_training.adapter_figures,
    "memory": bench_training.memory_figures,
    "run": bench_training.run_memory_figures,
    "sweep": bench_training.sweep_figures,
    "trainer": bench_training.trainer_figures,
}

LONG = {"step-pure_bf16", "run", "sweep"}  # only whole, or where they are named


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller sizes")
    parser.add_argument("--only", help="sections, of: " + ", ".join(SECTIONS))
    parser.add_argument(
        "--package", metavar="CLONE", type=Path,
        help="a clone of github.com/jgamper/intrinsic-dimensionality: adds the section `package`, which times it",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="also write the figures as a list of records")
    arguments = parser.parse_args()
    sections = dict(SECTIONS)
    if arguments.package:
        sections["package"] = partial(bench_kernel.package_figures, folder=arguments.package)
    names = arguments.only.split(",") if arguments.only else [*sections]
    if unknown := sorted(set(names) - set(sections)):
        parser.error(f"--only: no section {', '.join(unknown)}; there are {', '.join(sections)}")
    if arguments.quick and not arguments.only:
        names = [name for name in names if name not in LONG]
    figures: list[Figure] = []
    # A process for each: what one leaves of its heap decides how much of the next one's memory is new.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        try:
            for name in names:
                print(f"measuring: {name}", file=sys.stderr, flush=True)
                figures += pool.submit(sections[name], arguments.quick).result()
        finally:  # a section that dies takes no other's figures along
            show(figures)
    if arguments.json:
        records = [{"name": f.name, "value": f.value, "target": f.target, "ok": f.ok} for f in figures]
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(records, file, indent=1, allow_nan=False)
    return 0


def show(figures: list[Figure]) -> None:
    """Print the table."""
    rows = [
        (f.name, f"{f.value:.3g} {f.unit}", "" if f.target is None else f"≤ {f.target:g}",
         {None: "", True: "yes", False: "NO"}[f.ok])
        for f in figures
    ]  # fmt: skip
    print(tabulate(rows, ["figure", "measured", "target", "met"], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    sys.exit(main())
