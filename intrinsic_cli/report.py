"""From finished runs to d90 tables: records for scripts, and the paper's Table 1 for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from intrinsic_cli.errors import ConfigError, StoreError
from intrinsic_cli.estimate import Estimate, Point, estimate

PROPORTIONS = ("accuracy",)  # metrics whose noise is at least binomial in the rows of the validation set
FORMATS = ("table", "md", "csv", "tex", "json")
KEYS = (
    "model", "revision", "task", "subspace", "projection", "normalize", "metric", "full_score", "target",
    "threshold", "d90", "d90_low", "d90_high", "status", "runs",
)  # fmt: skip


def _point(result: dict[str, Any]) -> Point:
    spec = result["spec"]
    holdout = result["holdout_metrics"]
    return Point(
        d=spec["d"], seed=spec["seed"], lr=spec["lr"], score=result["score"],
        holdout=holdout[result["metric"]] if holdout else None,
    )  # fmt: skip


def estimates(
    results: Iterable[dict[str, Any]], *, threshold: float = 0.9, selection: str = "validation"
) -> list[tuple[dict[str, Any], Estimate]]:
    """One estimate per study, subspace and projection: (what it is of, the estimate).

    `results` are the records of `Store.results`. A study is all that a curve and its baseline share.
    """
    baselines: dict[str, list[dict[str, Any]]] = {}
    curves: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        spec = result["spec"]
        if spec["subspace"]["kind"] == "full":
            baselines.setdefault(result["study"], []).append(result)
        else:
            variant = json.dumps([spec["subspace"], spec["projection"]["kind"]], sort_keys=True)
            curves.setdefault((result["study"], variant), []).append(result)
    found = []
    for (study, _), runs in curves.items():
        spec = runs[0]["spec"]
        of = {
            "study": study,
            "model": _model_label(spec["model"]),
            "revision": spec["model"]["revision"],
            "task": spec["task"]["name"],
            "subspace": spec["subspace"]["kind"],
            "projection": spec["projection"]["kind"],
            "normalize": spec["subspace"]["normalize"],
            "groups": spec["subspace"]["groups"],
            "metric": runs[0]["metric"],
        }
        value = estimate(
            [_point(r) for r in runs],
            [_point(r) for r in baselines.get(study, [])],
            chance=runs[0]["chance"],
            threshold=threshold,
            selection=selection,
            n_eval=runs[0]["n_eval"] if runs[0]["metric"] in PROPORTIONS else None,
        )
        found.append((of, value))
    return sorted(found, key=lambda pair: [str(pair[0][k]) for k in ("model", "revision", "task", "subspace", "study")])


def _model_label(model: dict[str, Any]) -> str:
    from intrinsic_cli.spec import ModelSpec

    return ModelSpec(**model).label


def records(found: Sequence[tuple[dict[str, Any], Estimate]]) -> list[dict[str, Any]]:
    """Flat records with the keys that scripts rely on; None where there is no number."""
    return [
        {
            **{key: of[key] for key in KEYS if key in of},
            "full_score": value.full_score,
            "target": value.target,
            "threshold": value.threshold,
            "d90": value.d_t,
            "d90_low": value.low,
            "d90_high": value.high,
            "status": value.status,
            "runs": value.runs,
        }
        for of, value in found
    ]


def cell(value: Estimate) -> str:
    """`1861 [1500, 2300]`, `< 100`, `> 30000` or `—`, with a * below three seeds."""
    few = "*" if value.seeds < 3 else ""
    grid = [level.d for level in value.curve]
    if value.status == "undefined":
        return "—"
    if value.status == "below_grid":
        return f"< {grid[0]}{few}"
    if value.status == "above_grid":
        return f"> {grid[-1]}{few}"
    if value.low is None and value.high is None and not (value.low_open or value.high_open):
        return f"{value.d_t}{few}"
    low = f"< {grid[0]}" if value.low_open else str(value.low)
    high = f"> {grid[-1]}" if value.high_open else str(value.high)
    return f"{value.d_t}{few} [{low}, {high}]"


def table(found: Sequence[tuple[dict[str, Any], Estimate]], form: str = "table") -> str:
    """The paper's Table 1: rows are models, columns task × subspace. `form` is one of FORMATS.

    Variants of one task and subspace (normalisation, projection, data sizes) get columns of their own.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format {form} is not known; use one of {', '.join(FORMATS)}")
    if not found:
        raise StoreError("no finished subspace run here; `idim status DIR` shows what is pending or failed")
    if form == "json":
        return json.dumps(records(found), indent=1, allow_nan=False)
    import pandas as pd

    if form == "csv":
        return pd.DataFrame(records(found), columns=list(KEYS)).to_csv(index=False).rstrip("\n")
    rows: dict[str, dict[str, str]] = {}
    for of, value in found:
        model = of["model"] if of["revision"] is None else f"{of['model']}@{of['revision']}"
        rows.setdefault(model, {})[_column(of, found)] = cell(value)
        rows[model].setdefault(f"{of['task']} full", _full(value, of["metric"]))
    frame = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    frame = frame[sorted(frame.columns)]
    if form == "tex":
        return frame.style.to_latex(hrules=True, convert_css=False).rstrip("\n").replace("%", r"\%")
    from tabulate import tabulate

    style = "github" if form == "md" else "simple"
    return tabulate(frame, headers="keys", tablefmt=style, disable_numparse=True)


def _full(value: Estimate, metric: str) -> str:
    return "—" if value.full_score is None else f"{metric} {value.full_score:.3f}"


def _column(of: dict[str, Any], found: Sequence[tuple[dict[str, Any], Estimate]]) -> str:
    """`mrpc SAID`, and what else tells it apart where that is not enough."""
    name = f"{of['task']} {of['subspace'].upper()}"
    rivals = [o for o, _ in found if (o["model"], o["revision"], o["task"], o["subspace"])
              == (of["model"], of["revision"], of["task"], of["subspace"])]  # fmt: skip
    differs = [key for key in ("normalize", "projection", "groups", "study") if len({o[key] for o in rivals}) > 1]
    return " ".join([name, *(str(of[key]) for key in differs)])


def footnotes(found: Sequence[tuple[dict[str, Any], Estimate]]) -> list[str]:
    """What a reader of the table has to know, a line each."""
    share = f"{100 * found[0][1].threshold:g} %"
    lines = [f"d at which the score reaches {share} of full fine-tuning's [95 % interval]."]
    if any(value.seeds < 3 for _, value in found):
        lines.append("* fewer than three seeds per d: take the interval as a rough one.")
    lines += [f"— {of['model']} {of['task']} {of['subspace'].upper()}: {value.reason}."
              for of, value in found if value.status == "undefined"]  # fmt: skip
    return lines
