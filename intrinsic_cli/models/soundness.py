"""Whether a checkpoint can be what it says: looked at before memory is taken, and once before it is measured.

A folder from elsewhere may describe sizes that no machine holds, ask for code of its own, hold weights that are
not finite, or fail at its first sentence. Every function raises ModelError.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from intrinsic_cli.errors import ModelError, is_failure
from intrinsic_cli.spec import ModelSpec
from intrinsic_cli.tasks.language import first_logits

MOST_PARTS = 10_000  # layers, labels, experts or groups: beyond it, building the model alone takes minutes
# Keys by which transformers lets its caller choose code; below 5.3 it took some from files (CVE-2026-4372).
CALLERS_OWN = re.compile(r"_?(attn|experts)_implementation(_internal)?")  # a kernel of the hub's, by its name
OF_TRANSFORMERS = ("eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm")  # what runs no other code
LONGEST_FILE = {"config.json": 2**24, "tokenizer_config.json": 2**24, "tokenizer.json": 2**28}  # bytes
LONGEST_SETTINGS = 2**28  # bytes of another file of settings or words
SETTINGS = (".json", ".txt", ".model", ".jinja")
LONGER = "One sentence that is a little longer than the other one."
SLACK = 2**24  # numbers that a model may hold beside those of its weights' files: a new head, say


def check_config(spec: ModelSpec, config: Mapping[str, Any], weights: int | None) -> None:
    """Check the numbers of a config.json before a model is built from it: none may be more than its `weights`, in
    bytes, could hold, where these are known."""
    for key, value in _integers(config):
        if re.search("layer|label|expert|group", key) and value > MOST_PARTS:
            raise ModelError(
                f"model {spec.name}: {key}={value} of its config.json is above {MOST_PARTS}; mend the file"
            )
        if weights is not None and value > weights + SLACK:
            raise ModelError(
                f"model {spec.name}: {key}={value} of its config.json is more than its weights could hold; "
                "the files don't belong together, so copy or download them again"
            )


def check_code(spec: ModelSpec, settings: Mapping[str, Any], file: str, *, asks: bool = True) -> None:
    """Refuse a model whose `file` asks for code of its own, unless `model.trust_remote_code`, and one that sets
    what only a caller may. transformers itself asks about the `auto_map` of a hub model (`asks=False`)."""
    for key, value in _entries(settings):
        if (key == "trust_remote_code" and value) or (CALLERS_OWN.fullmatch(key) and _foreign(key, value)):
            raise ModelError(
                f"model {spec.name}: its {file} sets {key}={value!r:.40}, which is the caller's to choose and "
                f"can run code; remove {key} from the file"
            )
    if asks and settings.get("auto_map") and not spec.trust_remote_code:
        raise ModelError(
            f"model {spec.name} brings its own code (auto_map in its {file}); add model.trust_remote_code=true "
            "if you trust it, or remove auto_map to use the class of transformers"
        )


def _foreign(key: str, value: Any) -> bool:
    """Whether `value` of one of CALLERS_OWN, a name or one for each part of a model, may be another's code."""
    names = value.values() if isinstance(value, Mapping) else [value]
    return key.endswith("_internal") or any(name not in (None, *OF_TRANSFORMERS) for name in names)


def check_sizes(spec: ModelSpec, files: Mapping[str, int]) -> None:
    """Refuse settings that are too long to be settings, by the bytes of their files, before they are read."""
    for name, size in files.items():
        if name.endswith(SETTINGS) and size > (most := LONGEST_FILE.get(name, LONGEST_SETTINGS)):
            raise ModelError(
                f"model {spec.name}: its {name} has {size:,} bytes, and {most:,} are the most; "
                "copy or download it again"
            )


def check_index(spec: ModelSpec, folder: Path) -> None:
    """Check that the index that is used, where weights are in pieces, names files of its own folder only."""
    if (folder / "model.safetensors").is_file():
        return  # whole weights are read without it
    safe = folder / "model.safetensors.index.json"
    index = safe if safe.is_file() else folder / "pytorch_model.bin.index.json"
    if not index.is_file() or (index != safe and not spec.allow_pickle):
        return
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


def check_dtypes(spec: ModelSpec, folder: Path) -> None:
    """Refuse weights in integers or 8-bit floats, which mean nothing without what they are scaled by."""
    from safetensors import SafetensorError, safe_open

    config = json.loads((folder / "config.json").read_bytes()) if _is_object(folder / "config.json") else {}
    if config.get("quantization_config"):
        return  # transformers knows, or says what it lacks
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(file, "pt") as weights:
                for name in weights.keys():  # noqa: SIM118 (not a dict)
                    dtype = weights.get_slice(name).get_dtype()
                    if name.endswith((".weight", ".bias")) and not dtype.startswith(
                        ("F64", "F32", "F16", "BF16")
                    ):
                        raise ModelError(
                            f"model {spec.name}: its tensor {name} is {dtype} and config.json has no "
                            "quantization_config to read it by; save the weights as floats"
                        )
        except SafetensorError:
            return  # said where they are loaded


