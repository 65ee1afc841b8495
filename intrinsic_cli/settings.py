"""Settings as a user types them: what tells two apart, and in what order they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from intrinsic_cli.errors import printable


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
            text = "null" if value is None else json.dumps(value, ensure_ascii=False).replace('"', "")
            text = printable(value if isinstance(value, str) else text)
            dotted[prefix + key] = text[:8] if key == "fingerprint" else text
    return dotted


def _short(key: str) -> str:
    return {"projection.kind": "projection"}.get(key, key.removeprefix("subspace."))


def natural(text: str) -> list[str | float]:
    """A sort key by which 4000 comes before 10000."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)", text)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]
