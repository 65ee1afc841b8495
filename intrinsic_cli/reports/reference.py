"""The d90s that the paper reports, to stand beside a user's own."""

from __future__ import annotations

from collections.abc import Collection, Iterator

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


def d90s(tasks: Collection[str]) -> Iterator[tuple[str, str, str, int]]:
    """(model, task, subspace, d90) of every cell of these tasks; models are marked (paper)."""
    for model, row in D90S.items():
        for (task, kind), d90 in zip(CELLS, row, strict=True):
            if task in tasks:
                yield f"{model} (paper)", task, kind, d90


def beside_paper(
    cells: dict[str, dict[Column, str]], labels: dict[str, str], tasks: Collection[str]
) -> dict[str, dict[Column, str]]:
    """The rows with the paper's row after the last one of the same model, and its other models at the end.

    The paper's rows have these tasks alone; without any of the paper's, there are none.
    """
    paper: dict[str, dict[Column, str]] = {}
    for model, task, kind, d90 in d90s(tasks):
        paper.setdefault(model, {})[task, kind, ""] = str(d90)
    match = {row: next((model for model in paper if _is(labels[row], model)), None) for row in cells}
    merged: dict[str, dict[Column, str]] = {}
    rows = list(cells)
    for i, row in enumerate(rows):
        merged[row] = cells[row]
        own = match[row]
        if own and own not in (match[r] for r in rows[i + 1 :]):
            merged[own] = paper.pop(own)
    return merged | paper


def _is(label: str, model: str) -> bool:
    name = model.removesuffix(" (paper)").lower()
    return label.lower() in (name, f"{name}-uncased", f"{name}-cased")
