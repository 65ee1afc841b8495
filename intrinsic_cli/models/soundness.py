"""Whether a loaded model answers so that it can be measured: tried once, before it is.

It may hold weights that are not finite, or fail at its first sentence. Every check raises ModelError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from intrinsic_cli.errors import ModelError, is_failure
from intrinsic_cli.tasks.language import first_logits

LONGER = "One sentence that is a little longer than the other one."


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
    with _reading(name, model), _padding_of_numbers(model, tokenizer):
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
def _padding_of_numbers(model: Any, tokenizer: Any) -> Iterator[None]:
    """Let the padding's embedding be another token's: at zero, as many checkpoints have it, a model that reads it
    does not show that, and P moves it."""
    table, pad = model.get_input_embeddings(), tokenizer.pad_token_id
    weight = getattr(table, "weight", None)
    if weight is None or not weight.is_floating_point() or pad is None or not 0 < weight.shape[0] - 1 >= pad:
        yield
        return
    own, other = weight.data[pad].clone(), weight.data[pad - 1 if pad else 1]
    weight.data[pad] = other
    try:
        yield
    finally:
        weight.data[pad] = own


@contextmanager
def _reading(
    name: str, model: Any, fails: str = "or its tokenizer fails at a sentence", way: str = "save its files again"
) -> Iterator[None]:  # fmt: skip
    """Let the model answer without dropout or a graph. Raises ModelError at whatever it or its tokenizer raises:
    that it `fails`, and the `way` out."""
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    except BaseException as error:
        if not is_failure(error):
            raise
        raise ModelError(f"model {name} {fails} ({type(error).__name__}: {error}); {way}") from error
    finally:
        model.train(was)


def check_longest(name: str, model: Any, questions: Mapping[str, torch.Tensor]) -> None:
    """Have the model read the longest row, since not every one says how many tokens it has positions for."""
    tokens = questions["input_ids"].shape[-1]
    fails, way = f"can't read a row of {tokens} tokens", f"take a data.max_length below {tokens}"
    with _reading(name, model, fails, way):
        model(**{key: tensor.to(model.device) for key, tensor in questions.items()})


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
