import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intrinsic_cli.errors import ConfigError, DataError, RunError
from intrinsic_cli.spec import TaskSpec
from intrinsic_cli.tasks.metrics import CLASSIFICATION, REGRESSION
from intrinsic_cli.tasks.rows import Encoded
from intrinsic_cli.tasks.task import task_of

LABELS = np.array([1, 1, 1, 0, 0, 1, 0, 1])
ANSWERS = np.array([1, 0, 1, 0, 1, 1, 0, 1])
TP, FP, FN, TN = 4, 1, 1, 2  # counted by hand from the two rows above


def task(*metrics, **options):
    spec = {"name": "t", "path": None, "config": None, "text": ("text",), "label": "label", "train": "train",
            "validation": None, "metrics": metrics}  # fmt: skip
    return task_of(TaskSpec(**spec | options))


def score(metrics, predictions, labels):
    """Every metric by name; correlations are metrics of regression."""
    made = task(*metrics, regression=metrics[0] in REGRESSION)
    return made.score({"prediction": np.asarray(predictions), "label": np.asarray(labels)})


def chance(metric, labels):
    n = len(labels)
    rows = Encoded(np.zeros(n, np.int32), None, np.arange(n + 1), np.asarray(labels), 0, 0, "right")
    return task(metric, regression=metric in REGRESSION).chance(metric, rows)


def test_classification_scores_by_hand():
    got = score(("accuracy", "f1", "f1_macro", "matthews"), ANSWERS, LABELS)
    f1_of_1 = 2 * TP / (2 * TP + FP + FN)
    f1_of_0 = 2 * TN / (2 * TN + FP + FN)
    matthews = (TP * TN - FP * FN) / math.sqrt((TP + FP) * (TP + FN) * (TN + FP) * (TN + FN))
    assert got == pytest.approx(
        {"accuracy": 6 / 8, "f1": f1_of_1, "f1_macro": (f1_of_1 + f1_of_0) / 2, "matthews": matthews}
    )
    assert list(got) == ["accuracy", "f1", "f1_macro", "matthews"]


def test_correlations_by_their_definition():
    x = np.array([0.1, 2.0, 1.5, -3.0, 0.7], dtype=np.float32)
    y = np.array([1.0, 5.0, 2.0, -1.0, 3.0])
    dx, dy = x.astype(float) - x.astype(float).mean(), y - y.mean()
    pearson = (dx * dy).sum() / math.sqrt((dx**2).sum() * (dy**2).sum())
    ranks = np.array([2, 5, 4, 1, 3]) - np.array([2, 5, 3, 1, 4])
    spearman = 1 - 6 * (ranks**2).sum() / (5 * (25 - 1))
    assert score(("pearson", "spearman"), x, y) == pytest.approx({"pearson": pearson, "spearman": spearman})


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_constant_side_scores_what_chance_gives(name):
    rising, flat = np.arange(5.0), np.full(5, 2.5)
    assert score((name,), flat, rising) == {name: 0.0}
    assert score((name,), rising, flat) == {name: 0.0}


def test_matthews_of_a_constant_answer_is_zero():
    assert score(("matthews",), np.ones(8, int), LABELS) == {"matthews": 0.0}


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12))
@settings(deadline=None, max_examples=60)
def test_classification_scores_are_finite_and_in_range(rows):
    labels, answers = np.array(rows).T
    for value in score(tuple(CLASSIFICATION), answers, labels).values():
        assert -1 <= value <= 1


@given(st.lists(st.integers(0, 1), min_size=1, max_size=12), st.sampled_from(sorted(CLASSIFICATION)))
@settings(deadline=None, max_examples=60)
def test_chance_is_what_no_constant_answer_beats(labels, name):
    scores = [score((name,), np.full(len(labels), c), labels)[name] for c in (0, 1)]
    assert chance(name, labels) == max(scores)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_finite_are_an_error(bad):
    with pytest.raises(RunError, match="1 of 3 predictions are not finite"):
        score(("pearson",), np.array([0.0, bad, 1.0]), np.array([0.0, 1.0, 2.0]))


def test_f1_is_for_two_classes():
    with pytest.raises(DataError, match="f1_macro"):
        score(("f1",), np.array([0, 1, 2]), np.array([0, 1, 1]))


def test_f1_of_other_than_two_classes_is_refused_before_any_training(idim, tmp_path):
    (tmp_path / "x.csv").write_text("text,label\n" + "".join(f"row {i},{i % 3}\n" for i in range(40)))
    words = [f"task={tmp_path / 'x.csv'}", "model=tiny", "d=20", f"output_dir={tmp_path / 'out'}"]
    status, out, err = idim("run", *words, "task.metrics=[accuracy,f1]")
    assert (status, out) == (2, "")
    assert err == "idim: task.metrics: f1 is of 2 classes, and task custom has 3; use f1_macro\n"
    assert not (tmp_path / "out").exists()


def test_columns_must_be_of_one_length():
    with pytest.raises(ValueError, match="2 predictions and 3 labels"):
        score(("accuracy",), np.zeros(2), np.zeros(3))


def test_a_task_refuses_metrics_of_another_kind_and_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean accuracy"):
        task("acuracy")
    with pytest.raises(ConfigError, match="no regression metric; use pearson, spearman"):
        task("f1", regression=True)
    task("spearman", "pearson", regression=True)


def test_chance_on_the_class_counts_of_mrpc():
    labels = np.array([1] * 279 + [0] * 129)
    p = 279 / 408
    assert chance("accuracy", labels) == pytest.approx(p)
    assert chance("f1", labels) == pytest.approx(2 * p / (1 + p))  # precision p, recall 1
    # The best constant answer is class 1 although class 0 is the more frequent: precision 1 - p, recall 1.
    assert chance("f1", 1 - labels) == pytest.approx(2 * (1 - p) / (2 - p))
    assert chance("f1_macro", labels) == pytest.approx(p / (1 + p))  # the other class scores 0
    assert chance("matthews", labels) == 0.0


def test_chance_of_correlations_is_zero():
    assert chance("pearson", np.array([0.5, 3.0])) == chance("spearman", np.array([1.0, 2.0])) == 0.0


def test_outcomes_are_one_number_a_row():
    answers = {"prediction": ANSWERS, "label": LABELS}
    assert task("f1").outcomes(answers).tolist() == [True, False, True, True, False, True, True, True]
    values = {"prediction": np.array([0.5, 2.0]), "label": np.array([1.0, 2.0])}
    assert task("pearson", regression=True).outcomes(values).tolist() == [0.5, 2.0]
