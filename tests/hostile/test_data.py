# ruff: noqa: E501 (a table of files)
"""Data files made to break: each ends in success, or in one line and status 2, and leaves nothing."""

import gzip
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cases import Cases
from support.rows import sentences

HEADER = "text,label\n"
ROWS = sentences(40)
BODY = "".join(f"{row['text']},{row['label']}\n" for row in ROWS)
GOOD = HEADER + BODY
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = {"text": [row["text"] for row in ROWS], "label": [row["label"] for row in ROWS]}
REGRESSION = ["task.regression=true", "task.metrics=[pearson]"]


def labelled(*labels):
    """A CSV whose rows have these labels in turn."""
    return HEADER + "".join(f"{row['text']},{labels[i % len(labels)]}\n" for i, row in enumerate(ROWS))


def lines(*records):
    return LINES + "".join(
        (record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records
    )


def parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), sink)
    return sink.getvalue().to_pybytes()


PARQUET = parquet(TABLE)
NUMBERED = [row["text"] for row in ROWS]

# Name of the file, content, words beside it, and what the one line must say ("" where the file is good).
FILES = {
    # encodings
    "utf-16": ("x.csv", GOOD.encode("utf-16"), [], "line 1: holds a NUL byte"),
    "utf-32": ("x.csv", GOOD.encode("utf-32"), [], "line 1: holds a NUL byte"),
    "latin-1": ("x.csv", (GOOD + "caf\xe9,calm\n").encode("latin-1"), [], "line 42: is not UTF-8"),
    "bom": ("x.csv", b"\xef\xbb\xbf" + GOOD.encode(), [], ""),
    "bom jsonl": ("x.jsonl", b"\xef\xbb\xbf" + LINES.encode(), [], ""),
    "crlf": ("x.csv", GOOD.replace("\n", "\r\n"), [], ""),
    "cr": ("x.csv", GOOD.replace("\n", "\r"), [], ""),
    "nul": ("x.csv", GOOD + "a\0b,calm\n", [], "line 42: holds a NUL byte"),
    "escaped nul": ("x.jsonl", lines({"text": "a\0b", "label": "calm"}), [], ""),
    "half a surrogate": ("x.jsonl", lines({"text": "\ud800", "label": "calm"}), [], "surrogate"),
    "binary": ("x.csv", bytes(range(256)) * 9, [], "NUL byte"),
    "gzip": ("x.csv", gzip.compress(GOOD.encode()), [], "x.csv, line 1: "),
    # size
    "10 MB cell": ("x.csv", GOOD + "x" * 10_000_000 + ",calm\n", [], "line 42: a cell of more than 1000000"),
    "10 MB header": ("x.csv", "text,label," + "h" * 10_000_000 + "\n", [], "line 1: a cell of more than"),
    "10 MB label": ("x.csv", GOOD + "x," + "c" * 10_000_000 + "\n", [], "line 42: a cell of more than"),
    "10 MB string": ("x.jsonl", lines({"text": "x" * 10_000_000, "label": "calm"}), [], "10000000 characters"),
    "long label": ("x.csv", GOOD + "x," + "c" * 2000 + "\n", [], "2000 characters"),
    "quote never closed": ("x.csv", GOOD + '"' + "x\n" * 100_000, [], "unexpected end of data; close every quote"),
    "quote swallows": ("x.csv", GOOD + '"' + "x\n" * 900_000, [], "a cell of more than 1000000"),
    "many classes": ("x.csv", HEADER + "".join(f"a{i},c{i}\n" for i in range(3000)), [], "3000 different values"),
    "deep json": ("x.json", "[" * 100_000 + "]" * 100_000, [], "nested too deeply"),
    "deep line": ("x.jsonl", lines('{"text":' + '{"a":' * 5000 + "1" + "}" * 5000 + "}"), [], "line 41: is nested too"),
    "long number": ("x.jsonl", lines('{"text":"a","label":' + "9" * 5000 + "}"), [], "5000 characters"),
    # shape
    "empty": ("x.csv", "", [], "is empty"),
    "newlines": ("x.csv", "\n\n\n", [], "no header"),
    "a space": ("x.csv", " ", [], "no header"),
    "commas": ("x.csv", ",,,\n,,,\n", [], "no header"),
    "header alone": ("x.csv", HEADER, [], "empty split"),
    "one row": ("x.csv", HEADER + "a,calm\n", [], "give more rows"),
    "field too many": ("x.csv", GOOD + "a,calm,more\n", [], "line 42: has 3 fields where the header has 2"),
    "field too few": ("x.csv", GOOD + "a\n", [], "line 42: has 1 fields where the header has 2"),
    "all too long": ("x.csv", HEADER + BODY.replace("\n", ",1\n"), [], "line 2: has 3 fields"),
    "ragged in a quote": ("x.csv", GOOD + '"a\nb",calm,x\n', [], "line 43: has 3 fields"),
    "text after a quote": ("x.csv", GOOD + '"a"b,calm\n', [], "line 42: "),
    "two lines in quotes": ("x.csv", GOOD + '"a\nb",calm\n', [], ""),
    "title": ("x.csv", "My data\n\n" + GOOD, [], "line 3: has 2 fields where the header has 1"),
    "index column": ("x.csv", ",text,label\n" + "".join(f"{i},{r}\n" for i, r in enumerate(BODY.splitlines())), [], ""),
    "semicolons": ("x.csv", GOOD.replace(",", ";"), [], "task.label=label: "),
    "html": ("x.csv", "<html>\n<body>404</body>\n</html>\n", [], "no such column"),
    "no header": ("x.csv", BODY, [], "no such column"),
    "no label": ("x.csv", BODY.replace(",calm", "").replace(",loud", ""), [], "no such column"),
    "label twice": ("x.csv", "text,label,label\n" + BODY.replace("\n", ",x\n"), [], "'label' 2 times"),
    "text twice": ("x.tsv", "text\ttext\tlabel\n" + BODY.replace(",", "\tq\t"), [], "'text' 2 times"),
    "note twice": ("x.csv", "text,label,note,note\n" + BODY.replace("\n", ",x,y\n"), [], ""),
    "key twice": ("x.jsonl", lines('{"text":"a","label":"x","label":"y"}'), [], "line 41: a record has one key twice"),
    "space in header": ("x.csv", " text, label\n" + BODY, [], "did you mean"),
    # cells
    "no text": ("x.csv", GOOD + ",calm\n", [], "row 41 (without the header) of split train"),
    "no text at all": ("x.csv", HEADER + ",calm\n,loud\n" * 9, [], "row 1 (without the header) of split train"),
    "no class": ("x.csv", GOOD + "a,\n", [], "row 41 (without the header) of split train"),
    "NA": ("x.csv", GOOD + "NA,calm\nnull,loud\nNone,calm\n", [], ""),
    "numbers for text": ("x.csv", HEADER + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(40)), [], ""),
    "one class": ("x.csv", labelled("calm"), [], "have the label 'calm'"),
    "control characters": ("x.csv", GOOD + "\x01\x1b[31m,\x1b[31m\n", [], ""),
    "-1 among others": ("x.csv", labelled(0, 1, -1), [], ""),
    "-1 alone": ("x.csv", labelled(-1), [], "the labels are hidden"),
    "outside": ("x.csv", GOOD, ["task.labels=[calm,quiet]"], "row 2 (without the header) of split train"),
    "outside as ids": ("x.csv", labelled(1, 2), ["task.labels=[no,yes]"], "is 2, not one of no, yes"),
    "-1 as an id": ("x.csv", labelled(0, 1, -1), ["task.labels=[no,yes]"], "-1 marks hidden labels"),
    "names twice": ("x.csv", GOOD, ["task.labels=[calm,loud,calm]"], "two or more different class names"),
    "text and numbers": ("x.jsonl", lines({"text": "a", "label": 5}), [], ""),
    "huge integers": ("x.csv", labelled(10**30, 10**31), [], ""),
    "64 bits": ("x.csv", labelled(2**63, 2**63 + 1), [], ""),
    "infinite class": ("x.csv", labelled("inf", 1.0), [], ""),
    "real class": ("x.csv", labelled(0.5, 1.5), [], "task.regression=true"),
    "NaN": ("x.jsonl", '{"text":"x","label":NaN}\n{"text":"y","label":1}\n' * 20, [], "has no value"),
    "list for text": ("x.jsonl", lines({"text": ["a"], "label": "calm"}), [], "is no text but"),
    "dict for class": ("x.jsonl", '{"text":"x","label":{"a":1}}\n' * 9, [], "is no class but"),
    "missing key": ("x.jsonl", lines({"text": "a"}), [], "row 41 (without the header)"),
    # regression
    "words for numbers": ("x.csv", labelled(1, "calm"), REGRESSION, "is no finite number but 'calm'"),
    "numbers as text": ("x.jsonl", LINES.replace('"calm"', '"1.5"').replace('"loud"', '"2"'), REGRESSION, ""),
    "infinite": ("x.csv", labelled(1.5, "inf"), REGRESSION, "is no finite number but inf"),
    "1e300": ("x.csv", labelled(1.5, 1e300), REGRESSION, "divide all labels by one number"),
    "constant": ("x.csv", labelled(1.5), REGRESSION, "have the label 1.5"),
    # JSON that is no list of records
    "scalar": ("x.json", "5", [], "is no record but 5"),
    "string": ("x.json", '"x"', [], "is no record but 'x'"),
    "null": ("x.json", "null", [], "is no record but None"),
    "columns": ("x.json", json.dumps(TABLE), [], "is no class but"),
    "wrapped": ("x.json", json.dumps({"data": ROWS}), [], "no such column; it has data"),
    "list of numbers": ("x.json", "[1,2]", [], "record 1: is no record but 1"),
    "list": ("x.json", json.dumps(ROWS), [], ""),
    "indented list": ("x.json", json.dumps(ROWS, indent=1), [], ""),
    "list cut": ("x.json", json.dumps(ROWS)[:-9], [], "is no JSON"),
    "lines cut": ("x.jsonl", LINES[:-9], [], "line 40: is no JSON"),
    "empty list": ("x.json", "[]", [], "task.path="),
    "empty records": ("x.json", "[{},{}]", [], "task."),
    "blank lines": ("x.jsonl", LINES.replace("\n", "\n\n"), [], ""),
    "array lines": ("x.jsonl", "[1,2]\n" * 9, [], "is no JSON"),
    # Parquet
    "parquet": ("x.parquet", PARQUET, [], ""),
    "parquet cut": ("x.parquet", PARQUET[:-30], [], "can't be read"),
    "parquet empty": ("x.parquet", b"", [], "can't be read"),
    "parquet of bytes": ("x.parquet", parquet({**TABLE, "text": [b"\xff"] * 40}), [], "is no text but b'"),
    "parquet of nulls": ("x.parquet", parquet({**TABLE, "text": pa.nulls(40)}), [], "has no value"),
    "parquet u64": ("x.parquet", parquet({**TABLE, "label": pa.array([2**64 - 1, 1] * 20, pa.uint64())}), [], ""),
    "parquet without rows": ("x.parquet", parquet(pa.table(TABLE).slice(0, 0)), [], "can't be read"),
    "parquet metadata": (
        "x.parquet",
        parquet(pa.table(TABLE).replace_schema_metadata({"huggingface": "no json"})), [], "can't be read",
    ),
    "parquet label twice": (
        "x.parquet",
        parquet(pa.Table.from_arrays([*pa.table(TABLE).columns, pa.table(TABLE)["label"]], ["text", "label", "label"])),
        [], "can't be read",
    ),
    # names
    "another kind": ("x.xlsx", GOOD, [], "has no .csv"),
    "brackets": ("x[1]*.csv", GOOD, [], ""),
    "an address": ("::x.csv", GOOD, [], ""),
    "unicode": ("日本.csv", GOOD, [], ""),
}  # fmt: skip


