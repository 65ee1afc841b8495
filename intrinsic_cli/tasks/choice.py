"""Classes told apart by words: the answer is the class whose words the model finds the most likely.

Source: Schick & Schütze 2021 (arXiv 2001.07676) for words that stand for classes; Brown et al. 2020 (arXiv
2005.14165), §2.4, for likelihoods divided by length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.tasks.classification import ClassAnswers
from intrinsic_cli.tasks.columns import as_in
from intrinsic_cli.tasks.lm import LanguageTask
from intrinsic_cli.tasks.prompts import Worded, Words, word_rows

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_cli.tasks.rows import Encoded, Part


class Choice(ClassAnswers, LanguageTask):
    """Trained on the right words' tokens; scored as classification, by the same columns."""

    kind = "choice"

    def words(self, names: Sequence[str]) -> list[str]:
        """The words of each class, in the order of their ids: the class names unless `task.words` says other ones.

        Raises ConfigError at classes without words, and at words of which some begin with others: the shorter
        could never be less likely.
        """
        given = {as_in(names, name): words for name, words in self.spec.words or ()}
        keys = [name if name in given else str(i) for i, name in enumerate(names)]
        if given and (set(keys) != set(given) or len(set(keys)) < len(names)):
            raise ConfigError(
                f"task.words is for {', '.join(given)}, and the classes are "
                f"{', '.join(f'{i} ({name})' for i, name in enumerate(names))}; give words for each of them"
            )
        return [given.get(key, name) for key, name in zip(keys, names, strict=True)]

    def word(self, part: Part, names: Sequence[str], words: Words, max_length: int) -> Worded:
        own = self.words(names)
        labels = [int(label) for label in part.labels]
        made = word_rows(words, part.texts, [own] * len(part), labels, max_length, end=False)
        if len(made):
            ends = made.answer_starts[: len(own) + 1]
            _check_prefixes(own, [made.answers[ends[i] : ends[i + 1]].tolist() for i in range(len(own))])
        return made

    def questions(self, encoded: Encoded, rows: Sequence[int]) -> dict[str, Tensor]:
        import torch

        from intrinsic_cli.tasks.language import collate_answers

        assert isinstance(encoded, Worded)
        every = [row for row in rows for _ in range(encoded.choices)]
        numbers = [row * encoded.choices + j for row in rows for j in range(encoded.choices)]
        right = torch.from_numpy(encoded.labels[list(rows)])
        return {**collate_answers(encoded, every, numbers), "right": right}

    def answer(self, model: Any, questions: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        from intrinsic_cli.tasks.language import IGNORED, answer_nats

        batch = {name: values for name, values in questions.items() if name != "right"}
        right = questions["right"][:, None]
        nats = answer_nats(model, batch).view(len(right), -1)
        lengths = (batch["labels"] != IGNORED).sum(1).view(len(right), -1)
        loss = nats.gather(1, right).sum() / lengths.gather(1, right).sum()
        cost = nats / lengths if self.spec.per_token else nats
        return loss, {"prediction": cost.argmin(1)}


def _check_prefixes(words: Sequence[str], tokens: Sequence[list[int]]) -> None:
    for i, short in enumerate(tokens):
        for j, long in enumerate(tokens):
            if i != j and long[: len(short)] == short:
                raise ConfigError(
                    f"task.words: {words[j]!r} begins with {words[i]!r} as this model reads them, so it can "
                    "never be the likelier one; choose other words"
                )
