"""A cell is the text it is, whatever the format; what would take too much is refused before it is taken."""

import csv
import io
import json
import os
import resource
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic_cli.errors import DataError
from intrinsic_cli.spec import DataSpec, TaskSpec
from intrinsic_cli.tasks import records, splits

GIB = 2**30
FORMATS = ("csv", "tsv", "json", "jsonl", "parquet")


def write(path, columns):
    """A table of texts in the format that its name says, by another program's writer."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    kind = path.suffix[1:]
    if kind in ("csv", "tsv"):
        file = io.StringIO(newline="")
        writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
        writer.writerows([list(columns), *(list(row.values()) for row in rows)])
        path.write_text(file.getvalue(), encoding="utf-8", newline="")
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.table(columns), path)
    return path


def task(path, **changes):
    values = {"name": "t", "path": str(path), "config": None, "text": ("text",), "label": "label", "train": "train",
              "validation": None, "metrics": ("accuracy",)}  # fmt: skip
    return TaskSpec(**values | changes)


def read(path, **changes):
    """{text: name of its class} of all rows."""
    rows = splits.load(task(path, **changes), DataSpec())
    names = rows.label_names
    return {
        text: names[label] if names else label
        for part in (rows.train, rows.validation)
        for text, label in zip(part.texts, part.labels, strict=True)
    }


def labelled(*labels, n=60):
    return {"text": [f"t{i}" for i in range(n)], "label": [labels[i % len(labels)] for i in range(n)]}


WORDS = [
    ["01", "02", "A1"], ["01", "1", "001"], ["1e2", "100"], ["TRUE", "FALSE", "maybe"], ["TRUE", "FALSE"],
    ["1.0", "1"], ["0x1", "1"], ["NA", "null", "None", "nan"], ["-0", "0"], ["+1", "1"], ["1_000", "1000"],
    ["2020-01-01", "2020-01-02"], ["१", "1"], ["yes", "Yes", "YES"], ["10", "9", "8"], ["9" * 40, "8" * 40],
    ["1,5", "2,5"], ["\u00e9", "e\u0301"],
]  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("labels", WORDS, ids=str)
def test_a_label_is_the_text_it_is(tmp_path, kind, labels):
    columns = labelled(*labels)
    assert read(write(tmp_path / f"x.{kind}", columns)) == dict(
        zip(columns["text"], columns["label"], strict=True)
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_a_text_is_the_text_it_is(tmp_path, kind):
    texts = [f"{i:07}" for i in range(40)] + [
        "1e5",
        "TRUE",
        "2020-01-01T00:00:00Z",
        " a ",
        "NaN",
        "1.10",
        'q"',
        "a\tb,c",
    ]
    columns = {"text": texts, "label": ["ab"[i % 2] for i in range(len(texts))]}
    assert read(write(tmp_path / f"x.{kind}", columns)) == dict(zip(texts, columns["label"], strict=True))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8),
                min_size=2, max_size=30, unique=True))  # fmt: skip
def test_every_format_gives_the_same_cells(tmp_path_factory, texts):
    place = tmp_path_factory.mktemp("formats")
    for kind in FORMATS:
        table, _ = records.read(write(place / f"x.{kind}", {"text": texts, "n": texts}), ("n",), GIB)
        assert table.cells == {"n": texts}, kind


@pytest.mark.parametrize("late", [20_000, 30_001])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_whole_column_decides_however_late(tmp_path, kind, late):
    labels = ["1", "0"] * (late // 2) + ["maybe"] * 4
    columns = {"text": [f"t{i}" for i in range(len(labels))], "label": labels}
    found = read(write(tmp_path / f"x.{kind}", columns))
    assert found == dict(zip(columns["text"], labels, strict=True))


def test_numbers_of_json_and_parquet_are_their_digits(tmp_path):
    lines = [f'{{"text":{i}.50,"label":{"1e2" if i % 2 else 10}}}\n' for i in range(40)]
    (tmp_path / "x.jsonl").write_text("".join(lines))
    assert read(tmp_path / "x.jsonl") == {f"{i}.50": "1e2" if i % 2 else "10" for i in range(40)}
    columns = {"text": [f"t{i}" for i in range(40)], "label": [bool(i % 2) for i in range(40)]}
    assert set(read(write(tmp_path / "x.parquet", columns)).values()) == {"true", "false"}
    assert set(read(write(tmp_path / "y.jsonl", columns)).values()) == {"true", "false"}


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (["0", "1", "0.0", "1.0"], ["0", "1", "0", "1"]), (["2", "10", "10.0", "2e0"], ["2", "10", "10", "2"]),
        (["1", "-1", "-1.0", "1.00"], ["1", "-1", "-1", "1"]), (["0", "-0.0", "1", "1.0"], ["0", "0", "1", "1"]),
        (["1", "0", "2.0", "1.0"], ["1", "0", "2.0", "1"]), (["0.0", "1.0", "0.00", "1.0"], ["0.0", "1.0"] * 2),
        (["0.0", "1.0"], ["0.0", "1.0"]), (["1e2", "3"], ["1e2", "3"]),
        (["1", "1.0", "true", "0"], ["1", "1", "true", "0"]),
        (["9007199254740993", "9007199254740992.0"], ["9007199254740993", "9007199254740992.0"]),
        (['"1"', '"1.0"'], ["1", "1.0"]), (['"1.0"', "1"], ["1.0", "1"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_equal_numbers_of_json_are_one_class(tmp_path, kind, written, names):
    """The integer's, where one is written; what is text stays the text it is."""
    rows = [f'{{"text":"t{i}","label":{written[i % len(written)]}}}' for i in range(60)]
    text = "\n".join(rows) if kind == "jsonl" else f"[{','.join(rows)}]"
    (tmp_path / f"x.{kind}").write_text(text)
    assert read(tmp_path / f"x.{kind}") == {f"t{i}": names[i % len(names)] for i in range(60)}


