"""Pairs of curves that differ in what was asked for alone, and how far apart their d_t are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intrinsic_cli.errors import ConfigError, StoreError, near
from intrinsic_cli.render import Answer, Table
from intrinsic_cli.reports.cells import NOTHING, called, cell, defined, percent, symbol
from intrinsic_cli.reports.curves import Curve, settings_of_space
from intrinsic_cli.settings import flat
from intrinsic_cli.statistics.difference import Difference, difference
from intrinsic_cli.statistics.estimate import CONFIDENCE
from intrinsic_cli.statistics.targets import HEADLINE, TARGETS

SPACE = ("adapter", "subspace", "projection")
WITHIN = ("d", "seed", "lr")  # what the runs of one curve differ in
STUDY = ("model", "task", "data", "train")


@dataclass(frozen=True)
class Selector:
    """`subspace=said,task=mrpc`: what the curves of one side have, by the words of `idim sweep`."""

    wanted: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Raises ConfigError at a text that is no `key=value,...`."""
        words = re.split(r",(?=[\w.]+=)", text)  # a value may be a list, as task.text=[title,body]
        pairs = [word.partition("=") for word in words]
        if not all(key and equals and value for key, equals, value in pairs):
            raise ConfigError(
                f"--pair {text}: {text!r} is no key=value,...; write it as subspace=said,task=mrpc"
            )
        return cls(tuple((key, value) for key, _, value in pairs))

    @property
    def keys(self) -> set[str]:
        return {key for key, _ in self.wanted}

    def has(self, curve: Curve) -> bool:
        """Whether a curve is of this side."""
        return all(_plain(value) in _words(curve).get(key, ()) for key, value in self.wanted)


def _words(curve: Curve) -> dict[str, set[str]]:
    """What may stand behind each key for this curve: `model` has a model's label and its name."""
    spec = curve.spec
    words = {key: {value} for key, value in _settings(curve).items()}
    words |= {key.removeprefix("subspace."): value for key, value in words.items()}  # as tables name them
    words |= {
        "model": {spec.model.label, spec.model.name},
        "task": {spec.task.title, spec.task.name},
        "space": {curve.kind},
        "adapter": {spec.adapter.kind},
        "subspace": {spec.subspace.kind},
        "projection": {spec.projection.kind},
    }
    return {key: {_plain(value) for value in values} for key, values in words.items()}


def _plain(value: str) -> str:
    """A value however it is typed."""
    return value.lower().replace(" ", "")


def _settings(curve: Curve) -> dict[str, str]:
    tree = curve.spec.settings()
    return flat({key: tree[key] for key in STUDY}) | settings_of_space(tree)


def pairs(curves: Sequence[Curve], one: str, other: str) -> list[tuple[Curve, Curve]]:
    """The curves of one side, each with every one of the other side's that is like it in all keys that neither
    selector names; `subspace` stands for all keys of the subspace, and so on, and `space` for those of the adapter,
    the subspace and P.

    Raises ConfigError at a selector that can't be used and StoreError where there is no such pair.
    """
    sides = Selector.parse(one), Selector.parse(other)
    named = sides[0].keys | sides[1].keys
    known = {key for curve in curves for key in _words(curve)}
    for key in sorted(named - known):
        if key in WITHIN:
            raise ConfigError(
                f"--pair: {key} does not tell two curves apart, as a d90 is that of all d, seed and "
                "lr; give a key of curves, such as subspace, model or task"
            )
        raise ConfigError(f"--pair: {key} is not a key of these runs{near(key, known)}")

    free = named | (set(SPACE) if "space" in named else set())

    def common(curve: Curve) -> str:
        told = curve.first.conditions
        all_keys = _settings(curve) | {
            "model.hash": told["model_hash"], "task.rows": told["data_hash"], "train.precision": told["precision"],
        }  # fmt: skip
        return json.dumps({k: v for k, v in all_keys.items() if not _is_free(k, free)}, sort_keys=True)

    first, second = ([curve for curve in curves if side.has(curve)] for side in sides)
    found = [(a, b) for a in first for b in second if a is not b and common(a) == common(b)]
    if not found:
        raise StoreError(
            f"no two curves differ in {one} and {other} alone: {len(first)} are of the one and {len(second)} of "
            "the other; name what else differs, or look at `idim summarize DIR`"
        )
    return found


def _is_free(key: str, free: set[str]) -> bool:
    """Whether a key may differ. Which rows there are is up to all that is said of them."""
    if key == "task.rows":
        return any(name.partition(".")[0] in ("task", "data") for name in free)
    return bool(free & {key, key.partition(".")[0], key.removeprefix("subspace.")})


