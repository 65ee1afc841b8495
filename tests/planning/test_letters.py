"""Texts are the letters that were typed, whatever else they look like."""

import pytest

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning import compose, specs, study_file
from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.words import expand, parse, values

ALIKE = [
    "true",
    "FALSE",
    "2.50",
    "1e3",
    "1_000",
    "007",
    "-0",
    ".5",
    "+1",
    "inf",
    "NaN",
    "yes",
    "off",
    "0x10",
    "1e999",
]
OWN = ["model=tiny", "task=custom", "task.path=owner/rows", "d=20"]
CHOICE = [*OWN, "task.kind=choice"]


def task(*words):
    return specs.run_spec(compose.compose_config("run", parse(words))).task


@pytest.mark.parametrize("letters", ALIKE)
def test_letters_are_kept_wherever_a_text_is(letters):
    assert task(*OWN, f"task.label={letters}").label == letters
    assert task(*OWN, f"task.text={letters},b").text == (letters, "b")
    assert task(*OWN, f"task.text=[{letters} , b]").text == (letters, "b")
    assert task(*OWN, f"task.labels=[{letters},a b]").labels == (letters, "a b")
    words = task(*CHOICE, f"task.words={{{letters}: {letters}, no : '1e3' }}").words
    assert words == ((letters, letters), ("no", "1e3"))
    for several in (f"model.revision=v1,{letters}", f"model.revision=choice(v1, {letters})"):
        [values] = zip(*expand(parse([several])), strict=True)
        assert [value.value() for value in values] == ["v1", letters]


def test_what_is_no_text_is_read_as_ever():
    [numbers] = zip(*expand(parse(["model.revision=range(1000,3000,1000)"])), strict=True)
    assert [number.value() for number in numbers] == [1000, 2000]
    assert task(*OWN, "task.label='null'", "task.validation=null").validation is None
    assert task(*CHOICE, "task.words={null: x, 1: y}").words == (("null", "x"), ("1", "y"))
    assert parse(["adapter.args={use_dora: true}"])[0].value() == {"use_dora": True}
    assert parse(["lr=1e-3"])[0].value() == 1e-3


@pytest.mark.parametrize("letters", ALIKE)
def test_letters_of_a_study_file_are_kept_and_written(tmp_path, letters):
    path = tmp_path / "study.yaml"
    path.write_text(
        "defaults: [task: custom, model: tiny]\nd: [50]\n"
        f"task: {{path: owner/rows, kind: choice, label: {letters}, words: {{{letters}: {letters}, no: '1e3'}}}}\n"
        f"model: {{revision: [v1, {letters}]}}\n",
        encoding="utf-8",
    )
    given = study_file.read(path)
    plan = sweep_plan(given)
    assert {spec.task.label for spec in plan.specs} == {letters}
    assert {spec.task.words for spec in plan.specs} == {((letters, letters), ("no", "1e3"))}
    assert {spec.model.revision for spec in plan.specs} == {"v1", letters}
    path.write_text(study_file.text(given, plan.cells), encoding="utf-8")
    assert sweep_plan(study_file.read(path)).specs == plan.specs


@pytest.mark.parametrize(
    ("line", "key", "wanted"),
    [
        ("d: 010", "d", "010"), ("d: [010, 50]", "d", ["010", 50]), ("seed: 1:30", "seed", "1:30"),
        ("data: {max_train: 0100}", "data.max_train", "0100"), ("lr: 12:30.5", "lr", "12:30.5"),
        ("d: 10", "d", 10), ("lr: 0.5", "lr", 0.5), ("lr: -0", "lr", 0), ("d: 1_000", "d", 1000),
        ("seed: [00, 01, 02]", "seed", [0, 1, 2]), ("lr: 00.5", "lr", 0.5),
        ("train: {epochs: 03}", "train.epochs", 3),
    ],
)  # fmt: skip
def test_numbers_that_yaml_counts_by_eight_or_sixty_stay_as_they_are_written(tmp_path, line, key, wanted):
    path = tmp_path / "study.yaml"
    path.write_text(f"model: tiny\n{line}\n")
    [found] = [override for override in study_file.read(path) if override.key_or_group == key]
    assert values(found) == [wanted]


def test_a_mapping_and_one_of_its_keys_are_written_in_their_order(tmp_path):
    path = tmp_path / "study.yaml"
    given = parse(["subspace.lr_step={global:2.0}", "subspace.lr_step.global=3.0", "model=tiny", "d=50"])
    plan = sweep_plan(given)
    path.write_text(study_file.text(given, plan.cells))
    assert sweep_plan(study_file.read(path)).specs == plan.specs


@pytest.mark.parametrize("written", ["false", "1e3"])
def test_a_task_s_own_file_that_has_lost_letters_is_told_to_quote_them(tmp_path, written):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text(
        f"name: mine\npath: owner/rows\nconfig: null\ntext: [text]\nlabel: label\ntrain: train\nvalidation: null\n"
        f"metrics: [accuracy]\nlabels: [a, {written}]\n",
        encoding="utf-8",
    )
    cfg = compose.compose_config("run", parse(["model=tiny", "task=mine"]), tmp_path)
    with pytest.raises(ConfigError, match=r"task.labels=(false|1000\.0) is not a text; .*, write '"):
        specs.run_spec(cfg)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("task.label=null", "task.label=null is not a text; where its letters are meant, write 'null', in a shell"),
        ("task.labels=[null,none]", "task.labels=null is not a text; where its letters are meant, write 'null'"),
        ("task.words={0: null, 1: x}", "task.words=null is not a text; where its letters are meant"),
        ("task.words={'0': a, '1': b}", "keys have no quotes; write {0: no, 1: yes}"),
        ('task.words={0: a, "1" : b}', "keys have no quotes; write {0: no, 1: yes}"),
        ("task.words=[good,bad]", "task.words=['good', 'bad'] is no mapping; write it as \"task.words={0: no, "),
        ("task.words=[[a,b],[c]]", "task.words=[['a', 'b'], ['c']] is no mapping"),
        ("task.words=abc", "task.words='abc' is no mapping"),
        ("task.words=5", "task.words='5' is no mapping"),
        ("task.words=true", "task.words='true' is no mapping"),
        ("task.words=", "task.words='' is no mapping"),
        ("task.words='{0: a, 1: b}'", "task.words='{0: a, 1: b}' is no mapping"),
        ("adapter.args=abc", "adapter.args='abc' is not a mapping such as {a: 1, b: 2}"),
    ],
)  # fmt: skip
def test_what_is_no_text_or_no_mapping_of_them_says_how_it_is_typed(idim, tmp_path, word, said):
    status, printed, answer = idim("run", *CHOICE, word, f"output_dir={tmp_path / 'out'}")
    assert (status, printed, answer.count("\n")) == (2, "", 1)
    assert said in answer
    assert not (tmp_path / "out").exists()