def test_what_pandas_writes_after_a_missing_value_are_the_same_classes(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(labelled(0, 1, 2))
    more = pd.DataFrame({"text": ["u0", "u1", "u2"], "label": [0, 1, None]}).dropna()
    both = frame.to_json(orient="records", lines=True) + more.to_json(orient="records", lines=True)
    (tmp_path / "x.jsonl").write_text(both.replace('"u0","label":0}', '"u0","label":0.0}'))
    found = read(tmp_path / "x.jsonl")
    assert (found["u0"], found["u1"], set(found.values())) == ("0", "1", {"0", "1", "2"})


@pytest.mark.parametrize("second", [pa.float64(), pa.float32(), pa.decimal128(21, 2), pa.int8()], ids=str)
@pytest.mark.parametrize("names", [("train-00000-of-00002", "train-00001-of-00002"), ("train", "validation")])
def test_equal_numbers_of_parquet_pieces_and_splits_are_one_class(tmp_path, names, second):
    for name, kind, start in zip(names, (pa.int64(), second), (0, 40), strict=True):
        rows = range(start, start + 40)
        labels = pa.array([i % 2 for i in rows], pa.int64()).cast(kind)
        table = pa.table({"text": [f"t{i}" for i in rows], "label": labels})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    found = read(tmp_path, validation=None if "-of-" in names[0] else "validation")
    assert found == {f"t{i}": str(i % 2) for i in range(80)}


def test_equal_numbers_are_only_one_where_they_are_classes(tmp_path):
    rows = [{"text": [1, 1.0][i // 2 % 2], "pair": f"t{i}", "label": i % 2} for i in range(60)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert set(read(tmp_path / "x.jsonl", text=("text", "pair"))) == {"1", "1.0"}


def test_names_that_a_task_gives_stay_apart(tmp_path):
    rows = [f'{{"text":"t{i}","label":{["1", "1.0", "2"][i % 3]}}}\n' for i in range(60)]
    (tmp_path / "x.jsonl").write_text("".join(rows))
    assert set(read(tmp_path / "x.jsonl").values()) == {"1", "2"}
    assert set(read(tmp_path / "x.jsonl", labels=("1.0", "2")).values()) == {"1.0", "2"}
    assert set(read(tmp_path / "x.jsonl", labels=("1.0", "1", "2")).values()) == {"1.0", "1", "2"}


# The hashes of rows that were told apart rightly before equal numbers were one class: they name runs.
PRINTS = {
    "ints": (["0", "1"], "645f236d2cba34bb"),
    "floats": (["0.0", "1.0"], "93406d4457c9abb7"),
    "some of each": (["0", "1", "2.0"], "666af28237190674"),
    "texts": (['"1"', '"1.0"'], "4ce233855c376b5c"),
}


@pytest.mark.parametrize("name", PRINTS)
def test_rows_that_were_read_rightly_keep_their_hash(tmp_path, name):
    written, wanted = PRINTS[name]
    rows = [f'{{"text":"t{i}","label":{written[i % len(written)]}}}\n' for i in range(60)]
    (tmp_path / "x.jsonl").write_text("".join(rows))
    assert splits.load(task(tmp_path / "x.jsonl"), DataSpec()).fingerprint[:16] == wanted


# --- names and ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["False", "True"], ["True", "False"]), (["0", "1"], ["1", "0"]), (["1", "2"], ["1", "2"]),
        (["2", "1"], ["2", "1"]), (["0.0", "1.0"], ["1.0", "0.0"]), (["b", "a"], ["b", "a"]),
        (["01", "1"], ["1", "01"]), ([" x", "x"], ["x", " x"]),
    ],
)  # fmt: skip
def test_names_map_by_name(tmp_path, kind, cells, names):
    columns = labelled(*cells)
    path = write(tmp_path / f"x.{kind}", columns)
    assert read(path, labels=tuple(names)) == dict(zip(columns["text"], columns["label"], strict=True))
    assert splits.load(task(path, labels=tuple(names)), DataSpec()).label_names == tuple(names)


@pytest.mark.parametrize("cells", [("true", "false"), ("True", "False"), ("TRUE", "FALSE")])
@pytest.mark.parametrize("typed", [("true", "false"), ("True", "False")])
def test_truth_values_mean_the_cells_whatever_their_case(tmp_path, cells, typed):
    columns = labelled(*cells)
    path = write(tmp_path / "x.csv", columns)
    assert read(path, labels=typed) == dict(zip(columns["text"], columns["label"], strict=True))


def test_numbers_are_ids_only_of_names_that_are_words(tmp_path):
    path = write(tmp_path / "x.csv", labelled("0", "1"))
    assert read(path, labels=("no", "yes"))["t0"] == "no"
    with pytest.raises(DataError, match="is 0, not one of 5, 6"):
        read(path, labels=("5", "6"))
    with pytest.raises(DataError, match="is 0, not one of 1, yes"):
        read(path, labels=("1", "yes"))


def parquet(path, names, column):
    features = {
        "label": {"names": names, "_type": "ClassLabel"},
        "text": {"dtype": "string", "_type": "Value"},
    }
    table = pa.table({"text": [f"t{i}" for i in range(len(column))], "label": column})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path
    )
    return path


def test_declared_names_and_the_tasks_own_agree_by_name(tmp_path):
    path = parquet(tmp_path / "x.parquet", ["neg", "pos"], [0, 1] * 30)
    assert read(path)["t0"] == "neg"
    assert read(path, labels=("pos", "neg"))["t0"] == "neg"
    assert read(path, labels=("bad", "good"))["t0"] == "bad"
    assert (
        read(parquet(tmp_path / "y.parquet", ["1", "0"], [0, 1] * 30))["t0"] == "1"
    )  # ids, as its type says
    assert read(parquet(tmp_path / "z.parquet", ["neg", "pos"], ["pos", "neg"] * 30))["t0"] == "pos"


@pytest.mark.parametrize(
    ("names", "column", "wanted"),
    [
        (["1", "2", "3"], ["1", "2"], ["1", "2"]),  # stars, as words
        (["neg", "pos", "mid"], ["mid", "neg"], ["mid", "neg"]),
        (["neg", "pos", "mid"], ["2", "0"], ["mid", "neg"]),  # numbers that a program wrote as words
        (["neg", "pos", "mid"], [2, 0], ["mid", "neg"]),
        (["1", "2", "3"], [1, 2], ["2", "3"]),
    ],
)
def test_words_of_a_split_without_a_declaration_are_names(tmp_path, names, column, wanted):
    parquet(tmp_path / "train.parquet", names, [0, 1, 2] * 20)
    pq.write_table(pa.table({"text": ["u0", "u1"], "label": column}), tmp_path / "validation.parquet")
    for options in ({}, {"labels": tuple(names)}):
        found = read(tmp_path, validation="validation", **options)
        assert [found["u0"], found["u1"]] == wanted
        assert [found[f"t{i}"] for i in range(3)] == names


def test_splits_that_declare_different_names_are_refused(tmp_path):
    parquet(tmp_path / "train.parquet", ["neg", "pos"], [0, 1] * 30)
    parquet(tmp_path / "validation.parquet", ["pos", "neg"], [0, 1] * 30)
    with pytest.raises(DataError, match="declare different classes"):
        read(tmp_path, validation="validation")


@pytest.mark.parametrize("cells", [["yes", "yes "], [" yes", " no"], ["a", "\tb"], ["1", " 1"]])
def test_white_space_around_a_label_is_told(tmp_path, cells):
    with pytest.raises(
        DataError, match=r"white space around it; remove it, or state the names by task\.labels"
    ):
        read(write(tmp_path / "x.csv", labelled(*cells)))


@pytest.mark.parametrize(
    ("mark", "name"), [(";", "x.csv"), ("|", "x.csv"), ("\t", "x.csv"), (",", "x.tsv"), (";", "x.tsv")]
)
def test_another_separator_is_told(tmp_path, mark, name):
    (tmp_path / name).write_text(f"text{mark}label\n" + "".join(f"t{i}{mark}{i % 2}\n" for i in range(40)))
    with pytest.raises(DataError, match=r"has no such column; .* one column; if .* separates it"):
        read(tmp_path / name)


# --- sizes ------------------------------------------------------------------------------------------------


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB


def hole(path):
    with path.open("wb") as file:
        file.write(b"text,label\n")
        file.truncate(5 * GIB)


def bomb(value, rows, **options):
    """A Parquet file of few bytes: one text, over and over."""

    def make(path):
        array = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), [value])
        array = array if options.get("use_dictionary", True) else array.cast(pa.string())
        table = pa.table({"text": array, "label": array})
        with pq.ParquetWriter(path, table.schema, compression="zstd", **options) as file:
            for _ in range(rows // 500):
                file.write_table(table, row_group_size=rows)
        assert path.stat().st_size < 10**6

    return make


def many(path):
    columns = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 10**6, pa.int32()), ["a", "b"])
    table = pa.table({"text": columns, "label": columns})
    with pq.ParquetWriter(path, table.schema, compression="zstd") as file:
        for _ in range(10):
            file.write_table(table)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("x.csv", hole), ("x.jsonl", hole), ("x.parquet", hole), ("x.parquet", bomb("a" * 90_000, 20_000)),
        ("x.parquet", bomb("a" * 90_000, 20_000, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY")),
        ("x.parquet", many),
    ],
)  # fmt: skip
def test_what_takes_too_much_is_refused_before_it_is_taken(tmp_path, name, make):
    make(tmp_path / name)
    before = peak()
    with pytest.raises(DataError, match=r"above data\.read_limit=1; raise data\.read_limit"):
        splits.load(task(tmp_path / name), DataSpec(read_limit=1))
    assert peak() < before + 3 * 2**20


