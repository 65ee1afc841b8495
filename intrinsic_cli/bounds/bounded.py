"""What is asked of a bound, and what is found: plain records that measure.py fills and tables.py prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from intrinsic_cli.bounds import theory
from intrinsic_cli.bounds.description import Description
from intrinsic_cli.bounds.quantise import MAX_LEVELS
from intrinsic_cli.bounds.seen import Answer
from intrinsic_cli.bounds.theory import Bound
from intrinsic_cli.errors import ConfigError, one_of
from intrinsic_cli.spec import RunSpec

LEVELS = (2, 3, 4, 6, 8, 16)
SCREEN = 4000
GROUPS = ("none", "texts", "phrases")


@dataclass(frozen=True)
class Options:
    """How bounds are made.

    levels      K's to try; the best on the first `screen` training rows (0: all) is counted on all.
    delta       the probability with which a bound may fail.
    qat_steps   of fine-tuning at the levels before θ is coded.
    noise       shares D of θ that a Gaussian posterior's draw may lose; empty: no such posterior.
    groups      what may depend on each other, for a second bound: `texts`, rows of one text; `phrases`, rows that
                are phrases of common sentences; `none`.
    """

    levels: Sequence[int] = LEVELS
    delta: float = 0.05
    screen: int = SCREEN
    qat_steps: int = 0
    noise: Sequence[float] = ()
    groups: str = "none"

    def __post_init__(self) -> None:
        told = ",".join(map(str, self.levels))
        if not self.levels or not all(1 <= number <= MAX_LEVELS for number in self.levels):
            raise ConfigError(f"--levels {told}: each is a number from 1 to {MAX_LEVELS}, as in 2,4,8")
        for option, value in (("--screen", self.screen), ("--qat-steps", self.qat_steps)):
            if value < 0:
                raise ConfigError(f"{option} {value} can't be negative")
        if not 0 < self.delta < 1:
            raise ConfigError(
                f"--delta {self.delta} is the probability that a bound fails; use one between 0 and 1"
            )
        if not all(0 < share < 1 for share in self.noise):
            told = ",".join(map(str, self.noise))
            raise ConfigError(f"--gaussian {told}: each is a share of θ, between 0 and 1")
        if self.groups not in GROUPS:
            raise ConfigError(f"--groups {self.groups}{one_of(self.groups, GROUPS)}")


@dataclass(frozen=True)
class Sample:
    """`errors` of the decoded model on n rows that may be bounded: `risk` at most, `grouped` if rows come in
    groups (None unless asked for), of which there are `groups` that weigh as much as `effective` rows.

    repeats: rows whose text an earlier one has. trained: rows whose text was trained on, of others than those.
    """

    n: int
    errors: int
    risk: float
    repeats: int = 0
    trained: int = 0
    grouped: float | None = None
    groups: int | None = None
    effective: float | None = None

    @property
    def rate(self) -> float:
        """Errors by rows."""
        return self.errors / self.n


@dataclass(frozen=True)
class Gaussian:
    """A model drawn from a Gaussian posterior at D = `noise`: what it pays, its errors, its bound."""

    noise: float
    bits: float
    errors: int
    risk: float


@dataclass(frozen=True)
class Bounded:
    """One run at its best K: the description it pays for, what the decoded model gets wrong, the bounds.

    train       the training rows, whose bound pays for the description; `grouped` is of the same bits.
    validation  the validation rows, whose bound pays nothing: Clopper and Pearson's, for this one run.
    others      rows held out of training (`data.holdout`): a prior that the rows trained on may choose, so that
                only the choice among `runs` is paid for. None without such rows.
    search      bits for what the description leaves open (which of several base models, say).
    screened    by K, the bound that the rows of the screen promised.
    seen        whether the base model was trained on the task's rows, and the source.
    """

    run_id: str
    spec: RunSpec
    levels: int
    description: Description
    search: Mapping[str, float]
    runs: int
    train: Sample
    validation: Sample
    others: Sample | None
    majority_error: float
    bounds: tuple[Bound, ...]
    gaussian: Gaussian | None
    screened: Mapping[int, float]
    seen: tuple[Answer, str]
    d90: int | None

    @property
    def yardstick(self) -> Sample | None:
        """The validation rows, where training did not choose its last step by them."""
        return None if self.spec.train.patience else self.validation

    @property
    def gap(self) -> float | None:
        """(train − validation) / (1 − validation) of accuracies, of the decoded model."""
        return theory.relative_gap(1 - self.train.rate, 1 - self.validation.rate)

    @property
    def best(self) -> Bound:
        """The exact binomial tail, which no other bound here on the same bits beats."""
        return self.bounds[0]

    @property
    def valid(self) -> bool:
        """False where the base model is known to have learned from the task's rows."""
        return self.seen[0] != "yes"
