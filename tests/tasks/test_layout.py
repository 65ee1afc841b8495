"""Which files are rows, by their names alone: nothing is a pattern, nothing beside them joins in."""

import json
import re
from itertools import chain

import pytest
from support.rows import sentences, write_jsonl

from intrinsic_cli.errors import DataError
from intrinsic_cli.paths import fingerprint
from intrinsic_cli.spec import DataSpec, TaskSpec
from intrinsic_cli.tasks import splits

TRAIN = sentences(40)
VALIDATION = sentences(20, offset=500)
OTHER = [
    {"text": f"other {i}", "label": "loud" if row["label"] == "calm" else "calm"}
    for i, row in enumerate(TRAIN)
]


def task(path, **changes):
    values = {"name": "t", "path": str(path), "config": None, "text": ("text",), "label": "label", "train": "train",
              "validation": "validation", "metrics": ("accuracy",)}  # fmt: skip
    return TaskSpec(**values | changes)


def folder(place, **files):
    """Files of JSON lines, named with / and . spelled out: {"train.jsonl": rows}."""
    for name, rows in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(place / name, rows)
    return place


def texts(path, **changes):
    rows = splits.load(task(path, **changes), DataSpec())
    return sorted(rows.train.texts), sorted(rows.validation.texts)


def wanted(train=TRAIN, validation=VALIDATION):
    return tuple(sorted(row["text"] for row in rows) for rows in (train, validation))