def test_more_is_read_where_it_is_allowed(tmp_path):
    path = write(tmp_path / "x.csv", labelled("a", "b", n=2000))
    with pytest.raises(DataError, match=r"raise data\.read_limit"):
        splits.load(task(path), DataSpec(read_limit=1e-5))
    assert splits.load(task(path), DataSpec(read_limit=1e-3))


def seconds(act):
    started = time.process_time()
    act()
    return time.process_time() - started


def test_reading_takes_time_in_step_with_the_file(tmp_path):
    """A new key in each record, and columns that nobody asks for."""

    def keys(n):
        path = tmp_path / f"{n}.jsonl"
        path.write_text(
            "".join(f'{{"text":"t{i}","label":"{"ab"[i % 2]}","k{i}":[{i}]}}\n' for i in range(n))
        )
        return min(seconds(lambda: read(path)) for _ in range(3))

    assert keys(20_000) < 30 * keys(2000)

    wide = tmp_path / "wide.csv"
    others = ",".join(f"c{i}" for i in range(100_000))
    wide.write_text(
        f"text,{others},label\n" + "".join(f"t{i}{',' * 100_001}{'ab'[i % 2]}\n" for i in range(20))
    )
    assert len(read(wide)) == 20
    with pytest.raises(DataError, match="no such column"):
        read(wide, label="lable")


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl", "train.parquet"])
def test_a_pipe_or_device_is_no_file(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=r"has no \.csv"):
        read(tmp_path)
    (tmp_path / name).unlink()
    os.symlink("/dev/zero", tmp_path / name)
    with pytest.raises(DataError, match=r"has no \.csv"):
        read(tmp_path)
    with pytest.raises(DataError, match="neither a file nor a folder"):
        read(tmp_path / name)


