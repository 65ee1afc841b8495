"""Answers written by the model, token by token, and compared with what is right."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.tasks.lm import LanguageTask
from intrinsic_cli.tasks.metrics import Answers, Metric
from intrinsic_cli.tasks.prompts import Worded, Words, answer_rows

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_cli.tasks.rows import Encoded, Part

NUMBER = re.compile(r"(?:(?<!\w)-)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)")
MARK = f"[{re.escape(string.punctuation)}]"
MARKS_AND_NUMBERS = re.compile(rf"({NUMBER.pattern})|(?<=\d)({MARK})(?=\d)|{MARK}")
MINUS = "\N{MINUS SIGN}"
MOST_CONSTANTS = 100  # answers tried as the one constant answer: the most frequent


def plain(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and articles. A number keeps its sign and its point,
    and loses the commas of its thousands; other punctuation between digits parts words. Articles alone, such as the
    letter of a choice, are the words.

    Source: the evaluation of SQuAD, Rajpurkar et al. 2016 (arXiv 1606.05250), with DROP's care for numbers, Dua et
    al. 2019 (arXiv 1903.00161): -4 is no 4, and 3.5 no 35.
    """
    bare = MARKS_AND_NUMBERS.sub(_without_marks, text.lower().replace(MINUS, "-"))
    words = bare.split()
    return [word for word in words if word not in ("a", "an", "the")] or words


def _without_marks(found: re.Match[str]) -> str:
    number, between = found.groups()
    return number.replace(",", "") if number else " " if between else ""


def exact_match(answer: str, right: str) -> float:
    """1 where the answers' `plain` words are the same, or, where there are none, the texts."""
    ours, theirs = plain(answer), plain(right)
    return float(ours == theirs) if ours or theirs else _same(answer, right)


def _same(answer: str, right: str) -> float:
    """Whether two texts without words are one."""
    return float(answer.strip() == right.strip())


def number_match(answer: str, right: str) -> float:
    """1 where the last number of the answer is that of what is right."""
    found, wanted = (NUMBER.findall(text.replace(MINUS, "-")) for text in (answer, right))
    if not found or not wanted:
        return 0.0
    ours, theirs = (Decimal(numbers[-1].replace(",", "")) for numbers in (found, wanted))
    return float(ours == theirs)


def token_f1(answer: str, right: str) -> float:
    """Harmonic mean of the shares of `plain` words that two answers have in common (as SQuAD's)."""
    ours, theirs = plain(answer), plain(right)
    if not ours or not theirs:
        return 0.0 if ours or theirs else _same(answer, right)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def rouge_l(answer: str, right: str) -> float:
    """F1 of the longest common subsequence of words in lower case.

    Source: Lin 2004, ROUGE (aclanthology W04-1013), with equal weights and without stemming.
    """
    ours, theirs = (re.findall(r"\w+", text.lower()) for text in (answer, right))
    if not ours or not theirs:
        return 0.0 if ours or theirs else _same(answer, right)
    return 2 * _common(ours, theirs) / (len(ours) + len(theirs))


def _common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """The length of the longest common subsequence, with a bit for each of `theirs` (Hyyrö 2004): a bit that is
    cleared is one more."""
    places: dict[str, int] = {}
    for i, word in enumerate(theirs):
        places[word] = places.get(word, 0) | 1 << i
    row = full = (1 << len(theirs)) - 1
    for word in ours:
        shared = row & places.get(word, 0)
        row = ((row + shared) | (row - shared)) & full
    return len(theirs) - row.bit_count()


MARKS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": exact_match, "number_match": number_match, "token_f1": token_f1, "rouge_l": rouge_l,
}  # fmt: skip


def _mean(name: str, answers: Answers) -> float:
    return float(answers[name].mean())


class Generation(LanguageTask):
    """Greedy decoding of up to `task.max_new_tokens`. Its columns are the marks, from 0 to 1, of each row."""

    kind = "generation"
    writes = True
    metrics: ClassVar[Mapping[str, Metric]] = {name: Metric(partial(_mean, name)) for name in MARKS}

    def word(self, part: Part, names: Sequence[str], words: Words, max_length: int) -> Worded:
        made = answer_rows(words, part, max_length)
        longest = 0 if words.seq2seq or not len(made) else int(np.diff(made.starts).max())
        room = words.tokenizer.model_max_length - longest
        if self.spec.max_new_tokens > room:
            raise ConfigError(
                f"task.max_new_tokens={self.spec.max_new_tokens} behind a prompt of {longest} tokens is more than "
                f"the {words.tokenizer.model_max_length} that the model reads; use {max(room, 1)} or fewer, or a "
                "smaller data.max_length"
            )
        return made

    def questions(self, encoded: Encoded, rows: Sequence[int]) -> dict[str, Tensor]:
        from intrinsic_cli.tasks.language import collate_prompts

        assert isinstance(encoded, Worded)
        return {**self.batch(encoded, rows), **collate_prompts(encoded, rows)}

    def answer(self, model: Any, questions: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        from intrinsic_cli.tasks.language import IGNORED, answer_nats, greedy

        batch = {name: questions[name] for name in ("input_ids", "attention_mask", "labels")}
        loss = answer_nats(model, batch).sum() / (batch["labels"] != IGNORED).sum()
        return loss, {"written": greedy(model, questions, self.spec.max_new_tokens)}

    def blank(self, n: int) -> dict[str, np.ndarray]:
        return {"written": np.zeros((n, self.spec.max_new_tokens), np.int64)}

    def table(self, encoded: Encoded, columns: Answers) -> Answers:
        assert isinstance(encoded, Worded)
        texts = encoded.tokenizer.batch_decode(columns["written"], skip_special_tokens=True)
        return self._marks(texts, encoded.references)

    def _marks(self, texts: Sequence[str], references: Sequence[str]) -> Answers:
        pairs = list(zip(texts, references, strict=True))
        return {
            name: np.array([MARKS[name](ours, theirs) for ours, theirs in pairs])
            for name in self.spec.metrics
        }

    def outcomes(self, answers: Answers) -> np.ndarray:
        return answers[self.primary]

    def chance(self, metric: str, encoded: Encoded) -> float:
        """The best that one answer to every row does, of those that are right most often."""
        assert isinstance(encoded, Worded)
        references = encoded.references
        often = [text for text, _ in Counter(references).most_common(MOST_CONSTANTS)]
        return max(float(np.mean([MARKS[metric](text, right) for right in references])) for text in often)
