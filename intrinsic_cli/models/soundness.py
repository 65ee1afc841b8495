"""Whether a checkpoint can be what it says: looked at before memory is taken, and once before it is measured.

A folder from elsewhere may describe sizes that no machine holds, ask for code of its own, hold weights that are
not finite, or fail at its first sentence. Every function raises ModelError.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from intrinsic_cli.errors import ModelError
from intrinsic_cli.spec import ModelSpec

MOST_PARTS = 10_000  # layers, labels, experts or groups: beyond it, building the model alone takes minutes
SLACK = 2**24  # numbers that a model may hold beside those of its weights' files: a new head, say


def check_config(spec: ModelSpec, config: Mapping[str, Any], folder: Path | None) -> None:
    """Check the numbers of a config.json, and that it asks for no code, before a model is built from it."""
    for key, value in _integers(config):
        if re.search("layer|label|expert|group", key) and value > MOST_PARTS:
            raise ModelError(
                f"model {spec.name}: {key}={value} of its config.json is above {MOST_PARTS}; mend the file"
            )
        if folder is not None and value > _weights_size(folder) + SLACK:
            raise ModelError(
                f"model {spec.name}: {key}={value} of its config.json is more than its weights could hold; "
                "the files don't belong together, so copy or download them again"
            )


def check_code(spec: ModelSpec, settings: Mapping[str, Any], file: str) -> None:
    """Refuse a folder whose file asks for code of its own, unless `model.trust_remote_code`."""
    if settings.get("auto_map") and not spec.trust_remote_code:
        raise ModelError(
            f"model {spec.name} brings its own code (auto_map in its {file}); add model.trust_remote_code=true "
            "if you trust it, or remove auto_map to use the class of transformers"
        )


def check_index(spec: ModelSpec, folder: Path) -> None:
    """Check that an index of sharded weights names files of its own folder only."""
    for index in folder.glob("*.index.json"):
        try:
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
            odd = [name for name in shards if name != Path(name).name or not (folder / name).is_file()]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise ModelError(
                f"model {spec.name}: its {index.name} is no index of weights ({type(error).__name__}: {error}); "
                "copy or download it again"
            ) from error
        if odd:
            raise ModelError(
                f"model {spec.name}: its {index.name} names {sorted(odd)[0]!r}, which is no file of the folder; "
                "copy or download all of its files again"
            )


def _integers(tree: Any, key: str = "") -> Iterable[tuple[str, int]]:
    """Every integer in nested dicts and lists, with the nearest key above it."""
    stack = [(key, tree)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, Mapping):
            stack += [(str(k), v) for k, v in value.items()]
        elif isinstance(value, list):
            stack += [(key, v) for v in value]
        elif isinstance(value, int):
            yield key, value


def _weights_size(folder: Path) -> int:
    """Bytes of the weights' files: at least one for every number that they hold."""
    return sum(path.stat().st_size for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind))


def check_size(spec: ModelSpec, model_class: str, config: Any, folder: Path) -> None:
    """Build the model without memory, and compare its size with that of its weights."""
    import transformers

    with torch.device("meta"), warnings.catch_warnings(action="ignore"):  # of empty tensors, refused below
        model = getattr(transformers, model_class).from_config(
            config, trust_remote_code=spec.trust_remote_code
        )
    for key, parameter in model.named_parameters():
        if not parameter.numel():
            raise ModelError(
                f"model {spec.name}: its config.json gives its tensor {key} the shape {tuple(parameter.shape)}; "
                "mend the sizes there"
            )
    size = sum(p.numel() for p in model.parameters())
    if size > _weights_size(folder) + SLACK:
        raise ModelError(
            f"model {spec.name}: its config.json describes {size} numbers, more than its weights could hold; "
            "the files don't belong together, so copy or download them again"
        )


def check_weights(name: str, model: nn.Module) -> None:
    """Refuse a model with a number that is NaN or infinite."""
    for key, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(
                f"model {name}: its tensor {key} holds NaN or infinity, so nothing can be measured; "
                "copy or download the weights again"
            )


def check_answer(name: str, model: nn.Module, tokenizer: Any) -> None:
    """Let the model answer two sentences as in training, without a trace: its buffers are put back."""
    buffers = {key: buffer.clone() for key, buffer in model.named_buffers()}
    try:
        batch = tokenizer(["One sentence.", "Two."], padding=True, truncation=True, max_length=8)
        with torch.no_grad():
            names = ("input_ids", "attention_mask", "token_type_ids")
            logits = model(**{key: torch.tensor(batch[key]) for key in names if key in batch}).logits
    except Exception as error:  # whatever a layer of torch raises at settings that make no sense
        raise ModelError(
            f"model {name} can't read a sentence: {type(error).__name__}: {error}; "
            "its config.json or its tokenizer is not that of its weights"
        ) from error
    finally:
        for key, buffer in model.named_buffers():
            buffer.copy_(buffers[key])
    if logits.shape[:1] != (2,) or logits.ndim != 2 or not torch.isfinite(logits).all():
        raise ModelError(
            f"model {name} answers a sentence with {logits.flatten()[:3].tolist()}; "
            "mend its config.json, or copy its files again"
        )


def check_ids(name: str, model: Any, ids: np.ndarray, types: np.ndarray | None) -> None:
    """Refuse token ids and type ids, (tokens,), that the model has no vector for."""
    if not len(ids):
        return
    sizes = {"token": (ids, model.get_input_embeddings().num_embeddings)}
    if types is not None and hasattr(model.config, "type_vocab_size"):
        sizes["type"] = (types, model.config.type_vocab_size)
    for kind, (found, known) in sizes.items():
        if found.min() < 0 or found.max() >= known:
            raise ModelError(
                f"the tokenizer of model {name} gives the {kind} ids {found.min()} to {found.max()}, and the model "
                f"knows 0 to {known - 1}; they belong to different models"
            )
