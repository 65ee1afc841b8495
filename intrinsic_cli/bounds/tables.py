"""Bounds as records for scripts and as tables for people, with what they rest on spelled out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from intrinsic_cli.bounds.measure import Bounded
from intrinsic_cli.bounds.theory import trend
from intrinsic_cli.render import Answer, Table

HEADER = (
    "model", "task", "subspace", "d", "K", "bits", "train error", "bound", "majority", "", "validation error",
    "gap", "d90", "√(d/m)",
)  # fmt: skip


def answer(rows: Sequence[Bounded]) -> Answer:
    """What `idim bound` says."""
    kinds = [bound.kind for bound in rows[0].bounds]
    risks = [[str(row.spec.d), str(row.levels), *(f"{b.risk:.4f}" for b in row.bounds)] for row in rows]
    names = [*rows[0].description.bits, "search", "total"]
    sizes = []
    for row in rows:
        bits = [*row.description.bits.values(), sum(row.search.values())]
        sizes.append([str(row.spec.d), str(row.levels), *(f"{b:g}" for b in (*bits, sum(bits)))])
    blocks = [
        Table(HEADER, [_cells(row) for row in rows], keys=5),
        Table(["d", "K", *kinds], risks, "Other bounds on the same bits:", keys=2),
        Table(["d", "K", *names], sizes, "Bits, all that a decoder needs:", keys=2),
    ]
    return Answer(blocks, notes(rows), [record(row) for row in rows])


def record(row: Bounded) -> dict[str, Any]:
    """One flat record; None where there is no number."""
    spec = row.spec
    return {
        "run_id": row.run_id, "model": spec.model.label, "task": spec.task.name, "subspace": spec.subspace.kind,
        "d": spec.d, "seed": spec.seed, "K": row.levels, "n": row.n, "errors": row.errors,
        "train_error": row.errors / row.n, "validation_error": row.errors_eval / row.n_eval,
        "majority_error": row.majority_error, "bits": row.best.bits,
        **{f"bits_{name}": bits for name, bits in row.description.bits.items()},
        "bits_search": sum(row.search.values()), "delta": row.best.delta,
        **{bound.kind: bound.risk for bound in row.bounds},
        "vacuous": row.best.vacuous, "relative_gap": row.gap, "d90": row.d90,
        "trend": trend(spec.d or 0, row.n), "screened": json.dumps(row.screened),
    }  # fmt: skip


def _cells(row: Bounded) -> list[str]:
    spec, gap = row.spec, row.gap
    return [
        spec.model.label, spec.task.name, spec.subspace.kind.upper(), str(spec.d), str(row.levels),
        f"{row.best.bits:,.0f}", f"{row.errors / row.n:.4f}", f"{row.best.risk:.4f}",
        f"{row.majority_error:.4f}", "vacuous" if row.best.vacuous else "",
        f"{row.errors_eval / row.n_eval:.4f}", "—" if gap is None else f"{gap:+.3f}",
        "—" if row.d90 is None else f"{row.d90:,}", f"{trend(spec.d or 0, row.n):.3f}",
    ]  # fmt: skip


def notes(rows: Sequence[Bounded]) -> list[str]:
    """What a reader of the tables has to know, a line each."""
    delta = rows[0].best.delta
    lines = [
        f"bound: with probability at least {1 - delta:g} over the draw of the training rows, the decoded model's "
        "true error rate is at most this (exact binomial tail), for all rows of one data set at once.",
        "It assumes independent training rows. A bound that does not beat the majority class's error is vacuous.",
        "Union bound: P's kind, version and seed (the head's too), DID or SAID, normalisation, groups, head, "
        "precision, d and K are all written in the message (choices, d, codebook), so every value of each is "
        "paid for, tried or not. Learning rates, epochs and other choices of training cost nothing: no decoder "
        "needs them, so the bound holds for whatever they lead to.",
    ]
    for search in {tuple(row.search.items()) for row in rows if row.search}:
        told = ", ".join(f"{round(2**bits)} of {name} ({bits:.2f} bits)" for name, bits in search)
        lines.append(f"Tried on the same rows and paid for under `search`: {told}.")
    lines.append("gap: (train − validation) / (1 − validation) of the decoded model's accuracies.")
    lines.append("√(d/m): the paper's trend for m training rows, without its constants; no bound.")
    return lines
