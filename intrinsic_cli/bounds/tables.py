"""Bounds as records for scripts and as tables for people, with what they rest on spelled out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from intrinsic_cli.bounds.bounded import Bounded, Sample
from intrinsic_cli.bounds.theory import trend
from intrinsic_cli.render import Answer, Table
from intrinsic_cli.result import RunBound

HEADER = (
    "model", "task", "subspace", "d", "K", "bits", "train error", "bound", "majority", "", "validation error",
    "yardstick", "seen", "gap", "d90", "√(d/m)",
)  # fmt: skip


def answer(rows: Sequence[Bounded]) -> Answer:
    """What `idim bound` says."""
    tables = [_others(rows), _groups(rows), _gaussian(rows), _kinds(rows), _bits(rows)]
    blocks = [
        Table(HEADER, [_cells(row) for row in rows], keys=5),
        *(table for table in tables if table.rows),
    ]
    return Answer(blocks, notes(rows), [record(row) for row in rows])


def _table(title: str, header: Sequence[str], body: Sequence[tuple[Bounded, list[str]]]) -> Table:
    """A table whose rows name their run by d and K."""
    cells = [[str(row.spec.d), str(row.levels), *rest] for row, rest in body]
    return Table(["d", "K", *header], cells, f"{title}:", keys=2)


def _others(rows: Sequence[Bounded]) -> Table:
    body = [
        (row, [f"{s.n:,}", f"{s.rate:.4f}", str(row.runs), f"{s.risk:.4f}"])
        for row in rows
        if (s := row.others) is not None
    ]
    return _table("Prior from the rows trained on", ["other rows", "error", "runs", "bound"], body)


def _groups(rows: Sequence[Bounded]) -> Table:
    body = []
    for row in rows:
        for name, sample in (("training", row.train), ("validation", row.yardstick)):
            if sample is not None and sample.grouped is not None:
                counts = [f"{sample.n:,}", f"{sample.groups:,}", f"{sample.effective:,.0f}"]
                body.append((row, [name, *counts, f"{sample.rate:.4f}", f"{sample.grouped:.4f}"]))
    return _table("Rows in groups", ["rows of", "rows", "groups", "weigh as", "error", "bound"], body)


def _gaussian(rows: Sequence[Bounded]) -> Table:
    body = [
        (row, [f"{g.noise:g}", f"{g.bits:,.0f}", f"{g.errors / row.train.n:.4f}", f"{g.risk:.4f}"])
        for row in rows
        if (g := row.gaussian) is not None
    ]
    return _table("One draw from a Gaussian posterior", ["D", "bits", "train error", "bound"], body)


def _kinds(rows: Sequence[Bounded]) -> Table:
    body = [(row, [f"{bound.risk:.4f}" for bound in row.bounds]) for row in rows]
    return _table("Other bounds on the same bits", [bound.kind for bound in rows[0].bounds], body)


def _bits(rows: Sequence[Bounded]) -> Table:
    names = [*rows[0].description.bits, "search", "total"]
    body = []
    for row in rows:
        bits = [*row.description.bits.values(), sum(row.search.values())]
        body.append((row, [f"{b:g}" for b in (*bits, sum(bits))]))
    return _table("Bits, all that a decoder needs", names, body)


def record(row: Bounded) -> dict[str, Any]:
    """One flat record; None where there is no number."""
    spec, drawn = row.spec, row.gaussian
    return {
        "run_id": row.run_id, "model": spec.model.label, "task": spec.task.title, "subspace": spec.subspace.kind,
        "d": spec.d, "seed": spec.seed, "K": row.levels, "n": row.train.n, "errors": row.train.errors,
        "train_error": row.train.rate, "validation_error": row.validation.rate,
        "majority_error": row.majority_error, "bits": row.best.bits,
        **{f"bits_{name}": bits for name, bits in row.description.bits.items()},
        "bits_search": sum(row.search.values()), "delta": row.best.delta,
        **{bound.kind: bound.risk for bound in row.bounds},
        "vacuous": row.best.vacuous, "valid": row.valid, "base_model_saw_task": row.seen[0],
        "yardstick": row.yardstick and row.yardstick.risk,
        **_sample("train", row.train), **_sample("validation", row.validation),
        "other_rows": None if row.others is None else row.others.n,
        "other_rows_error": None if row.others is None else row.others.rate,
        "prior_from_training_rows": None if row.others is None else row.others.risk,
        "gaussian_D": drawn and drawn.noise, "gaussian_bits": drawn and drawn.bits,
        "gaussian_errors": drawn and drawn.errors, "gaussian": drawn and drawn.risk,
        "relative_gap": row.gap, "d90": row.d90, "trend": trend(spec.d or 0, row.train.n),
        "screened": json.dumps(row.screened),
    }  # fmt: skip


def kept(row: Bounded) -> RunBound:
    """What stays beside the run."""
    return RunBound(row.best.risk, row.best.delta, row.levels, row.best.bits, row.valid)


def _sample(name: str, sample: Sample) -> dict[str, Any]:
    return {
        f"{name}_groups": sample.groups, f"{name}_grouped": sample.grouped, f"{name}_repeats": sample.repeats,
    }  # fmt: skip


def _cells(row: Bounded) -> list[str]:
    spec, gap = row.spec, row.gap
    mark = "vacuous" if row.best.vacuous else ""
    return [
        spec.model.label, spec.task.title, spec.subspace.kind.upper(), str(spec.d), str(row.levels),
        f"{row.best.bits:,.0f}", f"{row.train.rate:.4f}", f"{row.best.risk:.4f}",
        f"{row.majority_error:.4f}", mark if row.valid else "invalid",
        f"{row.validation.rate:.4f}", "—" if row.yardstick is None else f"{row.yardstick.risk:.4f}", row.seen[0],
        "—" if gap is None else f"{gap:+.3f}", "—" if row.d90 is None else f"{row.d90:,}",
        f"{trend(spec.d or 0, row.train.n):.3f}",
    ]  # fmt: skip


def notes(rows: Sequence[Bounded]) -> list[str]:
    """What a reader of the tables has to know, a line each."""
    sure = f"{1 - rows[0].best.delta:g}"
    lines = [
        f"bound: with probability at least {sure} over the draw of the training rows, the decoded model's "
        "true error rate is at most this (exact binomial tail), for all lines of one data set at once. Each column "
        "and each table below has such a probability of its own.",
        "It assumes independent training rows, and base models, texts and words that were fixed before a label was "
        "looked at: each that is tried later adds to `search`, in a folder of its own too. A bound that does not "
        "beat the majority class's error is vacuous.",
        "Union bound: P's kind, version and seed (the head's too), DID or SAID, normalisation, groups, head, "
        "precision, d and K are all written in the message (choices, d, codebook), so every value of each is "
        "paid for, tried or not. Learning rates, epochs and other choices of training cost nothing: no decoder "
        "needs them, so the bound holds for whatever they lead to.",
    ]
    lines += _doubts(rows)
    for search in {tuple(row.search.items()) for row in rows if row.search}:
        told = ", ".join(f"{round(2**bits)} of {name} ({bits:.2f} bits)" for name, bits in search)
        lines.append(f"Tried on the same rows and paid for under `search`: {told}.")
    lines.append(
        "yardstick: Clopper and Pearson's bound on the validation rows, for one run named beforehand and if "
        "nothing was chosen by these rows; none where train.patience was."
    )
    for model, (answer, source) in sorted({(row.spec.model.label, row.seen) for row in rows}):
        lines.append(
            f"seen: was {model} trained on the task's rows before? {answer}: {source}." + _verdict(answer)
        )
    if any(row.others for row in rows):
        lines.append(
            "Prior from the rows trained on: no bits for θ, log2 of the number of runs; if the other rows are "
            "independent of the rows trained on."
        )
    if any(row.train.grouped is not None for row in rows):
        lines.append(
            "Rows in groups: groups are independent and rows within them need not be. By texts, rows of one text "
            "are a group; by phrases, each row that is no phrase of a longer one is one, with room for every row "
            "that could be its phrase. The rate bounded is the mean over rows; training rows pay the bits, "
            "validation rows as the yardstick."
        )
    if any(row.gaussian for row in rows):
        lines.append(
            f"Gaussian: with probability {sure} over rows and draw, for the model drawn. bits: log2 of the density "
            "ratio, the choices, the sizes, and the number of runs."
        )
    lines.append("gap: (train − validation) / (1 − validation) of the decoded model's accuracies.")
    lines.append("√(d/m): the paper's trend for m training rows, without its constants; no bound.")
    return lines


def _doubts(rows: Sequence[Bounded]) -> list[str]:
    """What these runs' rows have against them."""
    lines = [
        f"Repeated rows: {repeats:,} of {n:,} training rows have the text of an earlier one, so rows are not "
        "independent; --groups texts bounds them as groups."
        for repeats, n in sorted({(row.train.repeats, row.train.n) for row in rows})
        if repeats
    ]
    held_out = {("validation", row.validation) for row in rows} | {("other", row.others) for row in rows}
    lines += [
        f"Rows seen: {trained:,} of {n:,} {name} rows have the text of a training row, which flatters their bound."
        for name, n, trained in sorted({(name, s.n, s.trained) for name, s in held_out if s is not None})
        if trained
    ]
    if any(row.spec.data.permute_labels is not None for row in rows):
        lines.append(
            "Permuted labels: where data.permute_labels is set, the bound is of the labels trained on, and "
            "validation rows have their own."
        )
    return lines


def _verdict(answer: str) -> str:
    return {"yes": " So its bounds are invalid.", "unknown": " Its bounds hold if it was not."}.get(
        answer, ""
    )
