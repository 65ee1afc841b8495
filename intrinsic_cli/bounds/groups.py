"""Rows that come in independent groups, as the phrases of one sentence do: a bound that counts the groups.

A chromatic bound. Rows of one group may depend on each other in any way, groups are independent, so the
dependency graph is a union of cliques. With groups of c rows at most, n rows weigh as n/c (Janson, "Large
deviations for sums of partly dependent random variables", Random Struct. Alg. 24 (2004), theorem 2.1; Usunier,
Amini and Gallinari, NIPS 2005; with kl and a prior Ralaivola, Szafranski and Stempfel, JMLR 11 (2010)). Their
c is the largest group (the graph's chromatic number), which is hard on groups of unequal size. `inverse` is
the same argument, Chernoff's over independent groups, without that loss:

Let group j hold s_j rows, of which S_j are wrong, and R be the mean over the n rows of the probability to be
wrong. S_j lies in [0, s_j], so with p_j = E S_j / s_j convexity gives E e^{−λS_j} ≤ 1 − p_j (1 − e^{−λs_j}),
and for all λ, μ > 0, since Σ s_j p_j = nR,

    ln P[Σ S_j ≤ k] ≤ λk − μnR + Σ_j h(s_j),   h(s) = max over p in [0, 1] of ln(1 − p (1 − e^{−λs})) + μsp.

h is convex with h(0) = 0 ≤ h, so it never falls and two groups are never worse than their union. Where only
c_j ≥ s_j are known, Σ h(s_j) is largest where the largest groups are full until all n rows have a place (that
allocation majorizes all others), and the bound is that of those sizes, Σ s_j = n. Solved for R, with probability
at least 1 − e^{−C}: R ≤ (λk + C + Σ h(s_j)) / μn, for the best λ and μ.
For s_j = 1 this is the kl bound, for s_j = c that of n/c rows.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from intrinsic_cli.errors import ConfigError

ROUNDING = 1e-9  # relative; far above that of the sums below, so that the bound errs upwards only


def inverse(k: int, n: int, capacities: NDArray[np.integer], complexity: float) -> float:
    """The bound on R for k wrong of n rows, groups of at most `capacities` (groups,) rows, C = `complexity` nats.

    Raises ConfigError where the groups have no room for the n rows, or 0 ≤ k ≤ n or C ≥ 0 does not hold.
    """
    capacities = np.asarray(capacities)
    if n < 1 or not 0 <= k <= n or not complexity >= 0:
        raise ConfigError(f"k={k} of n={n} rows and {complexity} nats must satisfy 0 <= k <= n and nats >= 0")
    if capacities.size == 0 or capacities.min() < 1 or capacities.sum() < n:
        raise ConfigError(f"groups of {capacities.sum()} rows in all have no room for n={n} rows")
    found, counts = np.unique(filled(n, capacities), return_counts=True)
    sizes = found.astype(np.float64)

    def at(log_lambda: float, log_mu: float) -> float:
        lam, mu = math.exp(log_lambda), math.exp(log_mu)
        drop = -np.expm1(-lam * sizes)
        p = np.clip(1 / drop - 1 / (mu * sizes), 0, 1)
        # ln(1 − p·drop) is −λs at p = 1, which 1 − drop is too coarse for.
        log = np.where(p < 1, np.log1p(-np.minimum(p, 1 - 1e-16) * drop), -lam * sizes)
        return float((lam * k + complexity + counts @ (log + mu * sizes * p)) / (mu * n))

    def best(log_lambda: float) -> float:
        return float(_least(lambda log_mu: at(log_lambda, log_mu), log_lambda - 12, log_lambda + 12))

    # λk + C + Σh is jointly convex in (λ, μ), so its quotient by μ falls and rises once along either of them.
    low = -math.log(sizes.max()) - 25
    return min(1.0, _least(best, low, 5.0) * (1 + ROUNDING))


def _least(function: Callable[[float], float], low: float, high: float) -> float:
    found = minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    return float(found.fun)


def filled(n: int, capacities: NDArray[np.integer]) -> NDArray[np.int64]:
    """Sizes (groups,) of the groups that n rows fill, the largest first: the worst case of `inverse`."""
    largest = np.sort(np.asarray(capacities, dtype=np.int64))[::-1]
    sizes = np.diff(np.minimum(np.cumsum(largest), n), prepend=0)
    return sizes[sizes > 0]


def effective(n: int, capacities: NDArray[np.integer]) -> float:
    """How many independent rows Hoeffding's bound takes n rows in such groups for: n² / Σ s_j²."""
    return n**2 / float(np.square(filled(n, capacities).astype(np.float64)).sum())


def equal_texts(rows: Sequence[Hashable]) -> NDArray[np.int64]:
    """Sizes (groups,) of the groups of equal rows."""
    return np.array(list(Counter(rows).values()), dtype=np.int64)


def phrase_groups(texts: Sequence[str]) -> NDArray[np.int64]:
    """Capacities (groups,) of the sentences that n rows of phrases come from, read off the texts alone.

    A row is a phrase of another where its words occur there in a run. A row that is no phrase of a longer one
    is taken for a sentence, and each sentence is given room for *every* row that could be its phrase, repeated
    texts included: a phrase found in three sentences counts in all three, so wherever it came from there is room.
    """
    rows = Counter(map(_words, texts))
    return np.array(
        [sum(rows[part] for part in _parts(row) if part in rows) for row in _sentences(rows)], dtype=np.int64
    )


def halves(texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """The rows (their numbers, ascending) of two halves of the sentences, chosen by a hash of a sentence's words.

    A row that could be of sentences in both halves is in neither, so that the halves are independent.
    """
    rows = Counter(map(_words, texts))
    sides: dict[tuple[str, ...], set[int]] = {row: set() for row in rows}
    for sentence in _sentences(rows):
        side = hashlib.sha256(" ".join(sentence).encode("utf-8", "surrogatepass")).digest()[0] & 1
        for part in _parts(sentence):
            if part in sides:
                sides[part].add(side)
    found = [sides[_words(text)] for text in texts]
    one, two = ([i for i, side in enumerate(found) if side == {half}] for half in (0, 1))
    return one, two


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _sentences(rows: Collection[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The rows that are no run of words of a longer one."""
    inside = {part for row in rows for part in _parts(row) if part in rows and len(part) < len(row)}
    return [row for row in rows if row not in inside]


def _parts(row: tuple[str, ...]) -> set[tuple[str, ...]]:
    """All runs of words of a row, itself included; only itself where it has no words."""
    return {row[i:j] for i in range(len(row)) for j in range(i + 1, len(row) + 1)} or {row}
