"""A Gaussian posterior around θ, and the bound on one model drawn from it.

The posterior Q may depend on the training rows in any way, the prior P may not. Let `kl` compare a model's error
rate on n independent rows with its true one. With probability at least 1 − δ over the rows *and* one draw θ′ from Q

    n kl(errors/n ‖ true) ≤ ln (dQ/dP)(θ′) + ln ξ(n) + ln (1/δ),   ξ(n) = Σ_k C(n,k) (k/n)^k (1 − k/n)^(n−k),

by Markov's inequality: the mean of (dP/dQ)(θ′) e^{n kl} over rows and draw is its mean under P, and E e^{n kl} is
ξ(n) for every true rate strictly between 0 and 1 (Maurer, arXiv cs/0411099, who bounds ξ by 2√n). For a single
draw: Catoni 2007; Rivasplata et al., arXiv 2006.13057; Viallard et al., arXiv 2102.08649. What is bounded is
the model that was drawn, and no mean over models.

Of each tensor with centre c (λ's is 1, others' 0) and v, the mean square of tensor − c:
    P = N(c, τ²I) with τ = 2^(j/8), j an integer paid for by its code
    Q = N(c + (1 − D)(tensor − c), D(1 − D)v I), with which θ′ is off by Dv a number in the mean: the channel that
        spends least, ½ log2(1/D) bits a number, on a Gaussian source (Cover and Thomas, section 10.3.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp, xlogy

from intrinsic_cli.bounds.coder import delta
from intrinsic_cli.bounds.theory import kl_inverse
from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.spec import stream_seed

STEPS = 8  # of τ in an octave: at most 0.002 nats a number are lost to the nearest


@dataclass(frozen=True)
class Draw:
    """One θ′ from Q: its tensors, rounded to float32, and `bits`, log2 of dQ/dP there plus the code of each τ."""

    tensors: Mapping[str, NDArray[np.float32]]
    bits: float


def draw(tensors: Mapping[str, NDArray[np.floating]], noise: float, seed: int) -> Draw:
    """One draw at D = `noise` from the stream `gaussian` of `seed`.

    Raises ConfigError unless 0 < D < 1, DataError at a tensor that stands at its centre or is not finite.
    """
    if not 0 < noise < 1:
        raise ConfigError(f"noise={noise} is the share of θ that a draw loses; use one between 0 and 1")
    generator = np.random.default_rng(stream_seed(seed, "gaussian"))
    drawn, bits = {}, 0.0
    for name, tensor in tensors.items():
        centre = 1.0 if name == "lam" else 0.0
        moved = np.asarray(tensor, dtype=np.float64) - centre
        square = float(np.mean(moved**2))
        if not 0 < square < math.inf:
            raise DataError(
                f"{name} has the mean square {square:g}; a Gaussian posterior needs a finite one above 0"
            )
        sigma = math.sqrt(noise * (1 - noise) * square)
        j = round(STEPS * math.log2(math.sqrt((1 - noise) * square)))
        tau = 2 ** (j / STEPS)
        normal = generator.standard_normal(moved.shape)
        at = (1 - noise) * moved + sigma * normal
        # Of θ′ before it is rounded to float32, where both have densities: what is made of it obeys the bound too.
        nats = moved.size * math.log(tau / sigma) + float(np.sum((at / tau) ** 2 - normal**2)) / 2
        bits += nats / math.log(2) + len(delta(2 * j if j >= 0 else -2 * j - 1))
        drawn[name] = (at + centre).astype(np.float32)
    return Draw(drawn, bits)


def bound(errors: int, n: int, bits: float, delta: float) -> float:
    """The true error rate of the drawn model is at most this with probability 1 − δ over rows and draw.

    `bits` are those of the draw and of all else that its prior has to name.
    """
    nats = bits * math.log(2) + log_xi(n) + math.log(1 / delta)
    return kl_inverse(errors / n, max(0.0, nats) / n)


def log_xi(n: int) -> float:
    """ln ξ(n), which lies between ln √n and ln 2√n from n = 8 on."""
    k = np.arange(n + 1, dtype=np.float64)
    choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return float(logsumexp(choose + xlogy(k, k / n) + xlogy(n - k, (n - k) / n)))
