"""What language models read and write: prompts and answers as tokens, their batches, and what each answer costs.

A decoder reads prompt and answer as one sequence; an encoder-decoder reads the prompt and writes the answer. Either
way only the answer's tokens are scored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.tasks.rows import Encoded
from intrinsic_cli.tasks.tokens import control_tokens

log = logging.getLogger(__name__)
IGNORED = -100  # the label of a position that is not scored, as transformers has it
MOST_LOGITS = 2**27  # numbers that a forward pass of an evaluation makes: half a GiB of float32


@dataclass(frozen=True)
class Worded(Encoded):
    """n rows of a prompt (`ids`, `starts` of `Encoded`) and K possible answers each.

    Answer j of row i is `answers[answer_starts[k]:answer_starts[k + 1]]`, k = i K + j; `answers` is int32. `labels`
    says which answer is right, (n,) int64 from 0. `bytes` (n,) int64 are those of the right answer's text as UTF-8.
    `references` are those texts, and `tokenizer` turns tokens into texts. `seq2seq` tells an encoder-decoder's rows
    from a decoder's.
    """

    answers: np.ndarray
    answer_starts: np.ndarray
    bytes: np.ndarray
    references: tuple[str, ...]
    seq2seq: bool
    tokenizer: Any

    @property
    def choices(self) -> int:
        """K."""
        return (len(self.answer_starts) - 1) // max(1, len(self))

    @property
    def answer_lengths(self) -> np.ndarray:
        """Tokens of each answer, (n, K)."""
        return np.diff(self.answer_starts).reshape(len(self), -1)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row with its longest answer, (n,): what batches are sorted by."""
        return np.diff(self.starts) + (self.answer_lengths.max(1) if len(self) else 0)

    @property
    def tokens(self) -> np.ndarray:
        return np.concatenate([self.ids, self.answers])

    def right(self, rows: Sequence[int]) -> np.ndarray:
        """Numbers k of the right answers of `rows`."""
        chosen = np.asarray(rows, np.int64)
        return chosen * self.choices + self.labels[chosen]

    def scored(self, rows: Sequence[int]) -> np.ndarray:
        """How many tokens the right answers of `rows` have, (len(rows),)."""
        return np.diff(self.answer_starts)[self.right(rows)]

    def first(self, n: int) -> Worded:
        n = min(n, len(self))
        ends = self.answer_starts[: n * self.choices + 1]
        return replace(
            self, ids=self.ids[: self.starts[n]], starts=self.starts[: n + 1], labels=self.labels[:n],
            answers=self.answers[: ends[-1]], answer_starts=ends, bytes=self.bytes[:n],
            references=self.references[:n],
        )  # fmt: skip


