"""The d90s that the paper reports, to stand beside a user's own."""

from __future__ import annotations

from collections.abc import Iterator

Column = tuple[str, str, str]  # of a table: task, subspace, variant

REFERENCES = ("paper",)
PAPER = "Aghajanyan et al. 2021 (arXiv 2012.13255), Table 1"
CELLS = (("mrpc", "said"), ("qqp", "said"), ("mrpc", "did"), ("qqp", "did"))
D90S = {
    "BERT-Base": (1608, 8030, 1861, 9295),
    "BERT-Large": (1037, 1200, 2493, 1389),
    "RoBERTa-Base": (896, 896, 1000, 1389),
    "RoBERTa-Large": (207, 774, 322, 774),
}


def d90s() -> Iterator[tuple[str, str, str, int]]:
    """(model, task, subspace, d90) of every cell; models are marked (paper)."""
    for model, row in D90S.items():
        for (task, kind), d90 in zip(CELLS, row, strict=True):
            yield f"{model} (paper)", task, kind, d90


def beside_paper(cells: dict[str, dict[Column, str]], labels: dict[str, str]) -> dict[str, dict[Column, str]]:
    """The rows with the paper's row after the last one of the same model, and its other models at the end."""
    match = {row: next((m for m in D90S if _is(labels[row], m)), None) for row in cells}
    merged: dict[str, dict[Column, str]] = {}
    left = dict(D90S)
    rows = list(cells)
    for i, row in enumerate(rows):
        merged[row] = cells[row]
        model = match[row]
        if model and model not in (match[r] for r in rows[i + 1 :]):
            merged[f"{model} (paper)"] = _paper_row(left.pop(model))
    return merged | {f"{model} (paper)": _paper_row(row) for model, row in left.items()}


def _is(label: str, model: str) -> bool:
    return label.lower() in (model.lower(), f"{model.lower()}-uncased", f"{model.lower()}-cased")


def _paper_row(row: tuple[int, ...]) -> dict[Column, str]:
    return {(task, kind, ""): str(d90) for (task, kind), d90 in zip(CELLS, row, strict=True)}
