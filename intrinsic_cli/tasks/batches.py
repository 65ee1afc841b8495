"""From rows to padded batches: tokens once, batches of similar length, padding as late as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.tasks.rows import Encoded, Part
from intrinsic_cli.tasks.tokens import encode

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
    if max_length > tokenizer.model_max_length:
        raise ConfigError(
            f"data.max_length={max_length} is above the {tokenizer.model_max_length} tokens the model reads; "
            f"set data.max_length={tokenizer.model_max_length}"
        )
    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    lengths: list[int] = []
    for start in range(0, len(part), CHUNK):
        texts = part.texts[start : start + CHUNK]
        pairs = part.pairs[start : start + CHUNK] if part.pairs is not None else None
        rows = encode(tokenizer, texts, pairs, max_length)
        lengths += [len(row) for row in rows["input_ids"]]
        ids.append(_join(rows["input_ids"], np.int32))
        if "token_type_ids" in rows:
            types.append(_join(rows["token_type_ids"], np.int8))
    if 0 in lengths:
        text = part.texts[lengths.index(0)]
        raise DataError(f"the tokenizer leaves nothing of the row {text!r:.60}; remove it")
    return Encoded(
        ids=np.concatenate(ids) if ids else np.zeros(0, np.int32),
        types=np.concatenate(types) if types else None,
        starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        labels=np.asarray(part.labels, dtype=label),
        pad_id=tokenizer.pad_token_id,
        pad_type=tokenizer.pad_token_type_id,
        padding_side=tokenizer.padding_side,
    )


def _join(rows: Sequence[Sequence[int]], dtype: type) -> np.ndarray:
    return np.fromiter((token for row in rows for token in row), dtype)


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
    lengths = encoded.lengths[indices]
    width = int(lengths.max())
    shape = (len(indices), width)
    ids = np.full(shape, encoded.pad_id, np.int64)
    mask = np.zeros(shape, np.int64)
    types = np.full(shape, encoded.pad_type, np.int64)
    for row, (index, length) in enumerate(zip(indices, lengths, strict=True)):
        start = encoded.starts[index]
        place = slice(width - length, width) if encoded.padding_side == "left" else slice(0, length)
        ids[row, place] = encoded.ids[start : start + length]
        mask[row, place] = 1
        if encoded.types is not None:
            types[row, place] = encoded.types[start : start + length]
    batch = {"input_ids": ids, "attention_mask": mask, "labels": encoded.labels[indices]}
    if encoded.types is not None:
        batch["token_type_ids"] = types
    return {name: torch.from_numpy(values) for name, values in batch.items()}
