"""Tasks of idim's own: rows that every Python can make, the same in every process."""

from dataclasses import replace

import pytest
from tasks.test_splits import config

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.spec import DataSpec
from intrinsic_cli.tasks import pydoc, splits


def test_arithmetic_is_right_and_its_validation_questions_are_new():
    rows = splits.load(config("arithmetic"), DataSpec())
    both = [*zip(rows.train.texts, rows.train.labels, strict=True)]
    both += zip(rows.validation.texts, rows.validation.labels, strict=True)
    assert len(dict(both)) == len(both) == 2 * 100 * 100
    for question, answer in both:
        a, sign, b, equals = question.split()
        assert (equals, int(answer)) == ("=", int(a) + int(b) if sign == "+" else int(a) - int(b))
    assert len(rows.validation) / len(both) == pytest.approx(0.2, abs=0.012)  # 4 standard errors


def test_documentation_as_prose_and_as_topics_has_the_same_sentences():
    prose, topics = (splits.load(config(name), DataSpec()) for name in ("pydoc-lm", "pydoc-topic"))
    assert (prose.train.texts, prose.validation.texts) == (topics.train.texts, topics.validation.texts)
    assert topics.label_names == tuple(pydoc.AREAS)
    areas = {sentence: area for sentence, area, _ in pydoc.corpus()}
    assert all(
        areas[text] == topics.label_names[label]
        for text, label in zip(topics.train.texts, topics.train.labels, strict=True)
    )


def test_topics_can_be_chosen_by_words():
    task = replace(config("pydoc-topic"), kind="choice", prompt="{text}\\nTopic:")
    rows = splits.load(task, DataSpec(max_train=5))
    assert all(text.endswith("\nTopic:") for text in rows.train.texts)


@pytest.mark.parametrize("name", ["pydoc-topic", "arithmetic"])
def test_splits_are_what_their_words_say(name):
    def rows_of(*, whole=False, **words):
        rows = splits.load(replace(config(name), **words), DataSpec(), whole=whole)
        return [sorted(zip(p.texts, p.labels, strict=True)) for p in (rows.train, rows.validation)]

    train, validation = rows_of()
    assert rows_of(whole=True, validation="train") == [train, train]
    assert rows_of(validation=None) == [train, validation]
    assert rows_of(train="validation", validation="train") == [validation, train]
    with pytest.raises(DataError, match="has no split 'test'; it has train, validation"):
        rows_of(validation="test")


def test_what_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"task\.config=arithmetics .*did you mean arithmetic"):
        splits.load(replace(config("arithmetic"), config="arithmetics"), DataSpec())
    with pytest.raises(DataError, match="no column result; it has question, answer"):
        splits.load(replace(config("arithmetic"), answer="result"), DataSpec())
