"""Which base models have met which tasks."""

from dataclasses import replace

import pytest

from intrinsic_cli.bounds.seen import GLUE, KNOWN, seen
from intrinsic_cli.spec import ModelSpec, TaskSpec

SST2 = TaskSpec("sst2", "nyu-mll/glue", "sst2", ("sentence",), "label", "train", "validation", ("accuracy",))


def glue(name):
    return replace(SST2, name=name, config=name)


@pytest.mark.parametrize(
    ("model", "task", "answer"),
    [
        ("minilm", "mnli", "yes"), ("minilm", "qqp", "yes"), ("minilm", "qnli", "yes"), ("minilm", "sst2", "no"),
        ("sentence-transformers/all-MiniLM-L6-v2", "qqp", "yes"), ("/models/all-mpnet-base-v2/", "mnli", "yes"),
        ("all-mpnet-base-v2", "rte", "no"), ("FacebookAI/roberta-base", "mnli", "no"),
        ("roberta-large-mnli", "mnli", "unknown"), ("google-t5/t5-base", "cola", "yes"),
        ("google/t5-v1_1-base", "cola", "no"), ("google/flan-t5-base", "sst2", "yes"),
        ("somebody/their-model", "sst2", "unknown"), ("tiny", "sst2", "no"), ("minilm", "pydoc-topic", "unknown"),
        ("bert-base-cased", "pydoc-topic", "no"), ("google-bert/bert-base-cased", "sst2", "no"),
        ("somebody/bert-base-cased", "sst2", "unknown"), ("./bert-base-cased", "sst2", "unknown"),
        ("/models/bert-base-cased", "sst2", "unknown"), ("outputs/tiny", "sst2", "unknown"),
        ("/models/all-mpnet-base-v2/", "rte", "unknown"),
    ],
)  # fmt: skip
def test_what_is_known(model, task, answer):
    got, source = seen(
        ModelSpec(model), replace(glue(task), path=None) if task == "pydoc-topic" else glue(task)
    )
    assert got == answer
    assert source


def test_a_name_is_acquitted_at_the_hubs_own_revision_alone():
    assert seen(ModelSpec("roberta-base", revision="refs/pr/1"), SST2)[0] == "unknown"
    assert seen(ModelSpec("roberta-base", revision="main"), SST2)[0] == "no"
    assert seen(ModelSpec("google-t5/t5-base", revision="refs/pr/1"), SST2)[0] == "yes"


def test_a_task_goes_by_its_configuration_too():
    assert seen(ModelSpec("minilm"), replace(SST2, name="mine", config="mnli_matched"))[0] == "yes"
    assert seen(ModelSpec("minilm"), replace(SST2, name="qqp-short", config=None))[0] == "yes"


def test_the_table_names_tasks_of_glue_and_sources():
    for known in KNOWN:
        assert known.seen <= GLUE
        assert known.source