@pytest.fixture
def cases(tmp_path, capsys):
    return Cases(tmp_path / "out", capsys)


@pytest.fixture
def run(cases, monkeypatch):
    """Run one step on a path; returns the one line, or "" for a success."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(path, *words):
        return cases("run", "model=tiny", "task=custom", f"task.path='{path}'", "d=20", "train.max_steps=1",
                     "data.max_length=16", "train.precision=fp32", f"output_dir={cases.output}", *words)  # fmt: skip

    return call


@pytest.mark.long
@pytest.mark.parametrize("case", FILES)
def test_a_file_is_read_or_refused_with_its_reason(run, tmp_path, case):
    name, content, words, part = FILES[case]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    said = run(path, *words)
    assert bool(said) == bool(part), said
    assert part in said
    if part and name not in said:
        assert said.startswith("idim: task.labels")


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "end"]),
        st.integers(0, 10**6),
        st.sampled_from(
            [b"9", b'"', b",", b"\n", b"{", b"}", b"[", b"null", b"\0", b"\xff", b"-", b"\\", b"1e999"]
        ),
    ),
    min_size=1,
    max_size=4,
)


def edited(content, edits):
    for kind, where, piece in edits:
        at = where % (len(content) + 1)
        if kind == "flip":
            content = content[:at] + piece[:1] + content[at + 1 :]
        elif kind == "cut":
            content = content[:at] + content[at + 9 :]
        elif kind == "insert":
            content = content[:at] + piece + content[at:]
        else:
            content = content[:at]
    return content


@pytest.mark.long
def test_files_with_random_damage(run, cases, tmp_path):
    kinds = {
        "x.csv": GOOD.encode(),
        "x.jsonl": LINES.encode(),
        "x.json": json.dumps(ROWS).encode(),
        "x.parquet": PARQUET,
    }

    @settings(
        max_examples=160, derandomize=True, deadline=None, database=None, suppress_health_check=HealthCheck
    )
    @given(st.sampled_from(sorted(kinds)), EDITS)
    def generated(name, edits):
        path = tmp_path / name
        path.write_bytes(edited(kinds[name], edits))
        run(path)

    generated()
    assert cases.counts.total() >= 160
    assert cases.counts["success"] > 3


# --- paths ------------------------------------------------------------------------------------------------


def test_paths_that_are_no_data(run, cases, tmp_path, monkeypatch):
    (tmp_path / "good.csv").write_text(GOOD)
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name, target in {"loop.csv": "loop.csv", "gone.csv": "nowhere", "zero.csv": "/dev/zero",
                         "to_pipe.csv": "pipe.csv", "memory.csv": "/proc/self/mem"}.items():  # fmt: skip
        os.symlink(target, tmp_path / name)
    for folder, names in {"pipes": [], "mixed": ["a.csv", "b.jsonl"], "hidden": [".a.csv"]}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(GOOD)
    os.mkfifo(tmp_path / "pipes" / "train.csv")
    monkeypatch.chdir(tmp_path)
    paths = ["folder.csv", "pipe.csv", "loop.csv", "gone.csv", "zero.csv", "to_pipe.csv", "memory.csv", "./pipes",
             "./mixed", "./hidden", "good.csv/x", "x" * 300 + ".csv", "x/" * 3000 + "x.csv", "", "/", "/dev", "/sys",
             "/dev/stdin", "/dev/null", "/etc/passwd", "~nobody_of_this_name/x.csv", "http://127.0.0.1:1/x.csv",
             "file:///etc/passwd", "zip://x::y.csv", "csv", "text", "a--b/c", "-x"]  # fmt: skip
    for path in paths:
        said = run(path)
        assert "task.path" in said or "can't read" in said or "more than 10000 files" in said
    assert cases.counts["success"] == 0


def test_a_folder_may_hold_what_is_no_data(run, cases, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.csv").write_text(GOOD)
    os.mkfifo(folder / "notes")
    os.symlink("..", folder / "up")
    os.symlink("none", folder / "none")
    (folder / "dataset_infos.json").write_text("{}")
    assert run(folder) == ""


@pytest.mark.parametrize(
    "content",
    ["---\n{{{ no yaml\n---\n", "---\nconfigs:\n- data_files: ../../../../etc/*\n---\n", "---\n" * 100_000],
)
def test_a_readme_has_no_say(run, tmp_path, content):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.csv").write_text(GOOD)
    (folder / "README.md").write_text(content)
    assert run(folder) == ""


def test_runs_are_not_written_among_their_data(run, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.csv").write_text(GOOD)
    for output in (folder, folder / "out", folder / "a" / ".." / "out"):
        assert f"lies in task.path={folder}" in run(folder, f"output_dir={output}")
    assert sorted(os.listdir(folder)) == ["train.csv"]
    assert run(folder, f"output_dir={tmp_path / 'folder-out'}") == ""


@pytest.mark.parametrize("place", ["task.path", "model.name"])
def test_a_pipe_does_not_hang_a_process(tmp_path, place):
    os.mkfifo(tmp_path / "pipe.csv")
    done = subprocess.run(
        [sys.executable, "-m", "intrinsic_cli", "run", "model=tiny", "task=custom", "task.path=x.csv", f"output_dir={tmp_path / 'out'}",
         f"{place}={tmp_path / 'pipe.csv'}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pipe.csv is neither a file nor a folder" in done.stderr