@pytest.mark.parametrize("marks", [1, 2, 3])
@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl"])
def test_byte_order_marks_are_no_part_of_a_file_s_first_word(tmp_path, kind, marks):
    columns = labelled("a", "b")
    path = write(tmp_path / f"rows.{kind}", columns)
    path.write_bytes(b"\xef\xbb\xbf" * marks + path.read_bytes())
    assert read(path) == dict(zip(columns["text"], columns["label"], strict=True))


@pytest.mark.parametrize("first", ["sep=,", "sep=;", "SEP=,", '"sep=,"', "sep=|", "sep=\t", "sep="])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_first_line_for_excel_is_named_as_such(tmp_path, kind, first):
    path = write(tmp_path / f"rows.{kind}", labelled("a", "b"))
    path.write_text(first + "\n" + path.read_text())
    with pytest.raises(DataError, match=rf"rows.{kind}: the first line, .*tells a spreadsheet the separator"):
        read(path)


def test_a_column_may_be_called_sep(tmp_path):
    columns = labelled("a", "b")
    path = write(
        tmp_path / "rows.csv", {"sep=": columns["text"], "text": columns["text"], "label": columns["label"]}
    )
    assert read(path) == dict(zip(columns["text"], columns["label"], strict=True))


def test_a_parquet_column_of_lists_is_refused_by_its_row(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": labelled("a")["text"], "label": [[0], [1]] * 30}), path)
    with pytest.raises(DataError, match=r"row 1 .* is no class but \[0\]"):
        read(path)


# --- quotes of a TSV --------------------------------------------------------------------------------------


def unquoted(path, columns, end="\n"):
    """A TSV as GLUE's are: tabs and line breaks separate, and a quote is a character."""
    lines = ["\t".join(row) + end for row in ([*columns], *zip(*columns.values(), strict=True))]
    path.write_text("".join(lines), newline="")
    return path


@pytest.mark.parametrize(
    ("opens", "closes", "columns", "lines"),
    [
        ([10], [13], ("text", "label"), "line 12: .* to line 15"),
        ([10, 30], [13, 37], ("text", "label"), r"line 12: .*; 2 rows in all: 12, 32$"),
        ([10], [11], ("label", "text"), "line 12: .* to line 13"),
        ([10], [13], ("label", "text", "other"), "line 12: .* to line 15"),
    ],
)
def test_a_quote_that_swallows_rows_of_a_tsv_is_told(tmp_path, opens, closes, columns, lines):
    """Speech over several sentences: as quoted cells 40 rows are fewer, and labels become text."""
    cells = labelled("a", "b", n=40) | {"other": ["x"] * 40}
    cells["text"] = ['"' * (i in opens) + text + '"' * (i in closes) for i, text in enumerate(cells["text"])]
    path = unquoted(tmp_path / "x.tsv", {name: cells[name] for name in columns})
    with pytest.raises(DataError, match=lines) as raised:
        read(path)
    assert "save the file as .csv or .jsonl" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("end", ["\r\n", "\n\n", "\r\r\n", "\r"])
def test_a_quote_that_swallows_rows_is_told_whatever_ends_a_line(tmp_path, end):
    texts = ['"' * (i == 10) + f"t{i}" + '"' * (i == 13) for i in range(40)]
    path = unquoted(tmp_path / "x.tsv", {"text": texts, "label": ["a", "b"] * 20}, end)
    with pytest.raises(DataError, match=r"a cell in quotes reaches to line \d+, but each"):
        read(path)


def test_a_quote_that_swallows_a_tab_of_a_tsv_is_told(tmp_path):
    cells = {"text": ['"so', *["t"] * 29], "pair": ['it goes"', *["p"] * 29], "label": ["a", "b"] * 15}
    with pytest.raises(DataError, match=r"line 2: a cell in quotes reaches to line 2, but .* \.csv or"):
        read(unquoted(tmp_path / "x.tsv", cells))


@pytest.mark.parametrize("first", ['"Yes" he said', 'so "x', '"open'])
def test_a_quotation_mark_of_a_tsv_is_told_with_a_way_out(tmp_path, first):
    cells = {"text": [first, *(f"t{i}" for i in range(29))], "label": ["a", "b"] * 15}
    path = unquoted(tmp_path / "x.tsv", cells)
    if first.startswith("so"):
        assert first in read(path)
        return
    with pytest.raises(DataError, match=r"line \d+: (a tab expected after '\"'|unex.*); .*\.jsonl") as raised:
        read(path)
    assert "\t" not in str(raised.value)


TROUBLE = [
    "a\nb", "a\tb", 'say "yes"', '"all"', "a\tb\tc\nd", "def f():\n\treturn 1\n", "\n\n", "a\n\nb", "k: v\n\n\tw",
    '"', "a\tb\nc\td", "def f():\n\treturn 1", "First\n\n\tSecond", "\ta\n\tb",
]  # fmt: skip


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("trouble", TROUBLE, ids=repr)
def test_a_tsv_that_a_program_has_quoted_is_read_as_it_was_written(tmp_path, trouble, place, quoting):
    import pandas as pd

    texts = [trouble, *(f"t{i}" for i in range(29))]
    columns = {"text": texts, "label": ["a", "b"] * 15}
    names = ["text", "label"][:: 1 if place else -1]
    path = tmp_path / "x.tsv"
    pd.DataFrame(columns)[names].to_csv(path, sep="\t", index=False, quoting=quoting)
    assert read(path) == dict(zip(texts, columns["label"], strict=True))


def test_a_tsv_that_quotes_a_cell_like_two_rows_is_told(tmp_path):
    columns = {"text": ["a\tb\nc", *(f"t{i}" for i in range(29))], "label": ["a", "b"] * 15}
    with pytest.raises(DataError, match=r"line 2: .* to line 3, .* the file as \.csv or \.jsonl"):
        read(write(tmp_path / "x.tsv", columns))
    assert read(write(tmp_path / "x.csv", columns))["a\tb\nc"] == "a"


def test_a_tsv_of_one_column_may_have_texts_of_several_lines(tmp_path):
    texts = ["a\nb", *(f"t{i}" for i in range(29))]
    table, _ = records.read(write(tmp_path / "x.tsv", {"text": texts}), ("text",), GIB)
    assert table.cells == {"text": texts}


@given(st.lists(st.text('a" ', min_size=1, max_size=5), min_size=1, max_size=12), st.integers(0, 1))
def test_no_row_of_an_unquoted_tsv_is_lost(tmp_path_factory, texts, place):
    """Whatever its quotes: each line is the row that it says, but for the quotes, or the file is refused."""
    numbers = [str(i) for i in range(len(texts))]
    columns = {"text": texts, "n": numbers} if place else {"n": numbers, "text": texts}
    path = unquoted(tmp_path_factory.mktemp("tsv") / "x.tsv", columns)
    try:
        table, _ = records.read(path, ("text", "n"), GIB)
    except DataError as error:
        assert ".jsonl" in str(error)  # noqa: PT017
    else:
        bare = [text.replace('"', "") for text in texts]
        assert [(text or "").replace('"', "") for text in table.cells["text"]] == bare
        assert table.cells["n"] == numbers
