"""What each row of a validation set adds to a score, so that a score's noise by its rows can be read off them.

A metric that is a mean over rows adds each row's value. Another is a smooth function of such means (of a
confusion matrix, of moments): its influence function says to first order what a row adds (Hampel 1974; the
infinitesimal jackknife, Efron 1982).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.statistics.points import Floats

INFLUENCES = ("accuracy", "f1", "f1_macro", "matthews", "pearson", "spearman")
CORRELATIONS = ("matthews", "pearson", "spearman")  # of chance they have 0, whatever the rows are
LOSSES = {"loss": "tokens", "perplexity": "tokens", "bits_per_byte": "bytes"}  # nats per what
MARKS = ("exact_match", "number_match", "token_f1", "rouge_l")  # means of a mark of each row, from 0 to 1
BLOCKS = 2048  # rows are summed into at most so many blocks: enough to tell a covariance


def of_answers(metric: str, answers: Mapping[str, NDArray]) -> NDArray | None:
    """What each row adds to a metric, (n,) as of `influence`, from a run's answers: the columns of its task's
    table. None where the columns do not tell."""
    if metric in INFLUENCES and {"prediction", "label"} <= answers.keys():
        return influence(metric, answers["prediction"], answers["label"])
    if metric in MARKS and metric in answers:
        return np.asarray(answers[metric], dtype=np.float32)
    if metric in LOSSES and {"nats", LOSSES[metric]} <= answers.keys():
        each = np.stack([answers["nats"], answers[LOSSES[metric]]], axis=1).astype(float)
        rows = _expand(each, {"loss": _ratio, "perplexity": _perplexity, "bits_per_byte": _bits}[metric])
        return rows if np.all(np.isfinite(rows)) else None  # a perplexity may be beyond float32
    return None


def influence(metric: str, predictions: NDArray, labels: NDArray) -> NDArray:
    """The score plus each row's influence on it: (n,), with the score as its mean to first order; whether it is
    right, as bool, for accuracy, else float32.

    predictions, labels (n,): class ids or numbers. A score that a constant side leaves undefined is 0, and
    so are the influences. Raises ConfigError at an unknown metric.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if metric == "accuracy":
        return predictions == labels
    if metric in ("f1", "f1_macro", "matthews"):
        classes = np.unique(np.concatenate([labels, predictions, [0, 1] if metric == "f1" else []]))
        true, said = (np.searchsorted(classes, side) for side in (labels, predictions))
        one = np.eye(classes.size, dtype=bool)
        each = np.concatenate([one[true] & one[said], one[true], one[said]], axis=1).astype(float)
        of_mean = {"f1": _f1, "f1_macro": _f1_macro, "matthews": _matthews}[metric]
        return _expand(each, lambda mean: of_mean(*np.split(mean, 3, axis=-1)))
    if metric in ("pearson", "spearman"):
        x, y = (np.asarray(side, dtype=float) for side in (labels, predictions))
        if metric == "spearman":
            from scipy.stats import rankdata

            x, y = rankdata(x), rankdata(y)
        x, y = ((side - side.mean()) / (side.std() or 1.0) for side in (x, y))
        return _expand(np.stack([x, y, x * y, x * x, y * y], axis=1), _correlation)
    raise ConfigError(f"the metric {metric!r} has no influence of rows; use accuracy, f1 or a correlation")


def _expand(each: Floats, of_mean: Callable[[Floats], Floats]) -> NDArray:
    """of_mean at the mean of `each` (n, m), plus its slopes times each row's distance from that mean."""
    mean, step = each.mean(axis=0), 1e-6
    shifts = np.eye(mean.size) * step
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = (of_mean(mean + shifts) - of_mean(mean - shifts)) / (2 * step)
        value = of_mean(mean)
    if not (np.isfinite(value) and np.all(np.isfinite(slopes))):
        return np.zeros(len(each), dtype=np.float32)
    with np.errstate(over="ignore"):  # `of_answers` looks at what comes of it
        return (value + (each - mean) @ slopes).astype(np.float32)


def _f1(hit: Floats, true: Floats, said: Floats) -> Floats:
    """Each (..., k): shares of rows that are rightly said, truly and said to be of each class; here of 1 of two."""
    return 2 * hit[..., 1] / (true[..., 1] + said[..., 1])


def _f1_macro(hit: Floats, true: Floats, said: Floats) -> Floats:
    return np.mean(2 * hit / (true + said), axis=-1)


def _matthews(hit: Floats, true: Floats, said: Floats) -> Floats:
    """Gorodkin 2004, on shares."""
    total = true.sum(-1)
    spread = [total**2 - np.sum(side**2, axis=-1) for side in (true, said)]
    return (hit.sum(-1) * total - np.sum(true * said, axis=-1)) / np.sqrt(spread[0] * spread[1])


def _correlation(m: Floats) -> Floats:
    """m (..., 5): means of x, y, xy, xx, yy."""
    x, y, xy, xx, yy = np.moveaxis(m, -1, 0)
    return (xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y))


def _ratio(m: Floats) -> Floats:
    """m (..., 2): means of nats and of what they are shared among."""
    return m[..., 0] / m[..., 1]


def _perplexity(m: Floats) -> Floats:
    return np.exp(_ratio(m))


def _bits(m: Floats) -> Floats:
    return _ratio(m) / np.log(2)


def sampling_variance(metric: str, score: Floats, n: int, chance: float = 0.0) -> Floats:
    """The least variance of a score over n rows that the score alone tells: as `score`; 0 where it tells none.

    accuracy: binomial. f1: of as many rows called positive as are, f (1 - f) (2 - f) / 2 over their number, which
    follows from the `chance` of calling all so, 2 q / (1 + q) for a share q; without it, and marks of answers: as a
    share of at most n rows. A score of 1 says no more than that one row in n + 2 may be wrong (Laplace's rule of
    succession), and one of 0 likewise. matthews: of a binary table with even margins, where it is 2 accuracy - 1.
    pearson, spearman: of a normal pair (Fisher 1915).
    """
    if metric == "f1" and 0 < chance <= 1:
        positive = n * chance / (2 - chance)
        f = _doubted(score, 2 * (positive + 1) / (2 * positive + 3))  # of one wrong among those and two more
        return f * (1 - f) * (2 - f) / (2 * positive)
    if metric in ("accuracy", "f1", "f1_macro", *MARKS):
        share = _doubted(score, (n + 1) / (n + 2))
        return share * (1 - share) / n
    if metric in CORRELATIONS:
        if metric == "matthews":
            return (1 - np.where(np.abs(score) >= 1, n / (n + 2), score) ** 2) / n
        return (1 - np.clip(score, -1, 1) ** 2) ** 2 / n
    return np.zeros_like(score)


def _doubted(share: Floats, most: float) -> Floats:
    """A share of rows, which is no more certain at 1 than at `most`, nor at 0 than at as little."""
    return np.where(share >= 1, most, np.where(share <= 0, 1 - most, share))
