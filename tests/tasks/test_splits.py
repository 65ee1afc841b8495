import json
import math
import os
import re
import struct
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rows import sentences, write_jsonl

from intrinsic_cli.errors import ConfigError, DataError
from intrinsic_cli.spec import DataSpec, TaskSpec, stream_seed
from intrinsic_cli.tasks import splits
from intrinsic_cli.tasks.regression import check_short
from intrinsic_cli.tasks.task import task_of

CONFIGS = Path(__file__).parents[2] / "configs" / "task"
GLUE = Path(__file__).parents[3] / "shared" / "glue"
needs_glue = pytest.mark.skipif(not GLUE.is_dir(), reason="../shared/glue is absent")


def config(name, **changes):
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    values = values.get("task", values) | changes
    return TaskSpec(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def custom(path, **changes):
    return config("custom", path=str(path), **changes)


def write_csv(path, rows, header="text,label"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def csv(tmp_path):
    return write_csv(
        tmp_path / "rows.csv", [f"sentence number {i},{'yes' if i % 3 else 'no'}" for i in range(200)]
    )


def rows_of(part):
    return list(zip(part.texts, part.labels, strict=True))


# --- the shipped configurations ---------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_config_is_a_task_spec(file):
    values = yaml.safe_load(file.read_text())
    values = values.get("task", values)
    own = {
        key for key in values if f"${{task.{key}}}" in file.read_text()
    }  # there for other values to refer to
    of_language = {"kind", "prompt", "answer", "words", "per_token", "chat", "pack", "max_new_tokens"}
    every = {f.name for f in fields(TaskSpec)} - {"fingerprint"}
    assert every - of_language <= set(values) - own <= every
    assert re.split(r"-r?\$", values["name"])[0] == file.stem  # anli-r${task.round}
    if not own:
        task_of(config(file.stem))


def test_all_nine_glue_tasks_have_their_official_metrics_and_splits():
    official = {
        "cola": ["matthews"], "sst2": ["accuracy"], "mrpc": ["accuracy", "f1"], "qqp": ["accuracy", "f1"],
        "stsb": ["pearson", "spearman"], "mnli": ["accuracy"], "qnli": ["accuracy"], "rte": ["accuracy"],
        "wnli": ["accuracy"],
    }  # fmt: skip
    for name, wanted in official.items():
        task = config(name)
        assert list(task.metrics[: len(wanted)]) == wanted
        assert (task.path, task.config) == ("nyu-mll/glue", name)
        assert task.regression == (name == "stsb")
        assert task.validation == ("validation_matched" if name == "mnli" else "validation")


# Rows as GLUE publishes them: training, validation, classes, is a pair.
SIZES = {
    "cola": (8551, 1043, 2, False),
    "sst2": (67349, 872, 2, False),
    "mrpc": (3668, 408, 2, True),
    "rte": (2490, 277, 2, True),
    "wnli": (635, 71, 2, True),
    "stsb": (5749, 1500, 0, True),
}


@needs_glue
@pytest.mark.parametrize("name", SIZES)
def test_glue_loads_from_a_local_copy(name):
    rows = splits.load(config(name, path=str(GLUE)), DataSpec())
    train, validation, classes, pair = SIZES[name]
    assert (len(rows.train), len(rows.validation), len(rows.holdout)) == (train, validation, 0)
    assert len(rows.label_names) == classes
    assert (rows.train.pairs is not None) == pair
    if name == "stsb":
        assert 0 <= min(rows.validation.labels) < max(rows.validation.labels) <= 5
    else:
        assert set(rows.train.labels) == set(rows.validation.labels) == {0, 1}


@needs_glue
def test_mrpc_rows_are_those_of_the_file():
    import pyarrow.parquet as parquet

    table = parquet.read_table(GLUE / "mrpc" / "validation-00000-of-00001.parquet").to_pydict()
    rows = splits.load(config("mrpc", path=str(GLUE)), DataSpec())
    assert rows.validation == splits.Part(table["sentence1"], table["sentence2"], table["label"])
    assert sum(rows.validation.labels) == 279
    assert rows.label_names == ("not_equivalent", "equivalent")


@needs_glue
def test_hidden_labels_are_refused():
    with pytest.raises(DataError, match=r"split test .* is -1, not one of .*-1 marks hidden labels"):
        splits.load(config("sst2", path=str(GLUE), validation="test"), DataSpec())


@needs_glue
def test_a_glue_task_that_the_copy_lacks_lists_what_it_has():
    with pytest.raises(DataError, match=r"task\.config=qqp not found: .* has 'cola', 'mrpc'"):
        splits.load(config("qqp", path=str(GLUE)), DataSpec())


@pytest.mark.long
def test_pydoc_topic_needs_no_path():
    rows = splits.load(config("pydoc-topic"), DataSpec(max_train=300, max_eval=50))
    assert (len(rows.train), len(rows.validation)) == (300, 50)
    assert set(rows.train.labels) == set(range(5))
    assert rows.label_names == ("language", "gui", "internet", "concurrency", "numbers")
    assert not set(rows.train.texts) & set(rows.validation.texts)


# --- which rows ---------------------------------------------------------------------------------------------


def test_the_rows_of_every_file_format_are_the_same(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(
        {"text": [f'row "{i}", with\ttab é' for i in range(40)], "label": [i % 2 for i in range(40)]}
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "a.json", orient="records")
    frame.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "folder").mkdir()
    frame.to_csv(tmp_path / "folder" / "data.csv", index=False)
    paths = [*(tmp_path / f"a.{s}" for s in ("csv", "tsv", "jsonl", "json", "parquet")), tmp_path / "folder"]
    prints = {path.name: splits.load(custom(path), DataSpec()).fingerprint for path in paths}
    assert len(set(prints.values())) == 1, prints
    rows = splits.load(custom(paths[0]), DataSpec())
    assert sorted(rows_of(rows.train) + rows_of(rows.validation)) == sorted(
        zip(frame.text, frame.label, strict=True)
    )


def test_a_folder_with_split_files_keeps_its_splits(tmp_path):
    write_csv(tmp_path / "train.csv", ["NA,0", "null,1", "c,0"])
    write_csv(tmp_path / "validation.csv", ["d,1", "e,0"])
    rows = splits.load(custom(tmp_path), DataSpec())
    assert sorted(rows.train.texts) == ["NA", "c", "null"]  # words, not missing values
    assert rows.validation == splits.Part(["d", "e"], None, [1, 0])


def test_one_split_gives_a_fifth_for_validation(csv):
    rows = splits.load(custom(csv), DataSpec())
    assert sorted(rows.train.texts + rows.validation.texts) == sorted(
        f"sentence number {i}" for i in range(200)
    )
    assert 20 <= len(rows.validation) <= 60  # 40 expected, within 3.5 standard errors
    again = splits.load(custom(csv, validation=None), DataSpec())
    assert again.fingerprint == rows.fingerprint


def test_equal_texts_stay_on_one_side_of_the_split(tmp_path):
    file = write_csv(tmp_path / "rows.csv", [f"text {i % 50},{i % 2}" for i in range(400)])
    rows = splits.load(custom(file), DataSpec())
    assert not set(rows.train.texts) & set(rows.validation.texts)


@pytest.mark.long
@given(seed=st.integers(0, 99), small=st.integers(1, 60), more=st.integers(0, 60), held=st.integers(0, 40))
@settings(deadline=None, max_examples=25)
def test_subsets_are_nested_and_the_holdout_apart(seed, small, more, held):
    task = config("pydoc-lm")
    one = splits.load(task, DataSpec(max_train=small, holdout=held, seed=seed, max_eval=10))
    two = splits.load(task, DataSpec(max_train=small + more, holdout=held, seed=seed, max_eval=10))
    assert two.train.texts[:small] == one.train.texts
    assert one.holdout == two.holdout
    assert one.validation == two.validation
    assert len(one.holdout) == held
    assert not set(two.train.texts) & set(two.holdout.texts)


def test_the_order_is_that_of_the_raw_pcg64_stream(csv):
    import numpy as np

    full = splits.load(custom(csv), DataSpec(seed=7))
    file_order = sorted(full.train.texts, key=lambda text: int(text.split()[-1]))
    raw = np.random.PCG64(stream_seed(7, "rows")).random_raw(len(file_order)).tolist()
    assert full.train.texts == [text for _, text in sorted(zip(raw, file_order, strict=True))]


def test_another_seed_takes_other_rows(csv):
    one, two = (splits.load(custom(csv), DataSpec(max_train=50, max_eval=20, seed=seed)) for seed in (0, 1))
    assert one.train != two.train
    assert one.validation != two.validation
    assert one.fingerprint != two.fingerprint


def test_max_eval_keeps_the_order_of_the_file(csv):
    rows = splits.load(custom(csv), DataSpec(max_eval=15))
    numbers = [int(text.split()[-1]) for text in rows.validation.texts]
    assert len(numbers) == 15
    assert numbers == sorted(numbers)


def test_the_fingerprint_sees_every_change(tmp_path):
    def fingerprint(rows, **changes):
        return splits.load(custom(write_csv(tmp_path / "rows.csv", rows), **changes), DataSpec()).fingerprint

    rows = [f"t{i},{i % 2}" for i in range(50)]
    first = fingerprint(rows)
    assert fingerprint(rows) == first
    assert fingerprint(["t0,1", *rows[1:]]) != first
    assert fingerprint(["T0,0", *rows[1:]]) != first
    assert fingerprint(rows, labels=["a", "b"]) != first


def test_a_file_changed_within_its_time_stamp_is_read_anew(tmp_path):
    file = write_csv(tmp_path / "rows.csv", [f"old {i},{i % 2}" for i in range(30)])
    splits.load(custom(file), DataSpec())
    stamp = file.stat().st_mtime_ns
    write_csv(file, [f"new {i},{i % 2}" for i in range(30)])
    os.utime(file, ns=(stamp, stamp))
    assert all(text.startswith("new") for text in splits.load(custom(file), DataSpec()).train.texts)


# --- labels ------------------------------------------------------------------------------------------


def test_string_labels_become_ids_in_sorted_order(csv):
    rows = splits.load(custom(csv), DataSpec())
    assert rows.label_names == ("no", "yes")
    for text, label in rows_of(rows.train):
        assert label == (1 if int(text.split()[-1]) % 3 else 0)


def test_labels_may_be_named_in_an_order_of_ones_own(csv):
    rows = splits.load(custom(csv, labels=["yes", "no"]), DataSpec())
    assert rows.label_names == ("yes", "no")
    for text, label in rows_of(rows.train):
        assert label == (0 if int(text.split()[-1]) % 3 else 1)


def test_numeric_labels_may_start_anywhere(tmp_path):
    file = write_csv(tmp_path / "rows.csv", [f"t{i},{(-1, 1, 10)[i % 3]}" for i in range(60)])
    rows = splits.load(custom(file), DataSpec())
    assert rows.label_names == ("-1", "1", "10")
    assert all(label == int(text[1:]) % 3 for text, label in rows_of(rows.train))


def test_regression_reads_integers_and_reals(tmp_path):
    file = write_csv(tmp_path / "rows.csv", [f"t{i},{i / 4}" for i in range(60)])
    rows = splits.load(custom(file, regression=True, metrics=["pearson"]), DataSpec())
    assert rows.label_names == ()
    assert all(label == int(text[1:]) / 4 for text, label in rows_of(rows.train))
    assert {type(label) for label in rows.train.labels} == {float}


def single(number):
    """A number as four bytes hold it."""
    return struct.unpack("f", struct.pack("f", number))[0]


@pytest.mark.parametrize(
    ("labels", "two"),
    [
        ([1700000000 + i for i in range(60)], (1700000000, 1700000001)),
        ([0, *(1700000000 + i for i in range(60))], (1700000000, 1700000001)),  # one far away
        ([1000 + i / 2**20 for i in range(60)], (1000.0, 1000 + 2**-20)),
        ([-(10**17) - 1000 * i for i in range(60)], (-(10**17) - 59000, -(10**17) - 58000)),
        ([1e-60 * i for i in range(60)], (0.0, 1e-60)),
        ([i / 7 for i in range(60)], None),
        ([16777216 + i for i in range(60)], None),  # two and two, which takes next to nothing from a score
        ([x for i in range(60) for x in (i / 7, i / 7 + 1e-12)], None),  # alike for any measurement
        ([1e17 * i for i in range(10)] * 6, None),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_numbers_that_single_precision_takes_for_one_are_told(tmp_path, labels, two, split):
    assert two is None or (two[0] != two[1] and single(two[0]) == single(two[1]))
    for name, numbers in {"train": range(9), "validation": range(9), split: labels}.items():
        write_csv(tmp_path / f"{name}.csv", [f"t{i},{number}" for i, number in enumerate(numbers)])
    if two is None:
        rows = splits.load(custom(tmp_path, **REALS), DataSpec())
        assert sorted(getattr(rows, split).labels) == sorted(map(float, labels))
        return
    tiny = max(map(abs, labels)) < 1e-50
    change = "multiply all labels by one number" if tiny else "subtract one number from all labels"
    way = f"are one number in float32, .*; {change}"
    said = rf"task\.label=label: .* split {split} of .* {re.escape(f'{two[0]} and {two[1]}')} {way}"
    with pytest.raises(DataError, match=said):
        splits.load(custom(tmp_path, **REALS), DataSpec())


# --- bad input ---------------------------------------------------------------------------------------

ROWS = [f"t{i},{i % 2}" for i in range(30)]
REALS = {"regression": True, "metrics": ["pearson"]}


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (ROWS, {"label": "labell"}, r"task\.label=labell: .* it has text, label; did you mean label\?"),
        (ROWS, {"text": ["txt"]}, r"task\.text=txt: .* it has text, label; did you mean text\?"),
        (ROWS, {"text": ["text", "pair"]}, r"task\.text=pair: .* no such column"),
        ([], {}, "empty split"),
        ([*ROWS, "last,"], {}, r"task\.label=label: row 31 .* of split train of .* has no value"),
        ([*ROWS, ",1"], {}, r"task\.text=text: row 31 .* of split train of .* has no value"),
        ([f"t{i},-1" for i in range(30)], {}, "hidden"),
        ([f"t{i},3" for i in range(30)], {}, r"all \d+ training rows .* have the label '3'"),
        ([f"t{i},{i}.5" for i in range(30)], {}, r"real numbers; add task\.regression=true"),
        ([f"t{i},{'xy'[i % 2]}" for i in range(30)], {"labels": ["x", "z"]}, r"is 'y', not one of x, z"),
        ([f"t{i},word" for i in range(30)], {"regression": True, "metrics": ["pearson"]}, "but 'word'"),
        ([*ROWS, "t,inf"], {"regression": True, "metrics": ["pearson"]}, "row 31 .* number but inf"),
        ([f"t{i},{i}" for i in range(1500)], {}, "1500 different values"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(tmp_path, rows, changes, message):
    file = write_csv(tmp_path / "rows.csv", rows)
    with pytest.raises(DataError, match=message) as raised:
        splits.load(custom(file, **changes), DataSpec())
    assert "\n" not in str(raised.value)


def test_a_column_that_names_rows_is_no_label(tmp_path):
    header, words = "text,user,stars,likes", [f"t{i},u{i},{i % 5},{7 * i}" for i in range(40)]
    file = write_csv(tmp_path / "rows.csv", words, header=header)
    said = r"task\.label={} of .*rows\.csv has 40 different values in 40 rows.*task\.label \(there are {}\){}"
    for label, others, more in (
        ("user", "stars, likes", ", or list the classes by task.labels"),
        ("likes", "user, stars", ", predict its numbers by task.regression=true"),
    ):
        with pytest.raises(DataError, match=said.format(label, others, more)):
            splits.load(custom(file, label=label), DataSpec())
    assert len(splits.load(custom(file, label="stars"), DataSpec()).label_names) == 5
    nearly = write_csv(tmp_path / "nearly.csv", [*words, *words[:5]], header=header)
    with pytest.raises(DataError, match="has 40 different values in 45 rows"):
        splits.load(custom(nearly, label="user"), DataSpec())


def test_many_classes_of_few_rows_are_classes(tmp_path):
    """Two rows of each in one file, or one to train on and one to validate; or as many names as somebody lists."""
    pairs = [f"t{i},c{i % 150}" for i in range(300)]
    assert len(splits.load(custom(write_csv(tmp_path / "a.csv", pairs)), DataSpec()).label_names) == 150
    folder = tmp_path / "shots"
    folder.mkdir()
    write_csv(folder / "train.csv", pairs[:150])
    write_csv(folder / "validation.csv", pairs[150:])
    assert len(splits.load(custom(folder), DataSpec()).label_names) == 150
    write_csv(folder / "validation.csv", [f"t{i},u{i}" for i in range(150)])
    with pytest.raises(DataError, match="has 300 different values in 300 rows"):
        splits.load(custom(folder), DataSpec())
    most = write_csv(tmp_path / "most.csv", [f"t{i},c{i % 1001}" for i in range(2002)])
    with pytest.raises(
        DataError, match=r"has 1001 different values; .* 1000 .*, or list the classes by task\.labels"
    ):
        splits.load(custom(most), DataSpec())
    named = custom(most, labels=[f"c{i}" for i in range(1001)])
    assert len(splits.load(named, DataSpec()).label_names) == 1001
    rows = write_csv(tmp_path / "b.csv", [f"t{i},c{i}" for i in range(9)])
    assert splits.load(custom(rows, labels=[f"c{i}" for i in range(9)]), DataSpec()).label_names[8] == "c8"


@pytest.mark.parametrize(
    ("name", "good", "bad", "changes", "where"),
    [
        ("a.csv", "t,{0}\n", "t,\n", {}, "row 2 .* has no value"),
        ("a.csv", "t,{0}\n", ",1\n", {}, "row 2 .* has no value"),
        ("a.csv", "t,{0}\n", "t, 1\n", {}, "row 2 .* white space around it"),
        ("a.csv", "t,{0}\n", "t,7\n", {"labels": ["0", "1"]}, "row 2 .* is 7, not one of 0, 1"),
        ("a.csv", "t,{0}\n", "t,7\n", {"labels": ["no", "yes"]}, "row 2 .* is 7, not one of no, yes"),
        ("a.csv", "t,{0}\n", f"t,{'c' * 2000}\n", {}, "row 2 .* 2000 characters"),
        ("a.csv", "t,{0}.5\n", "t,much\n", REALS, "row 2 .* no finite number but 'much'"),
        ("a.csv", "t,{0}\n", "t,1,2\n", {}, "line 3: has 3 fields"),
        ("a.jsonl", '{{"text": "t", "label": {0}}}\n', '{"text": 5\n', {}, "line 2: is no JSON"),
        ("a.jsonl", '{{"text": "t", "label": {0}}}\n', "5\n", {}, "line 2: is no record but 5"),
        ("a.jsonl", '{{"text": "t", "label": {0}}}\n', '{"text": "t"}\n', {}, "row 2 .* has no value"),
    ],
)  # fmt: skip
def test_all_rows_at_fault_are_told_at_once(tmp_path, name, good, bad, changes, where):
    """Every second of 20 rows is bad: ten of them, of which five are named."""
    lines = [bad if i % 2 else good.format(i // 2 % 2) for i in range(20)]
    first = int(re.search(r"\d+", where)[0])
    (tmp_path / name).write_text("".join(["text,label\n" * name.endswith(".csv"), *lines]))
    with pytest.raises(DataError, match=where) as raised:
        splits.load(custom(tmp_path / name, **changes), DataSpec())
    kind, places = where.split()[0], ", ".join(str(first + 2 * i) for i in range(5))
    assert str(raised.value).endswith(f"; 10 {kind}s in all: {places}, …")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nfine,1\nna\u00efve,0\n".encode("latin-1"), r"a\.csv, line 3: is not UTF-8"),
        ("a.csv", "text,label\nfine,1\n".encode("utf-16"), r"a\.csv, line 1: "),
        ("a.csv", b"text,label\nfi\0ne,1\n", r"a\.csv, line 2: holds a NUL byte"),
        ("a.jsonl", b'{"text": "a\0", "label": 1}\n', r"a\.jsonl, line 1: holds a NUL byte"),
        ("a.jsonl", b'{"text": "a", "label": 1\n', r"a\.jsonl, line 1: is no JSON"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b'text,label\n"open,1\n', r"a\.csv, line 2: unexpected end of data; close every quote"),
        ("a.parquet", b"PAR1 no more", "can't be read"),
        ("a.txt", b"text", "has no .csv, .tsv, .json, .jsonl, .parquet file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        splits.load(custom(tmp_path / name), DataSpec())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("labels", [[], ["only"], ["a", "b", "a"]])
def test_class_names_are_two_or_more_and_differ(labels):
    with pytest.raises(ConfigError, match=r"task\.labels=.* two or more different"):
        custom("rows.csv", labels=labels)


def test_json_texts_that_are_null_or_no_text(tmp_path):
    file = tmp_path / "rows.jsonl"
    good = [{"text": f"t{i}", "label": i % 2} for i in range(9)]
    file.write_text("\n".join(json.dumps(row) for row in [*good, {"text": None, "label": 1}]))
    with pytest.raises(DataError, match=r"row 10 .* of split train .* has no value"):
        splits.load(custom(file), DataSpec())
    file.write_text("\n".join(json.dumps({"text": ["a"], "label": row["label"]}) for row in good))
    with pytest.raises(DataError, match=r"is no text but \['a'\]"):
        splits.load(custom(file), DataSpec())
    file.write_text("\n".join(json.dumps(row | {"text": {"a": "b"}}) for row in good))
    with pytest.raises(DataError, match=r"is no text but an object \{…\}; name"):
        splits.load(custom(file), DataSpec())
    file.write_text("\n".join(json.dumps(row | {"label": [1]}) for row in good))
    with pytest.raises(DataError, match=r"is no class but \['1'\]"):
        splits.load(custom(file), DataSpec())


def test_a_label_that_only_validation_has(tmp_path):
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "validation.csv", ["v,7"])
    with pytest.raises(DataError, match=r"row 1 .* of split validation .* is 7, not one of 0, 1"):
        splits.load(custom(tmp_path), DataSpec())


def test_a_missing_split_lists_the_others(tmp_path):
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "test.csv", ROWS)
    ways = r"task\.validation=test to score that one, or task\.validation=null to set a fifth"
    with pytest.raises(DataError, match=rf"it has train \(train\.csv\), test \(test\.csv\); add {ways}"):
        splits.load(custom(tmp_path), DataSpec())
    assert len(splits.load(custom(tmp_path, validation="test"), DataSpec()).validation) == 30
    assert len(splits.load(custom(tmp_path, validation=None), DataSpec()).validation) < 15


def test_a_missing_split_is_told_with_the_files_as_they_are_called(tmp_path):
    write_csv(tmp_path / "training.csv", ROWS)
    write_csv(tmp_path / "eval.csv", ROWS)
    with pytest.raises(DataError, match=r"train \(training\.csv\), test \(eval\.csv\)"):
        splits.load(custom(tmp_path), DataSpec())
    with pytest.raises(DataError, match=r"no split 'other'; .*; name the one to train on by task\.train"):
        splits.load(custom(tmp_path, train="other"), DataSpec())
    (tmp_path / "eval.csv").unlink()
    with pytest.raises(DataError, match=r"no split 'other'; .*; add task\.validation=null to set"):
        splits.load(custom(tmp_path, validation="other"), DataSpec())


@pytest.mark.parametrize(("texts", "why"), [
    (["same"] * 30, "30 rows .* all have one text; give rows of other texts, or a validation split"),
    (["b", "d", "e", "b"], "4 rows .* all stay together; give more rows, or a validation split"),
])  # fmt: skip
def test_a_fifth_that_is_none_is_told(tmp_path, texts, why):
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(texts)]
    with pytest.raises(DataError, match=why):
        splits.load(custom(write_jsonl(tmp_path / "rows.jsonl", rows)), DataSpec())


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"max_train": 1}, r"data\.max_train=1 leaves 1 of the \d+ .* '(yes|no)'; raise data\.max_train"),
        ({"max_train": 1, "holdout": 5}, r"data\.max_train=1 .*; raise data\.max_train"),
        ({"max_train": 2, "seed": 1}, r"data\.max_train=2 leaves 2 of the .*; raise data\.max_train"),
        ({"holdout": -1}, r"data\.holdout=\d+ leaves 1 of the \d+ .*; lower data\.holdout"),
        ({"holdout": -1, "max_train": 1}, r"data\.holdout=\d+ .*; lower data\.holdout"),
    ],
)
def test_a_cut_that_leaves_one_class_is_told_by_its_key(csv, keys, named):
    n = len(splits.load(custom(csv), DataSpec()).train)
    keys = {key: n - 1 if value < 0 else value for key, value in keys.items()}
    with pytest.raises(DataError, match=rf"{named}, or take other rows by data\.seed$"):
        splits.load(custom(csv), DataSpec(**keys))
    assert len(splits.load(custom(csv), DataSpec(max_train=9)).train) == 9


def test_a_cut_that_leaves_one_number_is_told(tmp_path):
    file = write_csv(tmp_path / "rows.csv", [f"t{i},{i / 4}" for i in range(60)])
    with pytest.raises(DataError, match=r"data\.max_train=1 leaves 1 of .* the label [0-9.]+; raise"):
        splits.load(custom(file, **REALS), DataSpec(max_train=1))


def test_rows_held_out_with_the_text_of_one_to_train_on_are_counted(tmp_path):
    texts = [f"text {i if i % 3 else i % 50}" for i in range(200)]
    file = write_csv(tmp_path / "rows.csv", [f"{text},{i % 2}" for i, text in enumerate(texts)])
    rows = splits.load(custom(file), DataSpec(holdout=20))
    seen = sum(text in rows.train.texts for text in rows.holdout.texts)
    assert 0 < seen < 20
    assert rows.summary.endswith(f"; {seen} of the rows held out have the text of one to train on")
    assert "have the text" not in splits.load(custom(file), DataSpec()).summary


def test_a_holdout_that_leaves_nothing(csv):
    with pytest.raises(DataError, match=r"data\.holdout=500 leaves none of the \d+ training rows"):
        splits.load(custom(csv), DataSpec(holdout=500))


def test_a_metric_of_the_other_kind(csv):
    with pytest.raises(ConfigError, match="'pearson' is no classification metric"):
        task_of(custom(csv, metrics=["pearson"]))


@pytest.mark.parametrize(
    ("names", "part"),
    [({"train": "nonsense"}, "task.train=nonsense"), ({"validation": "nonsense"}, "has no split 'nonsense'")],
)
def test_a_split_that_one_file_does_not_have_is_refused(tmp_path, names, part):
    path = write_jsonl(tmp_path / "rows.jsonl", sentences(40))
    with pytest.raises(DataError, match=part):
        splits.load(custom(path, **names), DataSpec())


def test_permuted_labels_are_the_same_labels_on_other_rows(csv):
    plain, one, again, other = (
        splits.load(custom(csv), DataSpec(permute_labels=number)) for number in (None, 0, 0, 1)
    )
    assert one == again
    assert one.train.texts == plain.train.texts == other.train.texts
    assert sorted(one.train.labels) == sorted(plain.train.labels)
    assert len({tuple(rows.train.labels) for rows in (plain, one, other)}) == 3
    assert one.validation == plain.validation
    assert len({rows.fingerprint for rows in (plain, one, other)}) == 3


def test_permuted_labels_tell_nothing_of_the_rows(csv):
    """Of 50 draws, a row keeps its label as often as chance has it: 1/2 of two equal classes."""
    plain = splits.load(custom(csv), DataSpec()).train.labels
    share = np.mean([
        np.mean(np.array(splits.load(custom(csv), DataSpec(permute_labels=i)).train.labels) == np.array(plain))
        for i in range(50)
    ])  # fmt: skip
    classes = np.bincount(plain) / len(plain)
    assert share == pytest.approx(float((classes**2).sum()), abs=4 * 0.5 / math.sqrt(50 * len(plain)))


@pytest.mark.parametrize(
    ("labels", "fits"),
    [
        ([i / 12 for i in range(60)], True),  # as STS-B's
        ([float(i) for i in range(60)], True),
        ([290 + i / 2 for i in range(60)], True),  # temperatures
        ([100 + i / 60 for i in range(60)], False),
        ([1990 + i / 2 for i in range(60)], False),
        ([-2000 + i / 12 for i in range(60)], False),
        ([1e-9 * i for i in range(60)], True),
        ([7.0] * 60, True),  # of which no answer scores well
    ],
)
def test_labels_too_far_from_0_for_bfloat16_are_told(labels, fits):
    told = pytest.raises(DataError, match=r"subtract one number.*precision=fp32")
    with nullcontext() if fits else told:
        check_short(custom("rows.csv", **REALS), np.array(labels, dtype=np.float32))