@dataclass(frozen=True)
class Compared:
    """Two curves and log2 of their d_t's ratio at one threshold, by definition."""

    a: Curve
    b: Curve
    threshold: float
    by: Mapping[str, Difference]

    @classmethod
    def of(cls, a: Curve, b: Curve, threshold: float) -> Compared:
        """Full fine-tuning is the same where all of its runs are, rows where data and their number are."""
        first, second = a.first, b.first
        same_rows = first.data_hash is not None and (first.data_hash, first.n_eval) == (
            second.data_hash, second.n_eval,
        )  # fmt: skip
        same_full = {run.run_id for run in a.baseline} == {run.run_id for run in b.baseline}
        by = {
            name: difference(
                a.measured,
                b.measured,
                threshold=threshold,
                definition=name,
                same_full=same_full,
                same_rows=same_rows,
            )
            for name in TARGETS
            if name in a.definitions or name in b.definitions
        }
        return cls(a, b, threshold, by)


def answer(found: Sequence[Compared]) -> Answer:
    """What `idim compare --pair` says; `found` has one threshold and at least one pair."""
    threshold = found[0].threshold
    name = symbol(threshold)
    shown = [key for key in TARGETS if any(_is_shown(each, key) for each in found)]
    header = ["A", "B"]
    for key in shown:
        header += [f"{called(name, key)} A", f"{called(name, key)} B", called("log2 A/B", key)]
    rows = []
    for each in found:
        row = [each.a.name, each.b.name]
        for key in shown:
            row += [cell(side.estimate(threshold, key)) for side in (each.a, each.b)]
            row.append(spell(each.by[key]) if key in each.by else NOTHING)
        rows.append(row)
    interval = f"[{percent(CONFIDENCE)} interval]"
    title = f"log2 A/B: octaves from the {name} of B to that of A {interval}; below 0, A needs fewer numbers"
    records = [record for each in found for record in _records(each)]
    return Answer([Table(header, rows, title, keys=2)], [*_notes(found, shown)], records)


def _is_shown(each: Compared, definition: str) -> bool:
    """Whether a table shows this definition of either curve."""
    values = [value for side in (each.a, each.b) for value in side.shown(side.estimate(each.threshold))]
    return definition in each.by and definition in {value.definition for value in values}


def spell(found: Difference) -> str:
    """`-1.25 [-1.80, -0.71]`, with −∞ or ∞ for an end that is open, or a dash."""
    if found.reason:
        return NOTHING
    middle = NOTHING if found.value is None else f"{found.value:.2f}"
    low = "−∞" if found.low is None else f"{found.low:.2f}"
    high = "∞" if found.high is None else f"{found.high:.2f}"
    return f"{middle} [{low}, {high}]"


def _notes(found: Sequence[Compared], shown: Iterable[str]) -> Iterable[str]:
    for definition in shown:
        if definition != HEADLINE:
            yield defined(found[0].threshold, definition)
        yield from (_verdict(each, definition) for each in found if definition in each.by)


def _verdict(each: Compared, definition: str) -> str:
    """The tested sentence."""
    known = each.by[definition]
    by = "" if definition == HEADLINE else f" by {definition}"
    if known.reason:
        return f"{each.a.name} against {each.b.name}{by}: nothing to compare, as {known.reason}."
    shared = f" (noise of {' and '.join(known.shared)} is shared)" if known.shared else ""
    if not known.clear:
        return f"{each.a.name} against {each.b.name}{by}: no difference is clear{shared}."
    fewer = known.high is not None and known.high < 0
    end = known.high if fewer else known.low
    assert end is not None
    word, factor = "fewer" if fewer else "more", _at_least(2 ** abs(end))
    return f"{each.a.name} needs {word} numbers than {each.b.name}{by}, by a factor of at least {factor}{shared}."


def _at_least(factor: float) -> str:
    """Rounded down, to two digits and to hundredths below 10."""
    digits = 2 if factor < 10 else 1 - math.floor(math.log10(factor))
    return f"{math.floor(factor * 10**digits) / 10**digits:.{max(digits, 0)}f}"


def _records(each: Compared) -> Iterable[dict[str, Any]]:
    for definition, found in each.by.items():
        a, b = (side.estimate(each.threshold, definition) for side in (each.a, each.b))
        yield {
            "a": each.a.name, "b": each.b.name, "threshold": each.threshold, "definition": definition,
            "d90_a": a.d_t, "d90_b": b.d_t, "status_a": a.status, "status_b": b.status,
            "log2_ratio": found.value, "log2_low": found.low, "log2_high": found.high, "clear": found.clear,
            "shared": " and ".join(found.shared), "reason": found.reason,
        }  # fmt: skip
