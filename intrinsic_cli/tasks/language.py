"""What a language model answers: batches of prompts and answers, what each answer costs, and what it writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intrinsic_cli.tasks.batches import padded
from intrinsic_cli.tasks.prompts import Worded, Words
from intrinsic_cli.tasks.tokens import control_tokens

IGNORED = -100  # the label of a position that is not scored, as transformers has it
MOST_LOGITS = 2**27  # numbers that a forward pass of an evaluation makes: half a GiB of float32


def collate_answers(encoded: Worded, rows: Sequence[int], numbers: Sequence[int]) -> dict[str, Tensor]:
    """Prompt `rows[i]` with answer `numbers[i]`: `input_ids`, `attention_mask` and `labels`, (b, tokens) int64.

    Padding is on the right. `labels` are IGNORED where nothing is scored; a decoder's are aligned with
    `input_ids` (position t is predicted at t − 1), an encoder-decoder's are the answers.
    """
    prompts = [encoded.ids[encoded.starts[i] : encoded.starts[i + 1]] for i in rows]
    spans = [(encoded.answer_starts[k], encoded.answer_starts[k + 1]) for k in numbers]
    answers = [encoded.answers[a:b] for a, b in spans]
    if encoded.seq2seq:
        inputs, labels = prompts, answers
    else:
        inputs = [np.concatenate(pair) for pair in zip(prompts, answers, strict=True)]
        labels = [
            np.concatenate([np.full(len(p), IGNORED), a]) for p, a in zip(prompts, answers, strict=True)
        ]
    return {
        "input_ids": padded(inputs, encoded.pad_id),
        "attention_mask": padded([np.ones(len(row)) for row in inputs], 0),
        "labels": padded(labels, IGNORED),
    }


def collate_prompts(encoded: Worded, rows: Sequence[int]) -> dict[str, Tensor]:
    """The prompts alone, `prompt_ids` and `prompt_mask` (b, tokens); a decoder's are padded on the left."""
    prompts = [encoded.ids[encoded.starts[i] : encoded.starts[i + 1]] for i in rows]
    left = not encoded.seq2seq
    return {
        "prompt_ids": padded(prompts, encoded.pad_id, left),
        "prompt_mask": padded([np.ones(len(row)) for row in prompts], 0, left),
    }


def nats(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """−log p of every scored token of a batch of `collate_answers`, (b, tokens) float32, and 0 elsewhere."""
    labels = batch["labels"]
    if model.config.is_encoder_decoder:
        logits = model(**batch).logits
    else:
        kept = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits, labels = model(**kept, use_cache=False).logits[:, :-1], labels[:, 1:]
    flat = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), reduction="none", ignore_index=IGNORED
    )
    return flat.view(labels.shape)


def answer_nats(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """−log p of each answer of a batch, (b,), with no more logits at a time than memory should hold.

    For scoring: logits are of float32 (`_float32_logits`)."""
    width = (
        max(batch["labels"].shape[1], batch["input_ids"].shape[1]) * model.config.get_text_config().vocab_size
    )
    size = max(1, MOST_LOGITS // width)
    cuts = [*range(0, len(batch["labels"]), size), len(batch["labels"])]
    parts = [{name: values[a:b] for name, values in batch.items()} for a, b in pairwise(cuts)]
    with _float32_logits(model):
        return torch.cat([nats(model, part).sum(1) for part in parts])


@contextmanager
def _float32_logits(model: Any) -> Iterator[None]:
    """Have the output layer compute in float32, whatever the others do: logits may lie near −100, where bfloat16
    rounds to halves, so that answers tie."""
    layer = model.get_output_embeddings()
    own, set_by_others = layer.forward, vars(layer).get("forward")
    dtype = next((p.dtype for p in layer.parameters() if p.is_floating_point()), torch.float32)

    def forward(hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            if type(layer) is not torch.nn.Linear:  # one with an adapter, say
                return own(hidden.to(dtype)).float()
            bias = None if layer.bias is None else layer.bias.float()
            return torch.nn.functional.linear(hidden.float(), layer.weight.float(), bias)

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if set_by_others is not None:
            layer.forward = set_by_others


def greedy(model: Any, questions: Mapping[str, Tensor], most: int) -> Tensor:
    """The likeliest next token again and again, (b, most) int64, padded behind a token that ends a text."""
    made = _generate(model, questions, most)
    written = made[:, 1:] if model.config.is_encoder_decoder else made[:, questions["prompt_ids"].shape[1] :]
    return torch.nn.functional.pad(written, (0, most - written.shape[1]), value=model.config.pad_token_id)


def first_logits(model: Any, questions: Mapping[str, Tensor]) -> Tensor:
    """Those of which `greedy` takes the first token of each answer, (b, tokens)."""
    return _generate(model, questions, 1, return_dict_in_generate=True, output_logits=True).logits[0]


def _generate(model: Any, questions: Mapping[str, Tensor], most: int, **wanted: bool) -> Any:
    """`most` tokens at most behind each prompt. Nothing of the checkpoint's own habits counts: sampling, penalties,
    minimal lengths."""
    from transformers import GenerationConfig

    own = model.generation_config
    plain = GenerationConfig(
        max_new_tokens=most, do_sample=False, num_beams=1, pad_token_id=model.config.pad_token_id,
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id,
        decoder_start_token_id=own.decoder_start_token_id, **wanted,
    )  # fmt: skip
    model.generation_config = plain  # what is given to `generate` is filled up from it
    try:
        with _float32_logits(model):
            return model.generate(input_ids=questions["prompt_ids"], attention_mask=questions["prompt_mask"])
    finally:
        model.generation_config = own


def stop_where_answers_end(model: Any, tokenizer: Any) -> None:
    """Have `greedy` stop at the token that trained answers end in, beside those that the model names itself.

    Of the latter only where the tokenizer has no word by that number: a config may hold its family's default.
    """
    named = model.generation_config.eos_token_id
    own = named if isinstance(named, list) else [named]
    end = Words(tokenizer, bool(model.config.is_encoder_decoder)).ending[0]
    model.generation_config.eos_token_id = sorted({end, *control_tokens(tokenizer).keys() & own})
