"""Scores by scikit-learn and SciPy, always finite, and what a constant answer would score."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import numpy as np

from intrinsic_cli.errors import ConfigError, DataError, RunError


def _accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def _f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """F1 of class 1; 0 when class 1 is neither present nor predicted."""
    from sklearn.metrics import f1_score

    if set(np.union1d(labels, predictions)) - {0, 1}:
        raise DataError("the metric f1 is for two classes (ids 0 and 1); use f1_macro for more")
    return float(f1_score(labels, predictions, pos_label=1, zero_division=0.0))


def _f1_macro(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", zero_division=0.0))


def _matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def _correlation(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    def correlate(labels: np.ndarray, predictions: np.ndarray) -> float:
        from scipy import stats

        if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
            return 0.0
        return float(getattr(stats, name)(labels, predictions).statistic)

    return correlate


CLASSIFICATION = {"accuracy": _accuracy, "f1": _f1, "f1_macro": _f1_macro, "matthews": _matthews}
REGRESSION = {"pearson": _correlation("pearsonr"), "spearman": _correlation("spearmanr")}
METRICS = CLASSIFICATION | REGRESSION


def check(metrics: Sequence[str], *, regression: bool) -> None:
    """Raise ConfigError at an unknown metric, or one that does not fit the kind of task."""
    allowed = REGRESSION if regression else CLASSIFICATION
    for name in metrics:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            kind = "regression" if regression else "classification"
            hint = f"did you mean {near[0]}?" if near else f"use {', '.join(allowed)}"
            raise ConfigError(f"task.metrics: {name!r} is no {kind} metric; {hint}")


def score(metrics: Sequence[str], predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Every metric by name. `predictions` and `labels` have shape (n,): class ids, or real values.

    A correlation (matthews, pearson, spearman) with a constant side has no value; it scores 0.0, what
    chance gives. Raises RunError at predictions that are not finite, ConfigError at an unknown metric.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or predictions.ndim != 1 or not len(labels):
        raise ValueError(
            f"predictions {predictions.shape} and labels {labels.shape} must both be (n,), n > 0"
        )
    if bad := int(np.sum(~np.isfinite(predictions))):
        raise RunError(
            f"{bad} of {len(predictions)} predictions are not finite; a lower learning rate may help"
        )
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ConfigError(f"task.metrics: unknown {unknown}; use {', '.join(METRICS)}")
    if predictions.dtype.kind == "f":
        predictions = predictions.astype(np.float64)
    values = {name: METRICS[name](labels, predictions) for name in metrics}
    if broken := [name for name, value in values.items() if not np.isfinite(value)]:
        raise RunError(f"{', '.join(broken)} of these predictions is not a finite number")
    return values


def chance(metric: str, labels: np.ndarray) -> float:
    """What always answering the most frequent class scores; 0.0 for the correlations. labels: (n,)."""
    if metric not in CLASSIFICATION:
        return 0.0
    majority = np.bincount(np.asarray(labels, dtype=np.int64)).argmax()
    return score((metric,), np.full(len(labels), majority), labels)[metric]
