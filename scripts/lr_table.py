"""Print the scores by learning rate (rows) and d (columns) of every task and convention under DIR.

    python scripts/lr_table.py outputs/calibration

A cell is the mean over seeds; the best of a column is bold, of a loss the lowest.
"""

import sys
from collections import defaultdict
from statistics import mean

from tabulate import tabulate

from intrinsic_cli import Store


def main(folder: str) -> None:
    tables: dict[tuple[str, ...], dict[tuple[float, int], list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    up: dict[tuple[str, ...], bool] = {}
    for result in Store(folder).results():
        spec = result.spec
        space, adapter = spec.subspace, spec.adapter.kind
        convention: tuple[str, ...] = ("full fine-tuning",)
        if spec.adapter:
            convention = (
                (adapter, "itself") if space.kind == "full" else (f"{space.kind.upper()} over {adapter}",)
            )
        elif spec.d:
            convention = (space.kind.upper(),)
        name = (spec.task.name, *convention, *([space.normalize] if spec.d else []))
        tables[name][spec.lr, result.d].append(result.score)
        up[name] = result.higher_is_better
    for name, scores in sorted(tables.items()):
        lrs, ds = (sorted({key[i] for key in scores}) for i in (0, 1))
        choose = max if up[name] else min
        best = {d: choose(mean(v) for (_, other), v in scores.items() if other == d) for d in ds}
        rows = [[f"{lr:g}", *(_cell(scores.get((lr, d)), best[d]) for d in ds)] for lr in lrs]
        print(f"\n{', '.join(name)}\n")
        print(tabulate(rows, ["lr", *(f"d = {d:,}" for d in ds)], tablefmt="github", disable_numparse=True))


def _cell(scores: list[float] | None, best: float) -> str:
    if scores is None:
        return ""
    return f"**{mean(scores):.4f}**" if mean(scores) == best else f"{mean(scores):.4f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
