"""Prompts and answers as tokens, for language models.

A decoder reads prompt and answer as one sequence; an encoder-decoder reads the prompt and writes the answer. Either
way only the answer's tokens are scored.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.tasks.rows import Encoded, Part, joined, starts
from intrinsic_cli.tasks.tokens import check_length, control_tokens, spells_control

log = logging.getLogger(__name__)

# Before a template that asks for today's date: it is always the one that Llama's templates have without a clock.
NO_CLOCK = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}{{ '' }}"


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

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text alone."""
        if not texts:
            return []
        return self._read(texts)["input_ids"]

    def _read(self, texts: Sequence[str], **options: bool) -> Any:
        """What the tokenizer makes of each text alone. Raises DataError at one that it reads a control token in."""
        made = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, **options)
        for text, row in zip(texts, made["input_ids"], strict=True):
            if not self._control.isdisjoint(row):
                raise spells_control(text)
        return made

    def measured(self, text: str) -> tuple[list[int], np.ndarray]:
        """The tokens of a text, and the bytes that each stands for, (tokens,): together all of the text's."""
        fast = getattr(self.tokenizer, "is_fast", False)
        made = self._read([text], return_offsets_mapping=fast)
        [tokens], n = made["input_ids"], len(text)
        if fast:
            ends = np.maximum.accumulate([0, *(end for _, end in made["offset_mapping"][0])])[1:]
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
        own = self.tokenizer.get_chat_template()
        template = NO_CLOCK + own if "strftime_now" in own else own
        made = self.tokenizer.apply_chat_template(
            turn, chat_template=template, add_generation_prompt=True, return_dict=True
        )
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
    check_length(words.tokenizer, max_length)
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
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in right]
    return _worded(words, ids, made, labels, sizes, right)


def answer_rows(words: Words, part: Part, max_length: int) -> Worded:
    """`word_rows` of one answer each, the row's label, which ends its text."""
    answers = [[str(label)] for label in part.labels]
    return word_rows(words, part.texts, answers, [0] * len(part), max_length, end=True)


def text_rows(words: Words, texts: Sequence[str], max_length: int, *, pack: bool) -> Worded:
    """Rows of a text alone, of which every token is scored: pieces of at most `max_length` tokens.

    Each begins with the token that stands before a text, which is not scored. With `pack`, texts are joined end to
    end, with the token that ends a text between them, and all pieces but the last are of one length.
    """
    if words.seq2seq:
        raise ConfigError(
            "an encoder-decoder answers prompts; set task.prompt and task.answer, or use a decoder"
        )
    check_length(words.tokenizer, max_length)
    made = [words.measured(text) for text in texts]
    if empty := sum(not tokens for tokens, _ in made):
        raise DataError(
            f"{empty} of {len(made)} texts are empty, so there is nothing to learn; remove those rows"
        )
    if pack:
        ended = ([*tokens, words.end] for tokens, _ in made)
        sizes = [np.append(sizes, 0) for _, sizes in made]
        made = [([token for tokens in ended for token in tokens], np.concatenate(sizes))]
    size = max_length - 1
    spans = [
        (tokens, sizes, slice(i, i + size)) for tokens, sizes in made for i in range(0, len(tokens), size)
    ]
    pieces = [tokens[span] for tokens, _, span in spans]
    n = len(pieces)
    counts = [int(sizes[span].sum()) for _, sizes, span in spans]
    return _worded(words, [[words.start]] * n, pieces, [0] * n, counts, [""] * n)


def _worded(
    words: Words, prompts: Sequence[list[int]], answers: Sequence[list[int]], labels: Sequence[int],
    sizes: Sequence[int], references: Sequence[str],
) -> Worded:  # fmt: skip
    return Worded(
        ids=joined(prompts), types=None, starts=starts(map(len, prompts)), labels=np.asarray(labels, np.int64),
        pad_id=words.tokenizer.pad_token_id, pad_type=0, padding_side="right",
        answers=joined(answers), answer_starts=starts(map(len, answers)), bytes=np.array(sizes, np.int64),
        references=tuple(references), seq2seq=words.seq2seq, tokenizer=words.tokenizer,
    )  # fmt: skip


def _last(prompt: list[int], room: int, opening: int) -> list[int]:
    """A prompt without what has no room behind its `opening` tokens, which stay where they leave any."""
    if len(prompt) <= room:
        return prompt
    kept = opening if opening < room else 0
    return [*prompt[:kept], *prompt[len(prompt) - max(room - kept, 1) :]]


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
