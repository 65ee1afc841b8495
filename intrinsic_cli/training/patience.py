"""Stop after some evaluations without a better score, and keep the best."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from intrinsic_cli.tasks.metrics import Answers
from intrinsic_cli.training.snapshot import Snapshot


class Patience:
    """Stop after `limit` evaluations without a better score, and keep the best. None never stops."""

    def __init__(self, limit: int | None, higher_is_better: bool = True) -> None:
        self.limit = limit
        self.best: float | None = None
        self.waited = 0
        self._sign = 1 if higher_is_better else -1
        self._scores: dict[str, float] = {}
        self._answers: Answers = {}
        self._weights: list[Tensor] = []

    @property
    def spent(self) -> bool:
        return self.limit is not None and self.waited >= self.limit

    def see(
        self, score: float, scores: dict[str, float], answers: Answers, weights: list[nn.Parameter]
    ) -> None:
        """An evaluation: its primary score, all scores, the answers they are of, and what was trained."""
        if self.limit is None:
            return
        if self.best is None or self._sign * score > self._sign * self.best:
            self.best, self.waited, self._scores, self._answers = score, 0, scores, answers
            self._weights = [w.detach().clone() for w in weights]
        else:
            self.waited += 1

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps beside `tensors`: JSON."""
        return {"best": self.best, "waited": self.waited, "scores": self._scores}

    def tensors(self) -> dict[str, Tensor]:
        """The best evaluation's weights and answers by name, for a snapshot."""
        weights = {f"best.{i}": w.cpu().contiguous() for i, w in enumerate(self._weights)}
        return weights | {f"answers.{name}": torch.from_numpy(v) for name, v in self._answers.items()}

    def restore_state(self, saved: Snapshot, weights: list[nn.Parameter]) -> None:
        """Go on from a snapshot."""
        state = saved.state["patience"]
        if state["best"] is not None:
            self.best, self.waited, self._scores = state["best"], state["waited"], state["scores"]
            self._weights = [saved.tensors[f"best.{i}"].to(w.device) for i, w in enumerate(weights)]
            named = {key.partition(".")[::2]: tensor for key, tensor in saved.tensors.items()}
            self._answers = {name: t.numpy() for (part, name), t in named.items() if part == "answers"}

    @torch.no_grad()
    def restore(self, weights: list[nn.Parameter]) -> tuple[dict[str, float], Answers]:
        """Put the best evaluation's weights back; returns its scores and answers."""
        for weight, best in zip(weights, self._weights, strict=True):
            weight.copy_(best)
        return self._scores, self._answers