class Words:
    """A tokenizer as a language model's rows need it. What spells a control token in a row is text."""

    def __init__(self, tokenizer: Any, seq2seq: bool, chat: bool = False) -> None:
        if chat and not getattr(tokenizer, "chat_template", None):
            raise ConfigError(
                "task.chat=true: the tokenizer of this model has no chat template; leave it out"
            )
        self.tokenizer, self.seq2seq, self.chat = tokenizer, seq2seq, chat
        end, start = tokenizer.eos_token_id, tokenizer.bos_token_id
        self.end: int = tokenizer.pad_token_id if end is None else end
        self.start: int = self.end if start is None else start
        self._control = frozenset(control_tokens(tokenizer))
        [bare], full = self.tokens(["a"]), tokenizer("a")["input_ids"]
        at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        self._before, self._behind = full[:at], full[at + len(bare) :]  # what it puts around every text
        self.ending: list[int] = (seq2seq and self._behind) or [self.end]  # of an answer

    def check_length(self, max_length: int) -> None:
        """Raise ConfigError where rows may have more tokens than the model reads."""
        most = self.tokenizer.model_max_length
        if max_length > most:
            raise ConfigError(
                f"data.max_length={max_length} is above the {most} tokens the model reads; "
                f"set data.max_length={most}"
            )

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text alone."""
        if not texts:
            return []
        made = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        for text, row in zip(texts, made, strict=True):
            if not self._control.isdisjoint(row):
                raise DataError(
                    f"the row {text!r:.60} spells a control token of the tokenizer; take it out of the text"
                )
        return made

    def measured(self, text: str) -> tuple[list[int], np.ndarray]:
        """The tokens of a text, and the bytes that each stands for, (tokens,): together all of the text's."""
        fast = getattr(self.tokenizer, "is_fast", False)
        made = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=fast
        )
        tokens, n = made["input_ids"], len(text)
        if fast:
            ends = np.maximum.accumulate([0, *(end for _, end in made["offset_mapping"])])[1:]
        else:
            ends = np.linspace(0, n, len(tokens) + 1).astype(int)[1:]
        ends[-1:] = n
        place = np.cumsum([0, *(len(letter.encode("utf-8", "surrogatepass")) for letter in text)])
        return tokens, np.diff(place[ends], prepend=0)

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens before each answer; a decoder has one at least, from which it predicts the first."""
        if self.chat:
            return [self._turn(text) for text in texts]
        if self.seq2seq:
            return [[*self._before, *row, *self._behind] for row in self.tokens(texts)]
        rows = self.tokens([_parted(text)[0] for text in texts])
        return [[*self._before, *row] or [self.start] for row in rows]

    def _turn(self, text: str) -> list[int]:
        if self._control.isdisjoint(self.tokenizer(text, add_special_tokens=False)["input_ids"]):
            return self._in_template(text)
        before, behind = self._frame
        return [*before, *self.tokens([text])[0], *behind]

    def _in_template(self, text: str) -> list[int]:
        turn = [{"role": "user", "content": text}]
        made = self.tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)
        return list(made["input_ids"])

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """What the chat template puts before a text, and behind it: where two turns differ, the texts stand."""
        one, other = map(self._in_template, ("a", "b"))
        return _shared(one, other), _shared(one[::-1], other[::-1])[::-1]

    @property
    def opening(self) -> int:
        """With how many tokens every prompt begins, whatever it says: those stay where one is cut."""
        return len(self._frame[0] if self.chat else self._before)

    def answers(self, prompts: Sequence[str], texts: Sequence[str], end: bool) -> list[list[int]]:
        """The tokens of each answer behind its prompt, as a text of both has them; with `end`, and that it ends.

        A space stands between the two, unless the prompt ends in white space.
        """
        if self.seq2seq:
            behind = self.ending if end else []
            return [[*self._before, *row, *behind] for row in self.tokens(texts)]
        if self.chat:
            made = self.tokens(texts)
        else:
            bare, gaps = zip(*map(_parted, prompts), strict=True) if prompts else ((), ())
            whole = self.tokens(["".join(part) for part in zip(bare, gaps, texts, strict=True)])
            before = self.tokens(bare)
            made = [row[len(head) :] for head, row in zip(before, whole, strict=True)]
            joint = [
                i for i, (head, row) in enumerate(zip(before, whole, strict=True)) if row[: len(head)] != head
            ]
            apart = self.tokens([gaps[i] + texts[i] for i in joint])  # where the two have a token in common
            for i, row in zip(joint, apart, strict=True):
                made[i] = row
        return [[*row, *self.ending] for row in made] if end else made


def _shared(one: list[int], other: list[int]) -> list[int]:
    """What two lists begin with."""
    return [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]


def _parted(prompt: str) -> tuple[str, str]:
    """A prompt without the spaces at its end, and what stands between it and an answer: those, or one unless it
    ends in other white space. To a tokenizer a space belongs to the word behind it."""
    bare = prompt.rstrip(" ")
    return bare, prompt[len(bare) :] or ("" if not bare or bare[-1].isspace() else " ")


def word_rows(
    words: Words, prompts: Sequence[str], answers: Sequence[Sequence[str]], labels: Sequence[int],
    max_length: int, *, end: bool,
) -> Worded:  # fmt: skip
    """Rows of one prompt and K answers each, as tokens. `end` adds the token that ends a text to each answer.

    A prompt that leaves its answers less room than they need within `max_length` tokens loses its beginning.
    Raises DataError at answers that are empty, or too long by themselves.
    """
    words.check_length(max_length)
    tokenizer = words.tokenizer
    texts = [text for row in answers for text in row]
    heads = [prompt for prompt, row in zip(prompts, answers, strict=True) for _ in row]
    made = words.answers(heads, texts, end)
    _check_answers(texts, made, max_length, words.seq2seq)
    choices = len(made) // max(1, len(prompts))
    longest = [max(map(len, made[k : k + choices])) for k in range(0, len(made), max(1, choices))]
    rooms = [max_length - (0 if words.seq2seq else most) for most in longest]
    whole = words.prompts(prompts)
    ids = [_last(row, room, words.opening) for row, room in zip(whole, rooms, strict=True)]
    if cut := sum(len(row) > len(kept) for row, kept in zip(whole, ids, strict=True)):
        log.warning(
            "%d of %d prompts have more tokens than data.max_length=%d leaves them, and lose their beginning",
            cut, len(ids), max_length,
        )  # fmt: skip
    right = [row[label] for row, label in zip(answers, labels, strict=True)]
    return Worded(
        ids=_joined(ids), types=None, starts=_starts(ids), labels=np.asarray(labels, np.int64),
        pad_id=tokenizer.pad_token_id, pad_type=0, padding_side="right",
        answers=_joined(made), answer_starts=_starts(made),
        bytes=np.array([len(text.encode("utf-8", "surrogatepass")) for text in right], np.int64),
        references=tuple(right), seq2seq=words.seq2seq, tokenizer=tokenizer,
    )  # fmt: skip


def text_rows(words: Words, texts: Sequence[str], max_length: int, *, pack: bool) -> Worded:
    """Rows of a text alone, of which every token is scored: pieces of at most `max_length` tokens.

    Each begins with the token that stands before a text, which is not scored. With `pack`, texts are joined end to
    end, with the token that ends a text between them, and all pieces but the last are of one length.
    """
    if words.seq2seq:
        raise ConfigError(
            "an encoder-decoder answers prompts; set task.prompt and task.answer, or use a decoder"
        )
    words.check_length(max_length)
    made = [words.measured(text) for text in texts]
    if empty := sum(not tokens for tokens, _ in made):
        raise DataError(
            f"{empty} of {len(made)} texts are empty, so there is nothing to learn; remove those rows"
        )
    if pack:
        joined = ([*tokens, words.end] for tokens, _ in made)
        sizes = [np.append(sizes, 0) for _, sizes in made]
        made = [([token for tokens in joined for token in tokens], np.concatenate(sizes))]
    size = max_length - 1
    spans = [
        (tokens, sizes, slice(i, i + size)) for tokens, sizes in made for i in range(0, len(tokens), size)
    ]
    pieces = [tokens[span] for tokens, _, span in spans]
    starts = [[words.start]] * len(pieces)
    return Worded(
        ids=_joined(starts), types=None, starts=_starts(starts), labels=np.zeros(len(pieces), np.int64),
        pad_id=words.tokenizer.pad_token_id, pad_type=0, padding_side="right",
        answers=_joined(pieces), answer_starts=_starts(pieces),
        bytes=np.array([sizes[span].sum() for _, sizes, span in spans], np.int64),
        references=("",) * len(pieces), seq2seq=False, tokenizer=words.tokenizer,
    )  # fmt: skip


def _joined(rows: Sequence[list[int]]) -> np.ndarray:
    return np.fromiter((token for row in rows for token in row), np.int32)


def _last(prompt: list[int], room: int, opening: int) -> list[int]:
    """A prompt without what has no room behind its `opening` tokens, which stay where they leave any."""
    if len(prompt) <= room:
        return prompt
    kept = opening if opening < room else 0
    return [*prompt[:kept], *prompt[len(prompt) - max(room - kept, 1) :]]


def _starts(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.cumsum([0, *map(len, rows)], dtype=np.int64)


def _check_answers(texts: Sequence[str], made: Sequence[list[int]], max_length: int, seq2seq: bool) -> None:
    if empty := sum(not text.strip() or not row for text, row in zip(texts, made, strict=True)):
        raise DataError(
            f"{empty} of {len(made)} answers are empty, so there is nothing to learn; fill or remove those rows"
        )
    most = max_length if seq2seq else max_length - 1
    if long := sum(len(row) > most for row in made):
        longest = max(map(len, made))
        raise DataError(
            f"{long} of {len(made)} answers have more tokens than data.max_length={max_length} leaves them, the "
            f"longest {longest}; set data.max_length={longest + 32} or remove those rows"
        )


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
        "input_ids": _padded(inputs, encoded.pad_id),
        "attention_mask": _padded([np.ones(len(row)) for row in inputs], 0),
        "labels": _padded(labels, IGNORED),
    }


def _padded(rows: Sequence[np.ndarray], fill: int, left: bool = False) -> Tensor:
    width = max(map(len, rows))
    out = np.full((len(rows), width), fill, np.int64)
    for i, row in enumerate(rows):
        out[i, width - len(row) if left else 0 : width if left else len(row)] = row
    return torch.from_numpy(out)


def collate_prompts(encoded: Worded, rows: Sequence[int]) -> dict[str, Tensor]:
    """The prompts alone, `prompt_ids` and `prompt_mask` (b, tokens); a decoder's are padded on the left."""
    prompts = [encoded.ids[encoded.starts[i] : encoded.starts[i + 1]] for i in rows]
    left = not encoded.seq2seq
    return {
        "prompt_ids": _padded(prompts, encoded.pad_id, left),
        "prompt_mask": _padded([np.ones(len(row)) for row in prompts], 0, left),
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
