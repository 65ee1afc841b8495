"""Upload a portable fine-tune to the hub with a model card that says how to load it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from intrinsic_cli import hub
from intrinsic_cli.errors import ModelError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.spec import BUILTIN_MODELS

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
FILE = "fine-tune.safetensors"
HUB_IDS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
PIPELINES = {"classification": "text-classification", "regression": "text-classification"}
WRITES = "text-generation"  # the hub's pipeline of all other kinds of task
TEXT = """---
{front}
---

# {title}

{d:,} numbers that turn {base} into a model for {task}: a fine-tuning {way}, made by `idim`.
{score}
```python
from huggingface_hub import hf_hub_download
import intrinsic_cli

model, tokenizer = intrinsic_cli.load(hf_hub_download("{repo}", "{file}"))
```

| | |
| --- | --- |
{rows}
"""


def base_id(found: FineTune) -> str:
    """What others call the base model: its id at the hub, or the folder it was read from."""
    return HUB_IDS.get(found.model.name, found.model.name)


def write(found: FineTune, repo: str) -> str:
    """The model card: front matter and text in Markdown."""
    from huggingface_hub import EvalResult, ModelCardData

    base = base_id(found)
    known = base not in BUILTIN_MODELS and HUB_ID.fullmatch(base) is not None
    if not known:
        base = found.model.label  # the path of a folder is nobody else's business
    results, pipeline = None, PIPELINES.get(found.kind, WRITES)
    if found.score is not None:
        results = [
            EvalResult(
                task_type=pipeline, dataset_type=found.task, dataset_name=found.task,
                metric_type=found.metric, metric_value=found.score,
            )
        ]  # fmt: skip
    front = ModelCardData(
        base_model=base if known else None, library_name="idim", pipeline_tag=pipeline,
        tags=["idim", "intrinsic-dimension", *_kinds(found)], eval_results=results,
        model_name=repo if results else None,
    )  # fmt: skip
    rows: dict[str, Any] = {"adapter": found.adapter.label} if found.adapter else {}
    rows |= {
        "base model": base, "SHA-256 of its weights": found.weights_hash,
        "layers kept": found.model.num_hidden_layers or "all", "subspace": found.subspace.kind, "d": found.d,
    }  # fmt: skip
    if found.subspace.has_theta:
        rows["projection"] = f"{found.projection.kind}, version {found.version}, seed {found.seed}"
    else:
        rows["seed"] = found.seed
    if found.labels or found.kind == "regression":
        rows["labels"] = ", ".join(found.labels) or "a number"
    rows["precision of training"] = found.precision
    told = f"{_plain(found.metric)} {found.score:.4f} on {found.n_eval} validation rows." if results else ""
    return TEXT.format(
        front=front.to_yaml(), title=_plain(repo), d=found.d, base=_plain(base), task=_plain(found.task), repo=repo,
        way="in a random subspace" if found.subspace.has_theta else f"by {_plain(found.adapter.kind)}",
        file=FILE, score=told, rows="\n".join(f"| {key} | {_plain(value)} |" for key, value in rows.items()),
    )  # fmt: skip


def _kinds(found: FineTune) -> list[str]:
    """The subspace where P is, and the adapter where one is: words that the hub is searched by."""
    return [
        *([found.subspace.kind] if found.subspace.has_theta else []),
        *([found.adapter.kind] if found.adapter else []),
    ]


def _plain(value: Any) -> str:
    """Text without what Markdown or HTML would read as more than text."""
    return "".join(" " if c in "|<>`[]\n\r" else c for c in str(value))


def push(source: Path, repo: str, *, private: bool = False) -> str:
    """Upload the file at `source` and its card to `repo` (owner/name), made where it is missing. Returns
    the address.

    Raises ModelError where the hub can't be reached or refuses, StoreError as `FineTune.read`.
    """
    found = FineTune.read(source)
    card = write(found, repo)
    if not hub.online():
        raise ModelError(
            f"can't upload to {repo}: the hub can't be reached; connect to a network and try again"
        )
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    files = {FILE: source.read_bytes(), "README.md": card.encode()}
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(
            address.repo_id,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message=f"Upload a fine-tune of {found.d} numbers",
        )
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError) as error:
        raise ModelError(
            f"the hub refused {repo}: {' '.join(str(error).split())[:300]}; "
            "`hf auth login` or HF_TOKEN give the right to write"
        ) from error
    return str(address)
