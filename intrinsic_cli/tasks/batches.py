"""From rows to padded batches: tokens once, batches of similar length, padding as late as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intrinsic_cli.errors import DataError
from intrinsic_cli.tasks.rows import Encoded, Part, joined, starts
from intrinsic_cli.tasks.tokens import check_length, encode

# Rows tokenized in one call: bounds the memory of the tokenizer's Python lists.
CHUNK = 8192
# Batches per window of similar lengths: large enough to save padding, small enough to keep batches random.
WINDOW = 50


def tokenize(part: Part, tokenizer: Any, max_length: int, label: type = np.int64) -> Encoded:
    """All rows of `part` as token ids, cut to `max_length` tokens (a pair loses its longer side first), with
    labels of dtype `label`.

    Raises ConfigError when the model can't read `max_length` tokens, ModelError where the tokenizer fails, and
    DataError where nothing is left of a row.
    """
    check_length(tokenizer, max_length)
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    lengths: list[int] = []
    for start in range(0, len(part), CHUNK):
        texts = part.texts[start : start + CHUNK]
        pairs = part.pairs[start : start + CHUNK] if part.pairs is not None else None
        rows = encode(tokenizer, texts, pairs, max_length)
        lengths += [len(row) for row in rows["input_ids"]]
        ids.append(joined(rows["input_ids"]))
        if "token_type_ids" in rows:
            types.append(joined(rows["token_type_ids"], np.int8))
    if 0 in lengths:
        text = part.texts[lengths.index(0)]
        raise DataError(f"the tokenizer leaves nothing of the row {text!r:.60}; remove it")
    return Encoded(
        ids=np.concatenate(ids) if ids else np.zeros(0, np.int32),
        types=np.concatenate(types) if types else None,
        starts=starts(lengths),
        labels=np.asarray(part.labels, dtype=label),
        pad_id=tokenizer.pad_token_id,
        pad_type=tokenizer.pad_token_type_id,
        padding_side=tokenizer.padding_side,
    )


def batches(encoded: Encoded, batch_size: int, generator: torch.Generator | None = None) -> list[list[int]]:
    """Row indices, batch by batch; every row occurs exactly once, and only one batch may be smaller.

    With a generator (training): rows are shuffled, sorted by length within windows of 50 batches, and the
    batches shuffled. Without (evaluation): sorted by length, longest first, so that the largest batch comes
    first; the indices say where each score belongs.
    """
    if generator is None:
        order = np.argsort(-encoded.lengths, kind="stable")
        return [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
    order = torch.randperm(len(encoded), generator=generator).numpy()
    made = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = order[start : start + WINDOW * batch_size]
        window = window[np.argsort(-encoded.lengths[window], kind="stable")]
        made += [window[i : i + batch_size].tolist() for i in range(0, len(window), batch_size)]
    return [made[i] for i in torch.randperm(len(made), generator=generator).tolist()]


def collate(encoded: Encoded, indices: Sequence[int]) -> dict[str, Tensor]:
    """One batch, padded to its longest row on the tokenizer's padding side.

    Returns `input_ids`, `attention_mask` and, where the tokenizer makes them, `token_type_ids`, all int64
    (rows, tokens), and `labels` (rows,) int64, or float32 for regression.
    """
    spans = [slice(encoded.starts[i], encoded.starts[i + 1]) for i in indices]
    rows, left = [encoded.ids[span] for span in spans], encoded.padding_side == "left"
    batch = {
        "input_ids": padded(rows, encoded.pad_id, left),
        "attention_mask": padded([np.ones(len(row)) for row in rows], 0, left),
        "labels": torch.from_numpy(encoded.labels[indices]),
    }
    if encoded.types is not None:
        batch["token_type_ids"] = padded([encoded.types[span] for span in spans], encoded.pad_type, left)
    return batch


def padded(rows: Sequence[np.ndarray], fill: int, left: bool = False) -> Tensor:
    """Rows of numbers as one tensor, (rows, most numbers) int64, with `fill` behind each, or on its `left`."""
    width = max(map(len, rows))
    out = np.full((len(rows), width), fill, np.int64)
    for i, row in enumerate(rows):
        out[i, width - len(row) if left else 0 : width if left else len(row)] = row
    return torch.from_numpy(out)
