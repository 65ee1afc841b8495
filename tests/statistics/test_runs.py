"""Runs of a folder as points: what each row added to their scores."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from support.made_runs import result, save, scored

from intrinsic_cli.statistics.runs import finished


@pytest.mark.parametrize(("level", "told"), [(3.0, True), (11.0, True), (18.0, True), (200.0, False)])
def test_rows_of_a_perplexity_are_read_as_far_as_they_are_numbers(level, told, tmp_path, caplog):
    """e^18 is 65 million, of which float32 keeps seven digits; e^200 is beyond it, and no word is due."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 200, 300)
    nats = tokens * (level + 0.3 * rng.standard_normal(300))
    score = float(np.exp(nats.sum() / tokens.sum()))
    run = scored(result(100, 0.5, n_eval=300), score, "perplexity", higher_is_better=False, chance=9e9)
    store = save([run], tmp_path)
    store.run(run.spec).keep_outcomes({"validation": {"nats": nats, "tokens": tokens}})
    with caplog.at_level(logging.WARNING):
        rows = finished(store.results()[0]).rows
    assert not caplog.records
    assert (rows is not None) == told
    if rows is not None:
        assert np.mean(rows, dtype=float) == pytest.approx(score, rel=1e-4)


def test_answers_of_another_run_are_not_read(tmp_path, caplog):
    run = result(100, 0.7, n_eval=10)
    store = save([run], tmp_path)
    right = np.arange(10) < 6
    store.run(run.spec).keep_outcomes({"validation": {"label": right * 0, "prediction": right * 1 - 1}})
    assert finished(store.results()[0]).rows is None
    assert "of other answers (accuracy 0.6, the run has 0.7); it is not read" in caplog.text