def _is_object(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except (ValueError, RecursionError, OSError):
        return False


def _entries(tree: Any) -> Iterable[tuple[str, Any]]:
    """Every key in nested dicts and lists, with its value."""
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            yield from ((str(key), each) for key, each in value.items())
            stack += value.values()
        elif isinstance(value, list):
            stack += value


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


def skeleton(spec: ModelSpec, model_class: str, config: Any) -> nn.Module:
    """The model that `config` describes, without memory for its numbers."""
    import transformers

    with torch.device("meta"), warnings.catch_warnings(action="ignore"):  # of empty tensors
        return getattr(transformers, model_class).from_config(
            config, trust_remote_code=spec.trust_remote_code
        )


def check_size(spec: ModelSpec, model: nn.Module, weights: int) -> None:
    """Compare the size of a model's skeleton with that of its `weights`, in bytes."""
    for key, parameter in model.named_parameters():
        if not parameter.numel():
            raise ModelError(
                f"model {spec.name}: its config.json gives its tensor {key} the shape {tuple(parameter.shape)}; "
                "mend the sizes there"
            )
    size = sum(p.numel() for p in model.parameters())
    if size > weights + SLACK:
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


def check_answer(name: str, model: Any, tokenizer: Any, writes: bool = False) -> None:
    """Let the model answer two sentences as in training (one that `writes`, at every place), without a trace: its
    buffers are put back."""
    buffers = {key: buffer.clone() for key, buffer in model.named_buffers()}
    try:
        batch = tokenizer(["One sentence.", "Two."], padding=True, truncation=True, max_length=8)
        with torch.no_grad():
            names = ("input_ids", "attention_mask", "token_type_ids")
            asked = {key: torch.tensor(batch[key], device=model.device) for key in names if key in batch}
            if writes and model.config.is_encoder_decoder:
                asked["decoder_input_ids"] = asked["input_ids"]
            logits = model(**asked, **({"use_cache": False} if writes else {})).logits
    except BaseException as error:  # whatever a layer of torch raises at settings that make no sense
        if not is_failure(error):
            raise
        raise ModelError(
            f"model {name} can't read a sentence: {type(error).__name__}: {error}; "
            "its config.json or its tokenizer is not that of its weights"
        ) from error
    finally:
        for key, buffer in model.named_buffers():
            buffer.copy_(buffers[key])
    if logits.shape[:1] != (2,) or logits.ndim != 2 + writes or not torch.isfinite(logits).all():
        raise ModelError(
            f"model {name} answers a sentence with {logits.flatten()[:3].tolist()}; "
            "mend its config.json, or copy its files again"
        )


def check_order(name: str, model: Any, tokenizer: Any) -> None:
    """Refuse a language model that sees what it is to predict, or how much: where it writes one token more, none of
    its answers before may move."""
    with _reading(name, model):
        ids = torch.tensor(
            [tokenizer(LONGER, truncation=True, max_length=16)["input_ids"]], device=model.device
        )
        read = {"input_ids": ids} if model.config.is_encoder_decoder else {}
        written = "decoder_input_ids" if read else "input_ids"
        if ids.shape[1] == 1:  # of a tokenizer that knows no word of the sentence
            ids = ids.repeat(1, 4)
        last = ids.shape[1] - 1
        before, after = (
            model(**read, **{written: row}, use_cache=False).logits[:, :last].float()
            for row in (ids[:, :-1], ids)
        )
    # Where a model has 8 bits a weight, those of a token's numbers depend on the largest of all tokens.
    rounding = 0.05 if getattr(model, "is_quantized", False) else 1e-4
    if (before - after).norm() > rounding * before.norm():
        raise ModelError(
            f"model {name} ({model.config.model_type}) sees the tokens that it is to predict: one token more "
            "changes what it says before it, so its likelihoods mean nothing; choose a decoder such as model=gpt2, "
            "or an encoder-decoder such as model=t5-small"
        )


def reads_masks(name: str, model: Any, tokenizer: Any, writes: bool = False) -> bool:
    """Whether a row's answer is the same alone and beside a longer one, whose padding the mask hides.

    Of one that `writes`, the answer is the first token behind a prompt; a decoder's are padded on the left.
    """
    names = ("input_ids", "attention_mask", "token_type_ids")
    side = "left" if writes and not model.config.is_encoder_decoder else None
    answers = []
    with _reading(name, model):
        for rows in (["Two."], ["Two.", LONGER]):
            batch = tokenizer(rows, padding=True, truncation=True, max_length=16, padding_side=side)
            asked = {key: torch.tensor(batch[key], device=model.device) for key in names if key in batch}
            if writes:
                prompts = {"prompt_ids": asked["input_ids"], "prompt_mask": asked["attention_mask"]}
                logits = first_logits(model, prompts)
            else:
                logits = model(**asked).logits
            answers.append(logits[0].float())
    alone, beside = answers
    return bool((alone - beside).norm() <= 1e-3 * alone.norm() + 1e-6)


@contextmanager
def _reading(name: str, model: Any) -> Iterator[None]:
    """Let the model answer without dropout or a graph. Raises ModelError at whatever it or its tokenizer raises."""
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    except BaseException as error:
        if not is_failure(error):
            raise
        raise ModelError(
            f"model {name} or its tokenizer fails at a sentence ({type(error).__name__}: {error}); "
            "save its files again"
        ) from error
    finally:
        model.train(was)


@torch.no_grad()
def check_longest(name: str, model: Any, questions: Mapping[str, torch.Tensor]) -> None:
    """Have the model read the longest row, since not every one says how many tokens it has positions for."""
    was = model.training
    model.eval()
    try:
        model(**{key: tensor.to(model.device) for key, tensor in questions.items()})
    except BaseException as error:
        if not is_failure(error):
            raise
        tokens = questions["input_ids"].shape[-1]
        raise ModelError(
            f"model {name} can't read a row of {tokens} tokens ({type(error).__name__}: {error}); "
            f"take a data.max_length below {tokens}"
        ) from error
    finally:
        model.train(was)


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
