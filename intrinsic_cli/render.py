"""Numbers, settings and tables as text: for a terminal, a paper or a script."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

STYLES = {"table": "simple", "md": "github", "tex": "latex_booktabs"}  # tabulate's names


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3.4 h`; whole seconds and minutes are rounded up, so that no time is none."""
    if math.ceil(seconds) < 90:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"


def differences(
    settings: Sequence[Mapping[str, str]], labels: Sequence[str], within: Sequence[str]
) -> list[str]:
    """`key=value ...` for each: the keys that differ among items of one label `within` any one place."""
    values: dict[tuple[str, str], dict[str, set[str | None]]] = {}
    keys = sorted({key for tree in settings for key in tree})
    for tree, *place in zip(settings, labels, within, strict=True):
        seen = values.setdefault((place[0], place[1]), {key: set() for key in keys})
        for key in keys:
            seen[key].add(tree.get(key))
    differs = {(label, key) for (label, _), seen in values.items() for key in keys if len(seen[key]) > 1}
    return [
        " ".join(f"{_short(key)}={tree[key]}" for key in keys if (label, key) in differs and key in tree)
        for tree, label in zip(settings, labels, strict=True)
    ]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"data.max_train": "4000"}: dotted keys, values as a user types them."""
    dotted: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            dotted |= flat(value, f"{prefix}{key}.")
        else:
            text = "null" if value is None else json.dumps(value).replace('"', "")
            dotted[prefix + key] = text[:8] if key == "fingerprint" else text
    return dotted


def _short(key: str) -> str:
    return {"projection.kind": "projection"}.get(key, key.removeprefix("subspace."))


def natural(text: str) -> list[str | float]:
    """A sort key by which 4000 comes before 10000."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)", text)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def csv_text(flat: Sequence[dict[str, Any]]) -> str:
    """Records of equal keys as CSV; an empty cell where there is none."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(flat[0]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return file.getvalue().rstrip("\n")
