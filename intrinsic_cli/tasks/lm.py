"""The loss of a language model: on whole texts, or on the answers to prompts."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from intrinsic_cli import history
from intrinsic_cli.errors import ModelError, RunError
from intrinsic_cli.tasks.metrics import Answers, Metric
from intrinsic_cli.tasks.prompts import Worded, Words, answer_rows, text_rows
from intrinsic_cli.tasks.task import Base, Task

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_cli.tasks.rows import Encoded, Part


HIGHEST = math.log(history.HIGHEST)  # nats per token, of which the history can hold the perplexity


def _loss(answers: Answers) -> float:
    return float(answers["nats"].sum() / answers["tokens"].sum())


def _perplexity(answers: Answers) -> float:
    loss = _loss(answers)
    if loss >= HIGHEST:
        raise RunError(
            f"a loss of {loss:.4g} nats per token has no perplexity that fits a number; a run that diverged "
            "needs a smaller lr, and task.metrics=loss has no such end"
        )
    return math.exp(loss)


def _bits_per_byte(answers: Answers) -> float:
    return float(answers["nats"].sum() / answers["bytes"].sum() / math.log(2))


class LanguageTask(Task):
    """A task whose answers are words: what its kinds share.

    The model is the family's own language model, of which every weight is pre-trained; the loss is that of the
    right answer's tokens, in nats per token.
    """

    classes = False
    fresh_head = False

    @classmethod
    def settings(cls, num_labels: int) -> dict[str, Any]:
        return {}

    @classmethod
    def model_class(cls, config: Any) -> str:
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            MODEL_FOR_MASKED_LM_MAPPING_NAMES,
            MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        )

        kind = config.model_type
        if (
            getattr(config, "is_encoder_decoder", False)
            and kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
        ):
            return "AutoModelForSeq2SeqLM"
        encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
        if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or encoder:
            alone = " without its decoder" if kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES else ""
            raise ModelError(
                f"a {kind} model{alone} reads texts and writes none, as task.kind={cls.kind} needs; choose a "
                "decoder such as model=gpt2 or an encoder-decoder such as model=t5-small"
            )
        return "AutoModelForCausalLM"

    def encode(self, part: Part, names: Sequence[str], base: Base, max_length: int) -> Worded:
        seq2seq = bool(getattr(base.model.config, "is_encoder_decoder", False))
        return self.word(part, names, Words(base.tokenizer, seq2seq, self.spec.chat), max_length)

    @abstractmethod
    def word(self, part: Part, names: Sequence[str], words: Words, max_length: int) -> Worded:
        """`encode` by a tokenizer."""

    def batch(self, encoded: Encoded, rows: Sequence[int]) -> dict[str, Tensor]:
        from intrinsic_cli.tasks.language import collate_answers

        assert isinstance(encoded, Worded)
        return collate_answers(encoded, rows, encoded.right(rows).tolist())

    def weight(self, encoded: Encoded, rows: Sequence[int]) -> int:
        assert isinstance(encoded, Worded)
        return int(encoded.scored(rows).sum())

    def loss(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        from intrinsic_cli.tasks.language import IGNORED, nats

        return nats(model, batch).sum() / (batch["labels"] != IGNORED).sum()


class LanguageModelling(LanguageTask):
    """The loss itself is the score: lower is better. Its columns are `nats`, `tokens` and `bytes` of each row.

    Rows are answers to prompts, or texts: cut into pieces of `data.max_length` tokens, or packed end to end into
    pieces of that length.
    """

    kind = "lm"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric(_loss, higher_is_better=False),
        "perplexity": Metric(_perplexity, higher_is_better=False),
        "bits_per_byte": Metric(_bits_per_byte, higher_is_better=False),
    }

    def word(self, part: Part, names: Sequence[str], words: Words, max_length: int) -> Worded:
        if self.spec.answer is None:
            return text_rows(words, part.texts, max_length, pack=self.spec.pack)
        return answer_rows(words, part, max_length)

    def answer(self, model: Any, questions: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        from intrinsic_cli.tasks.language import IGNORED, answer_nats

        each = answer_nats(model, questions)
        return each.sum() / (questions["labels"] != IGNORED).sum(), {"nats": each}

    def blank(self, n: int) -> dict[str, np.ndarray]:
        return {"nats": np.zeros(n, np.float64)}

    def table(self, encoded: Encoded, columns: Answers) -> Answers:
        assert isinstance(encoded, Worded)
        return {**columns, "tokens": encoded.scored(range(len(encoded))), "bytes": encoded.bytes}

    def outcomes(self, answers: Answers) -> np.ndarray:
        return answers["nats"] / answers["tokens"]

    def chance(self, metric: str, encoded: Encoded) -> float:
        """The best that one distribution over tokens does, the same at every place: their frequencies."""
        assert isinstance(encoded, Worded)
        tokens = encoded.answers
        counts = np.bincount(tokens)
        cost = -np.log(np.maximum(counts, 1) / len(tokens))
        owner = np.repeat(np.arange(len(encoded)), encoded.scored(range(len(encoded))))
        nats = np.bincount(owner, cost[tokens], minlength=len(encoded))
        return self.metrics[metric](self.table(encoded, {"nats": nats}))
