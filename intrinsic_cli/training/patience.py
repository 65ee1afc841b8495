"""Stop after some evaluations without a better score, and keep the best."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from intrinsic_cli.training.snapshot import Snapshot


class Patience:
    """Stop after `limit` evaluations without a better score, and keep the best. None never stops."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.best = -math.inf
        self.waited = 0
        self._scores: dict[str, float] = {}
        self._weights: list[Tensor] = []

    @property
    def spent(self) -> bool:
        return self.limit is not None and self.waited >= self.limit

    def see(self, score: float, scores: dict[str, float], weights: list[nn.Parameter]) -> None:
        if self.limit is None:
            return
        if score > self.best:
            self.best, self.waited, self._scores = score, 0, scores
            self._weights = [w.detach().clone() for w in weights]
        else:
            self.waited += 1

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps beside `tensors`: JSON."""
        return {"best": self.best if self._weights else None, "waited": self.waited, "scores": self._scores}

    def tensors(self) -> dict[str, Tensor]:
        """The best evaluation's weights by name, for a snapshot."""
        return {f"best.{i}": w.cpu().contiguous() for i, w in enumerate(self._weights)}

    def restore_state(self, saved: Snapshot, weights: list[nn.Parameter]) -> None:
        """Go on from a snapshot."""
        state = saved.state["patience"]
        if state["best"] is not None:
            self.best, self.waited, self._scores = state["best"], state["waited"], state["scores"]
            self._weights = [saved.tensors[f"best.{i}"].to(w.device) for i, w in enumerate(weights)]

    @torch.no_grad()
    def restore(self, weights: list[nn.Parameter]) -> dict[str, float]:
        """Put the best evaluation's weights back and return its scores."""
        for weight, best in zip(weights, self._weights, strict=True):
            weight.copy_(best)
        return self._scores