NAMES = [
    "**",
    "da*a",
    "d?ta",
    "data[1]",
    "data[!x]",
    "{a,b}",
    "a::b",
    "[",
    "*.jsonl",
    "~",
    "%41",
    "a b",
    "-x",
    "data",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_folders_name_is_no_pattern(tmp_path, name):
    for other in ("data", "dater", "data1", "a", "b", "x"):
        if other != name:
            folder(tmp_path / other, **{"train.jsonl": OTHER, "validation.jsonl": OTHER})
    own = folder(tmp_path / name, **{"train.jsonl": TRAIN, "validation.jsonl": VALIDATION})
    assert texts(own) == wanted()


@pytest.mark.parametrize("name", ["train[1]", "train*", "train?", "train [1]", "**train", "{train}"])
def test_a_files_name_is_no_pattern(tmp_path, name):
    own = folder(tmp_path / "data", **{f"{name}.jsonl": TRAIN, "validation.jsonl": VALIDATION})
    assert texts(own) == wanted()


README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: {train}
  - split: validation
    path: {validation}
dataset_info:
  features:
  - name: label
    dtype:
      class_label:
        names: {{'0': loud, '1': calm}}
---
"""


ELSEWHERE = ["validation.jsonl", "../out/*", "{absolute}/train.jsonl", "**", "https://a.b/c.jsonl", "s3://bucket/x",
             "zip://x::y", "hf://datasets/a/b", "[", "train.jsonl"]  # fmt: skip


@pytest.mark.parametrize("train", ELSEWHERE)
@pytest.mark.parametrize("name", ["README.md", "dataset_infos.json", "dataset_info.json"])
def test_no_description_in_the_folder_has_a_say(tmp_path, train, name):
    out = folder(tmp_path / "out", **{"train.jsonl": OTHER})
    own = folder(tmp_path / "data", **{"train.jsonl": TRAIN, "validation.jsonl": VALIDATION})
    plain = splits.load(task(own), DataSpec())
    (own / name).write_text(README.format(train=train.format(absolute=out), validation="train.jsonl"))
    assert splits.load(task(own), DataSpec()) == plain


BESIDE = ["train.jsonl.bak", "train.jsonl.orig", "train.jsonl.gz", "train.jsonl.dvc", "train.jsonl.md5",
          "train.jsonl.lock", "train.jsonl~", ".train.jsonl.swp", ".train.jsonl", "README.md",
          "train.txt", "__pycache__/train.jsonl", "notes.jsonl", "test.jsonl", "test copy.jsonl",
          "train.jsonl.part"]  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_does_not_join_in(tmp_path, name):
    own = folder(tmp_path, **{"train.jsonl": TRAIN, "validation.jsonl": VALIDATION, name: OTHER})
    assert texts(own) == wanted()


AMBIGUOUS = {
    "train copy.jsonl": "train", "predictions_train.jsonl": "train", "train-backup.jsonl": "train",
    "train (1).jsonl": "train", "old/train.jsonl": "train", "train/x.jsonl": "train", "training.jsonl": "train",
    "Train.jsonl": "train", "train.json": "train", "train2.jsonl": "train", "train[1].jsonl": "train",
    "dev.jsonl": "validation", "valid.jsonl": "validation", "validation_old.jsonl": "validation",
    "train-00000-of-00001.jsonl": "train",
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_could_be_a_split_too_is_refused_with_both_names(tmp_path, name):
    own = folder(tmp_path, **{"train.jsonl": TRAIN, "validation.jsonl": VALIDATION, name: OTHER})
    with pytest.raises(DataError) as raised:
        texts(own)
    said = str(raised.value)
    assert name in said
    assert f"{AMBIGUOUS[name]}.jsonl" in said


@pytest.mark.parametrize(
    "names",
    [
        ["train.jsonl", "dev.jsonl"],
        ["training.jsonl", "valid.jsonl"],
        ["my_train.jsonl", "my_dev.jsonl"],
        ["train/rows.jsonl", "validation/rows.jsonl"],
        ["data/train-00000-of-00001.jsonl", "data/validation-00000-of-00001.jsonl"],
        ["TRAIN.JSONL", "Val.jsonl"],
        ["train.jsonl", "validate.jsonl"],
    ],
)
def test_the_usual_names_of_splits(tmp_path, names):
    assert texts(folder(tmp_path, **dict(zip(names, (TRAIN, VALIDATION), strict=True)))) == wanted()


def test_any_name_that_the_task_gives(tmp_path):
    own = folder(
        tmp_path, **{"r1.jsonl": TRAIN, "dev_matched.jsonl": VALIDATION, "dev_mismatched.jsonl": OTHER}
    )
    assert texts(own, train="r1", validation="dev_matched") == wanted()
    with pytest.raises(DataError, match=r"dev_matched\.jsonl, dev_mismatched\.jsonl"):
        texts(own, train="r1")


def test_numbered_pieces_are_one_split_where_all_are_there(tmp_path):
    pieces = {f"train-0000{i}-of-00003.jsonl": TRAIN[i::3] for i in range(3)}
    own = folder(tmp_path, **pieces, **{"validation.jsonl": VALIDATION})
    assert texts(own) == wanted()
    (own / "train-00001-of-00003.jsonl").unlink()
    with pytest.raises(DataError, match="2 of the 3 pieces of its split train"):
        texts(own)


PACKED = [
    ("train.jsonl", "validation.jsonl.gz"), ("train.jsonl", "dev.csv.zip"), ("train.jsonl", "Val.arrow"),
    ("train/a.jsonl", "validation/a.jsonl.gz"), ("my_train.jsonl", "my_validation.jsonl.xz"),
    ("train-00000-of-00001.jsonl", "validation-00000-of-00001.jsonl.zst"),
]  # fmt: skip


@pytest.mark.parametrize(("train", "name"), PACKED)
def test_a_split_of_a_kind_that_is_not_read_is_no_reason_to_take_another(tmp_path, train, name):
    own = folder(tmp_path, **{train: TRAIN, name: OTHER})
    with pytest.raises(DataError, match=f"{re.escape(name)} .* split validation.*task.validation=null"):
        texts(own)
    assert texts(own, validation=None)  # where nobody asks for it


NO_SPLITS = ["val.txt", "cache/validation.pkl", "raw/dev.txt", "validation.log.gz", "valid.zip", "test.jsonl.gz",
             "train.jsonl.gz", "validate_notes.jsonl"]  # fmt: skip


@pytest.mark.parametrize("name", NO_SPLITS)
def test_what_is_no_table_stands_for_no_split(tmp_path, name):
    own = folder(tmp_path, **{"train.jsonl": TRAIN, name: OTHER})
    train, validation = texts(own)
    assert sorted(train + validation) == wanted()[0]


def test_a_further_piece_that_is_packed_is_named(tmp_path):
    pieces = {"train_0.jsonl": TRAIN[:20], "train_1.jsonl.gz": TRAIN[20:], "validation.jsonl": VALIDATION}
    with pytest.raises(DataError, match=r"train_1\.jsonl\.gz .* split train.*unpack it"):
        texts(folder(tmp_path, **pieces))


def test_a_piece_without_rows_lacks_no_column(tmp_path):
    folder(tmp_path, **{"train-0.json": [], "validation.json": []})
    (tmp_path / "train-0.json").write_text(json.dumps(TRAIN))
    (tmp_path / "train-1.json").write_text("[]")
    (tmp_path / "validation.json").write_text(json.dumps(VALIDATION))
    assert texts(tmp_path) == wanted()


def test_a_training_split_that_is_packed_is_named(tmp_path):
    own = folder(tmp_path, **{"train.jsonl.gz": TRAIN, "validation.jsonl": VALIDATION})
    with pytest.raises(DataError, match=r"train\.jsonl\.gz .* unpack it"):
        texts(own)


def test_a_piece_without_a_column_is_named(tmp_path):
    for number, rows in enumerate((["text,label", "a,x", "b,y"], ["c,x", "d,y"])):
        (tmp_path / f"train-{number}.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"train-1\.csv has no column text.*header"):
        texts(tmp_path, validation=None)


def test_pieces_without_a_split_are_numbered_or_refused(tmp_path):
    own = folder(tmp_path / "a", **{"part-1.jsonl": TRAIN[:20], "part-2.jsonl": TRAIN[20:]})
    assert sorted(chain(*texts(own))) == wanted()[0]
    with pytest.raises(DataError, match=r"a\.jsonl, b\.jsonl"):
        texts(folder(tmp_path / "b", **{"a.jsonl": TRAIN, "b.jsonl": OTHER}))
    with pytest.raises(DataError, match=r"part-1\.jsonl, part-3\.jsonl"):
        texts(folder(tmp_path / "c", **{"part-1.jsonl": TRAIN, "part-3.jsonl": OTHER}))


def test_a_name_and_a_folder_that_disagree(tmp_path):
    with pytest.raises(DataError, match="speak of different splits"):
        texts(folder(tmp_path, **{"train/dev.jsonl": TRAIN}))


def test_a_folder_of_several_data_sets_needs_the_name_of_one(tmp_path):
    folder(tmp_path, **{"one/train.jsonl": TRAIN, "one/dev.jsonl": VALIDATION, "two/train.jsonl": OTHER})
    assert texts(tmp_path, config="one") == wanted()
    with pytest.raises(
        DataError, match=r"one, two \(one/train\.jsonl, two/train\.jsonl\); .*task\.config=one"
    ):
        texts(tmp_path)
    with pytest.raises(DataError, match=r"task\.config=three not found: .* has 'one', 'two'"):
        texts(tmp_path, config="three")
    pieces = {f"{name}/train-00000-of-00001.jsonl": TRAIN for name in ("one", "two")}
    with pytest.raises(DataError, match=r"of each data set one, two .*; name one by task\.config=one"):
        texts(folder(tmp_path / "pieces", **pieces))


def test_what_is_used_is_said(tmp_path):
    own = folder(tmp_path, **{"train.jsonl": TRAIN, "dev.jsonl": VALIDATION, "notes.jsonl": OTHER})
    assert splits.load(task(own), DataSpec()).summary == (
        "task t: 40 rows of train.jsonl to train on (calm 20, loud 20), 20 rows of dev.jsonl to validate "
        "(calm 10, loud 10); not read: notes.jsonl"
    )


def test_names_of_classes_and_files_are_said_without_control_characters(tmp_path):
    rows = [{"text": f"t{i}", "label": f"\x1b[31m{i % 2}\n"} for i in range(40)]
    own = folder(tmp_path, **{"tr\x1bain.jsonl": rows})
    labels = tuple(sorted({row["label"] for row in rows}))
    assert splits.load(task(own, labels=labels), DataSpec()).summary.isprintable()


def test_rows_that_changed_since_the_plan_are_refused(tmp_path):
    own = folder(tmp_path, **{"train.jsonl": TRAIN, "validation.jsonl": VALIDATION})
    planned = task(own, fingerprint=fingerprint(own))
    before = splits.load(planned, DataSpec())
    content = (own / "train.jsonl").read_text()
    write_jsonl(own / "train.jsonl", OTHER)
    with pytest.raises(DataError, match="has changed since this run was planned"):
        splits.load(planned, DataSpec())
    (own / "train.jsonl").write_text(content)
    assert splits.load(planned, DataSpec()) == before
    write_jsonl(own / "more.jsonl", OTHER)
    with pytest.raises(DataError, match="has changed since this run was planned"):
        splits.load(planned, DataSpec())


def test_one_file_that_changed_since_the_plan_is_refused(tmp_path):
    file = write_jsonl(tmp_path / "rows.jsonl", TRAIN)
    planned = task(file, fingerprint=fingerprint(file))
    splits.load(planned, DataSpec())
    file.write_text(file.read_text() + json.dumps(TRAIN[0]) + "\n")
    with pytest.raises(DataError, match="has changed since this run was planned"):
        splits.load(planned, DataSpec())
