"""Metrics of a table of answers, by scikit-learn and SciPy: always finite, and told apart by their direction.

`Answers` are columns (n,) by name, row by row what a model answered and what was right: class ids (`prediction`,
`label`) or real values. Any metric of any rows is a function of those rows of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from intrinsic_cli.errors import DataError

Answers = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A number of a table of answers, which are of so many `classes`; None for any."""

    of: Callable[[Answers], float]
    higher_is_better: bool = True
    classes: int | None = None

    def __call__(self, answers: Answers) -> float:
        return float(self.of(answers))


def _accuracy(answers: Answers) -> float:
    return float(np.mean(answers["label"] == answers["prediction"]))


def _f1(answers: Answers) -> float:
    """F1 of class 1; 0 when class 1 is neither present nor predicted."""
    from sklearn.metrics import f1_score

    labels, predictions = answers["label"], answers["prediction"]
    if set(np.union1d(labels, predictions)) - {0, 1}:
        raise DataError("the metric f1 is for two classes (ids 0 and 1); use f1_macro for more")
    return f1_score(labels, predictions, pos_label=1, zero_division=0.0)


def _f1_macro(answers: Answers) -> float:
    from sklearn.metrics import f1_score

    return f1_score(answers["label"], answers["prediction"], average="macro", zero_division=0.0)


def _matthews(answers: Answers) -> float:
    """0, what chance gives, where all labels or all predictions are one class."""
    from sklearn.metrics import matthews_corrcoef

    labels, predictions = answers["label"], answers["prediction"]
    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        return 0.0
    return matthews_corrcoef(labels, predictions)


def _correlation(name: str) -> Callable[[Answers], float]:
    """A correlation of values; 0, what chance gives, where one side is constant."""

    def correlate(answers: Answers) -> float:
        from scipy import stats

        labels = answers["label"]
        predictions = np.asarray(answers["prediction"], dtype=np.float64)
        if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
            return 0.0
        return getattr(stats, name)(labels, predictions).statistic

    return correlate


CLASSIFICATION = {
    "accuracy": Metric(_accuracy),
    "f1": Metric(_f1, classes=2),
    "f1_macro": Metric(_f1_macro),
    "matthews": Metric(_matthews),
}
REGRESSION = {"pearson": Metric(_correlation("pearsonr")), "spearman": Metric(_correlation("spearmanr"))}


def best_constant(metric: Metric, labels: np.ndarray) -> float:
    """What answering one class to every row scores at best. labels: class ids (n,)."""
    classes = np.unique(labels)
    return max(metric({"label": labels, "prediction": np.full(len(labels), c)}) for c in classes)


def best_rounded(labels: np.ndarray, rounded: np.ndarray) -> float:
    """The lower correlation of right answers that can only be given as `rounded`; both (n,), float64."""
    # A correlation is the same wherever zero is, and is computed well where the numbers are small.
    answers = {"label": labels - labels[0], "prediction": rounded - labels[0]}
    return min(metric(answers) for metric in REGRESSION.values())
