"""Throw at idim what other people's files and machines can hold, and count what comes of it.

Each case is drawn from a seed and ends right (with the very rows, classes or weights that its files say), or
refused in one line. Anything else is a fault. A kind's cases run in a process of their own: a crash is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import itertools
import json
import os
import random
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from intrinsic_cli.errors import DataError, IdimError
from intrinsic_cli.paths import fingerprint
from intrinsic_cli.spec import DataSpec, ModelSpec, TaskSpec

FAULTS = ("unforeseen", "traceback", "hang", "crash", "silently other")
OUTCOMES = ("right", "refused", *FAULTS)
ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300  # seconds until a case counts as a hang: far more than any takes on a busy machine
FORMATS = ("csv", "tsv", "json", "jsonl", "parquet")
ODD = [
    10**9, 10**30, -1, 0, None, "x", "", [], {}, 1.5, True, "../../x", {"a": "b"}, 1e308, float("nan"), "\x1b[31m",
    [[[[1]]]], "x" * 3000, -(10**12), "NaN", 10**400,
]  # fmt: skip
EASY = (
    "model=tiny",
    "task=custom",
    "d=20",
    "train.max_steps=1",
    "data.max_length=16",
    "train.precision=fp32",
)
Case = Callable[[], None]


class Other(Exception):
    """Rows, classes or weights that are not those of the files."""


class Hang(BaseException):
    """A case that has come to no end."""


# --- judging ----------------------------------------------------------------------------------------------


def judged(case: Case) -> tuple[str, str]:
    """(outcome, what was said)."""
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        case()
    except IdimError as error:
        return ("refused" if str(error).isprintable() else "unforeseen"), str(error)
    except Refused as said:
        return "refused", str(said)
    except Other as said:
        return "silently other", str(said)
    except Traceback as said:
        return "traceback", str(said)
    except Hang:
        return "hang", ""
    except (Exception, SystemExit) as error:
        return "unforeseen", f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "right", ""


class Refused(Exception):
    """One line and status 1 or 2 of a command."""


class Traceback(Exception):
    """A traceback on a command's stderr."""


def command(*words: object) -> None:
    """Call `idim` here."""
    from intrinsic_cli.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(word) for word in words])
        except SystemExit as stop:  # argparse
            status = int(stop.code or 0)
    look(status, out.getvalue(), err.getvalue())


def look(status: int, out: str, err: str) -> None:
    """Judge what a command printed."""
    if "Traceback" in err:
        raise Traceback(err[-300:])
    last = err.strip().splitlines()[-1] if err.strip() else ""
    if "unforeseen" in err or status not in (0, 1, 2) or not (out + err).replace("\n", "").isprintable():
        raise ValueError(f"status {status}: {last[:300]!r}")
    if status:
        raise Refused(last)


# --- rows -------------------------------------------------------------------------------------------------


def rows(n: int, start: int = 0, labels: Sequence[str] = ("calm", "loud")) -> dict[str, str]:
    """n different texts and their labels."""
    return {f"row {i} {'az'[i % 2]}": labels[i % len(labels)] for i in range(start, start + n)}


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    """A table in the format that its name says, by the writers of other programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    kind = path.suffix[1:].lower()
    if kind in ("csv", "tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
            writer.writerows([list(columns), *(list(record.values()) for record in records)])
    elif kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns), path)
    elif kind == "json":
        path.write_text(json.dumps(records))
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def table(labelled: dict[str, str]) -> dict[str, list[Any]]:
    return {"text": list(labelled), "label": list(labelled.values())}


def task(path: Path, **changes: Any) -> TaskSpec:
    values: dict[str, Any] = {
        "name": "hostile", "path": str(path), "config": None, "text": ("text",), "label": "label", "train": "train",
        "validation": "validation", "metrics": ("accuracy",),
    }  # fmt: skip
    return TaskSpec(**values | changes)


def used(spec: TaskSpec) -> dict[str, str]:
    """Every text that is used, and the name of its class."""
    from intrinsic_cli.tasks import splits

    found = splits.load(spec, DataSpec())
    if not found.summary.isprintable():
        raise ValueError(f"a summary that is not printable: {found.summary!r}")
    parts = (found.train, found.validation)
    return {
        text: found.label_names[int(label)]
        for part in parts
        for text, label in zip(part.texts, part.labels, strict=True)
    }


def same(spec: TaskSpec, wanted: dict[str, str]) -> None:
    found = used(spec)
    if found != wanted:
        odd = sorted(set(found.items()) ^ set(wanted.items()))[:2]
        raise Other(f"{len(found)} rows for {len(wanted)}, such as {odd}")


# --- kinds ------------------------------------------------------------------------------------------------
# Each is a generator of cases in a folder of its own, without end.

SIGNS = [
    "*", "**", "?", "[a]", "[!x]", "{a,b}", "::", "%20", "~", " ", "$x", "#", "'", '"', "\\", "é", "日", "-", "\t",
    "a", "data", "train", "test", "...",
]  # fmt: skip


def names(draw: random.Random, place: Path) -> Iterator[Case]:
    """Folders and files with names that patterns, shells and addresses are made of."""
    for i in itertools.count():
        name = "".join(draw.choices(SIGNS, k=draw.randint(1, 4)))
        if name.strip(".") == "":
            continue
        kind = draw.choice(FORMATS)
        here = place / str(i)
        other = table(rows(30, 1000, ("loud", "calm")))
        for decoy in ("a", "data", "dataa", "b", "x", "train"):
            if decoy != name:
                write(here / decoy / f"train.{kind}", other)
        if draw.random() < 0.5:
            spec = task(here / name)
            write(here / name / f"train.{kind}", table(rows(40)))
            write(here / name / f"validation.{kind}", table(rows(20, 40)))
        else:
            spec = task(write(here / name / f"rows {name}.{kind}", table(rows(60))))
        yield lambda spec=spec: same(spec, rows(60))  # type: ignore[misc]


NEIGHBOURS = [
    "{}.bak", "{}.orig", "{}.gz", "{}~", "{}.dvc", "{}.md5", "{}.lock", "{}.tmp", ".{}", ".{}.swp", "copy of {}",
    "old/{}", "backup_{}", "predictions_{}", "{}.part", "#{}#", "notes/{}.txt", "Train.{k}", "train copy.{k}",
    "train (1).{k}", "train-2.{k}", "train1.{k}", "dev.{k}", "valid.{k}", "training.{k}", "eval.{k}", "test.{k}",
    "validation/x.{k}", "train/x.{k}", "README.md", "dataset_info.json", "dataset_infos.json", "labels.{k}",
    "train-00000-of-00002.{k}", "_train.{k}", "state.json", ".git/x.{k}",
]  # fmt: skip
README = """---
configs:
- config_name: default
  data_files:
  - {{split: train, path: {path}}}
  - {{split: validation, path: {path}}}
---
"""


def beside(draw: random.Random, place: Path) -> Iterator[Case]:
    """Backups, copies, second names and descriptions beside the files of the splits."""
    for i in itertools.count():
        kind, here = draw.choice(FORMATS), place / str(i)
        write(here / f"train.{kind}", table(rows(40)))
        write(here / f"validation.{kind}", table(rows(20, 40)))
        for pattern in draw.sample(NEIGHBOURS, draw.randint(1, 3)):
            file = here / pattern.format(draw.choice(["train", "validation"]) + f".{kind}", k=kind)
            file.parent.mkdir(parents=True, exist_ok=True)
            if pattern.endswith(("md", "json")) and "{" not in pattern:
                file.write_text(
                    README.format(path=draw.choice(["**", "../*", "/etc/passwd", "https://a.b/c", "x"]))
                )
            else:
                made = write(here / f".made.{kind}", table(rows(40, 0, ("loud", "calm"))))
                made.rename(file)
        yield lambda here=here: same(task(here), rows(60))  # type: ignore[misc]


CELLS = [
    "0", "1", "01", "001", "1.0", "1e2", "100", "-1", "-0", "+1", "TRUE", "true", "False", "yes", "no", "NA",
    "null", "None", "nan", "inf", "2020-01-01", "12:30", "1_000", "1,5", "0x10", "A1", "é", "e\u0301", "१",
    "a b", "a;b", '"q"', "'", "=1+1", "@x", "9" * 25, "x" * 900, "<b>", "\\n", "</s>", "日本",
]  # fmt: skip


def cells(draw: random.Random, place: Path) -> Iterator[Case]:
    """Labels and texts that readers like to take for numbers, dates, truth values or nothing."""
    for i in itertools.count():
        labels = draw.sample(CELLS, draw.randint(2, 4))
        late = draw.choice([0, 0, 0, 12_000])
        wanted = {f"{i:07}": labels[0] for i in range(late)} | {
            f"{draw.choice(CELLS)} {j}": labels[j % len(labels)] for j in range(60)
        }
        spec = task(write(place / f"{i}.{draw.choice(FORMATS)}", table(wanted)))
        yield lambda spec=spec, wanted=wanted: same(spec, wanted)  # type: ignore[misc]


TYPED = [
    ("0", "1"), ("1", "0"), ("1", "2"), ("True", "False"), ("true", "false"), ("5", "6"), ("no", "yes"),
    ("01", "1"), ("1.0", "0.0"), ("a", "b", "c"), ("2", "1", "0"), ("yes", "0"),
]  # fmt: skip


def labels(draw: random.Random, place: Path) -> Iterator[Case]:
    """`task.labels` in any order, of names, numbers and truth values: a name is a name."""
    for i in itertools.count():
        own = draw.choice(TYPED)
        given = tuple(draw.sample(own, len(own)))
        typed: dict[str, Any] = {"True": True, "False": False, "true": True, "false": False} | {
            word: int(word) for word in ("0", "1", "2", "5", "6")
        }
        kind = draw.choice(FORMATS)
        as_typed = (
            kind in ("json", "jsonl", "parquet")
            and all(word in typed for word in own)
            and draw.random() < 0.5
        )
        wanted = rows(60, 0, own)
        columns = table(wanted)
        if as_typed:
            columns["label"] = [typed[word] for word in columns["label"]]
            wanted = {text: (word.lower() if word.isalpha() else word) for text, word in wanted.items()}
        spec = task(write(place / f"{i}.{kind}", columns), labels=given)
        yield lambda spec=spec, wanted=wanted: same(spec, wanted)  # type: ignore[misc]


PIECES = [
    b"9", b'"', b",", b"\n", b"{", b"}", b"[", b"null", b"\0", b"\xff", b"-", b"\\", b"1e999", b"\r", b"\t",
    b"\xef\xbb\xbf",
]  # fmt: skip


def damaged(draw: random.Random, content: bytes) -> bytes:
    """`content` with up to five pieces changed, cut or put in, or with its end gone."""
    for _ in range(draw.randint(1, 5)):
        at, piece = draw.randrange(len(content) + 1), draw.choice(PIECES)
        gone = draw.choice([0, len(piece), 9, len(content)])
        content = content[:at] + draw.choice([b"", piece]) + content[at + gone :]
    return content


def damage(draw: random.Random, place: Path) -> Iterator[Case]:
    """Data files with bytes changed, cut and put in: read or refused, within bounds."""
    good = {kind: write(place / f"good.{kind}", table(rows(60))).read_bytes() for kind in FORMATS}
    for i in itertools.count():
        kind = draw.choice(FORMATS)
        path = place / f"{i}.{kind}"
        path.write_bytes(damaged(draw, good[kind]))
        yield lambda path=path: used(task(path)) and None  # type: ignore[misc]


def _packed(path: Path, length: int) -> None:
    """A Parquet file of some hundred bytes that unpacks to 18 GB: one text again and again."""
    import pyarrow
    from pyarrow import parquet

    count = 18 * 10**9 // length // 1000 if length < 1000 else 20_000
    kind = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    schema = pyarrow.schema([("text", kind), ("label", kind)])
    numbers, words = pyarrow.array([0] * count, pyarrow.int32()), pyarrow.array(["x" * length])
    column = pyarrow.DictionaryArray.from_arrays(numbers, words)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for _ in range(20 if length < 1000 else 1):
            writer.write_table(pyarrow.table([column, column], schema=schema))


def sizes(draw: random.Random, place: Path) -> Iterator[Case]:
    """Pipes, devices, holes of gigabytes, 200,000 columns, a new key in each of 20,000 records, packed rows."""
    for i in itertools.count():
        here = place / str(i)
        kind = draw.choice(FORMATS)
        here.mkdir()
        path = here / f"train.{kind}"
        what = draw.choice(
            ["pipe", "device", "loop", "folder", "hole", "deep", "wide", "keys", "nothing", "packed"]
        )
        if what == "pipe":
            os.mkfifo(path)
        elif what in ("device", "loop"):
            path.symlink_to("/dev/zero" if what == "device" else path)
        elif what == "folder":
            path.mkdir()
        elif what == "hole":
            with path.open("wb") as file:
                file.truncate(draw.randint(1, 8) << 30)
        elif what == "deep":
            path.write_text("[" * 100_000)
        elif what == "wide":
            path.write_text(",".join(f"c{j}" for j in range(200_000)) + "\n" + "," * 199_999 + "\n")
        elif what == "packed":
            path = here / "train.parquet"
            _packed(path, draw.choice([10, 900_000]))
        elif what == "keys":
            path.write_text("".join(f'{{"text":"t{j}","label":"x","k{j}":1}}\n' for j in range(20_000)))
        else:
            path.write_bytes(b"")
        spec = task(draw.choice([path, here]))

        def act(spec: TaskSpec = spec) -> None:
            used(spec)
            raise Other("rows out of nothing")

        yield act


def changes(draw: random.Random, place: Path) -> Iterator[Case]:
    """Rows that change between the plan and the training."""
    for i in itertools.count():
        kind, here = draw.choice(FORMATS), place / str(i)
        write(here / f"train.{kind}", table(rows(40)))
        write(here / f"validation.{kind}", table(rows(20, 40)))
        spec = task(here, fingerprint=fingerprint(here))
        file = here / f"{draw.choice(['train', 'validation', 'test'])}.{kind}"
        kept = draw.random() < 0.2
        if not kept:
            write(file, table(rows(40, draw.randint(100, 999))))

        def act(spec: TaskSpec = spec, kept: bool = kept) -> None:
            try:
                same(spec, rows(60))
            except DataError:
                if kept:
                    raise Other("rows that did not change were refused") from None
                raise
            if not kept:
                raise Other("rows that had changed were taken")

        yield act


def words(draw: random.Random, place: Path) -> Iterator[Case]:
    """Words of the command line: every key, odd values."""
    from intrinsic_cli.planning import compose

    path = write(place / "rows.jsonl", table(rows(40)))
    easy = ["run", *EASY, f"task.path={path}", f"output_dir={place / 'out'}"]
    slow = ("output_dir", "train.epochs", "train.max_steps", "train.evals", "train.batch_size")
    known = [key for key in compose.keys("run") if key not in slow]
    values = [
        "-1", "nan", "1e400", "9" * 30, "[]", "{}", "[1]", "a", "${d}", "???", "null", "true", "0", "1", "''", "'",
        "\0", "\x1b[31m", "é", "\ud800", "..", "/dev/null", "a b", "x" * 5000, "[" * 500, "range(3)",
    ]  # fmt: skip
    while True:
        some = [f"{draw.choice(known)}={draw.choice(values)}" for _ in range(draw.randint(1, 2))]
        yield lambda some=some: command(*easy, *some)  # type: ignore[misc]


def _folder(place: Path) -> Path:
    """A small pre-trained encoder as a folder."""
    import transformers

    from intrinsic_cli.models import pretrained

    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=300,
        pad_token_id=0,
    )
    transformers.AutoModel.from_config(config).save_pretrained(place)
    pretrained.load(ModelSpec("tiny"), 2).tokenizer.save_pretrained(place)
    return place


PARTS: list[tuple[str, Any]] = [  # of a tokenizer.json, that fail, panic, abort, or come to no end in native code
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA/////w=="}),
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    ("normalizer", {"type": "Replace", "pattern": {"Regex": r"(e|e|\w|.)*\1{50}(.*.*.*)*$"}, "content": "b"}),
    ("normalizer", {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}] * 40}),
    ("normalizer", {"type": "Prepend", "prepend": "x" * 10**6}),
    ("post_processor", {"type": "TemplateProcessing", "pair": [], "special_tokens": {},
                        "single": [{"SpecialToken": {"id": "", "type_id": 0}}]}),
    ("post_processor", {"type": "TemplateProcessing", "pair": [], "special_tokens": {},
                        "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 400}),
    ("post_processor", {"type": "BertProcessing", "sep": ["", 99999], "cls": ["", 5]}),
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a*)*b|$"}, "behavior": "Isolated", "invert": False}),
    ("decoder", {"type": "Strip", "content": "x", "start": 2**31, "stop": 2**31}),
]  # fmt: skip


def models(draw: random.Random, place: Path) -> Iterator[Case]:
    """Model folders with settings of any value, damaged files, layers that are gone, and tokenizers that abort."""
    from safetensors.torch import load_file, save_file

    good = _folder(place / "good")
    weights = load_file(good / "model.safetensors")
    trees = {
        name: json.loads((good / name).read_text()) for name in os.listdir(good) if name.endswith(".json")
    }
    for i in itertools.count():
        here = place / str(i)
        shutil.copytree(good, here)
        lost = False
        what = draw.choice(["key", "key", "bytes", "layer", "beside", "part"])
        if what == "key":
            name = draw.choice(sorted(trees))
            inner = draw.choice([[], ["model"]]) if name == "tokenizer.json" else []
            tree = json.loads(json.dumps(trees[name]))
            spot = tree["model"] if inner else tree
            beside = ["auto_map", "_attn_implementation_internal", "attn_implementation"]
            spot[draw.choice([*spot, *beside])] = draw.choice(ODD)
            (here / name).write_text(json.dumps(tree))
        elif what == "part":
            part, value = draw.choice(PARTS)
            (here / "tokenizer.json").write_text(json.dumps(trees["tokenizer.json"] | {part: value}))
        elif what == "bytes":
            file = here / draw.choice(sorted(os.listdir(here)))
            file.write_bytes(damaged(draw, file.read_bytes()))
        elif what == "layer":
            gone = draw.choice([name for name in weights if "pooler" not in name])
            lost = True
            save_file(
                {k: t for k, t in weights.items() if k != gone}, here / "model.safetensors", {"format": "pt"}
            )
        else:
            name = draw.choice(
                ["adapter_config.json", "pytorch_model.bin", "vocab.txt", "own.py", "x.index.json"]
            )
            (here / name).write_bytes(draw.choice([b"", b"{}", b"[1]", bytes(99)]))

        def act(here: Path = here, lost: bool = lost) -> None:
            from intrinsic_cli.models import pretrained

            try:
                pretrained.load(ModelSpec(str(here)), 2)
                if lost:
                    raise Other("a tensor that is gone was drawn anew")
            finally:
                shutil.rmtree(here)

        yield act


def _outputs(place: Path) -> Path:
    """The folder of two finished runs."""
    path = write(place / "rows.jsonl", table(rows(60)))
    for seed in (0, 1):
        command("run", *EASY, f"task.path={path}", f"seed={seed}", f"output_dir={place / 'outputs'}")
    return place / "outputs"


def outputs(draw: random.Random, place: Path) -> Iterator[Case]:
    """What is read back from an output folder: torn, edited, of other kinds, endless."""
    good = _outputs(place)
    for i in itertools.count():
        here = place / str(i)
        shutil.copytree(good, here)
        run = draw.choice(sorted(path for path in here.iterdir() if path.is_dir()))
        known = [
            "result.json",
            "config.json",
            "history.jsonl",
            "error.json",
            "snapshot.bin",
            ".lock",
            "theta.safetensors",
            "outcomes.npz",
            "bound.json",
            "limits.json",
            "pruned.json",
        ]
        file = run / draw.choice(known)
        what = draw.choice(
            ["key", "key", "bytes", "pipe", "device", "loop", "folder", "nothing", "deep", "copy"]
        )
        if what == "key" and file.suffix == ".json" and file.exists():
            tree = json.loads(file.read_text())
            spot = draw.choice([tree, *(part for part in tree.values() if isinstance(part, dict) and part)])
            spot[draw.choice(sorted(spot))] = draw.choice(ODD)
            file.write_text(json.dumps(tree))
        elif what == "copy":
            shutil.copytree(run, draw.choice([here / "backup" / run.name, here / f"{run.name} copy"]))
        else:
            content = file.read_bytes() if file.is_file() else b"{}"
            file.unlink(missing_ok=True)
            if what == "pipe":
                os.mkfifo(file)
            elif what in ("device", "loop"):
                file.symlink_to("/dev/zero" if what == "device" else file)
            elif what == "folder":
                file.mkdir()
            elif what == "deep":
                file.write_text("[" * 50_000)
            elif what == "bytes":
                file.write_bytes(damaged(draw, content))
            else:
                file.write_bytes(b"")
        words = draw.choice([["status", here], ["summarize", here], ["compare", here], ["show", run]])

        def act(here: Path = here, words: list[object] = words) -> None:
            try:
                command(*words)
            finally:
                shutil.rmtree(here)

        yield act


def _hole(path: Path, size: int) -> None:
    """A safetensors file whose θ has so many bytes, all of them of a hole."""
    tensor = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    told = json.dumps({"theta": tensor, "__metadata__": {"idim": '{"check": "0", "format": 1}'}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(told)) + told)
        file.truncate(8 + len(told) + size)


def finetunes(draw: random.Random, place: Path) -> Iterator[Case]:
    """Files of fine-tunes with bytes changed, which their own checksum tells, and holes of gigabytes."""
    from intrinsic_cli.finetunes.file import FineTune

    good = _outputs(place)
    run = sorted(path for path in good.iterdir() if path.is_dir())[0]
    command("export", run, "--out", place / "good.safetensors")
    content = (place / "good.safetensors").read_bytes()
    whole = FineTune.read(place / "good.safetensors")
    for i in itertools.count():
        path = place / f"{i}.safetensors"
        if draw.random() < 0.1:
            _hole(path, draw.randint(1, 8) << 30)
        else:
            path.write_bytes(damaged(draw, content))

        def act(path: Path = path) -> None:
            found = FineTune.read(path)
            if found != whole or any(not t.equal(whole.tensors[k]) for k, t in found.tensors.items()):
                raise Other("a damaged file was read")

        yield act


STREAMS = ["", "<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full", "| true"]
VARIABLES: list[dict[str, str]] = [
    {}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"},
    {"OMP_NUM_THREADS": "garbage"}, {"OMP_NUM_THREADS": "4,2"}, {"NUMBA_DISABLE_JIT": "1"}, {"COLUMNS": "0"},
    {"TERM": "dumb"}, {"HOME": "/nonexistent"}, {"TMPDIR": "/nonexistent"}, {"NO_COLOR": "1"},
    {"PYTHONOPTIMIZE": "2"}, {"WORLD_SIZE": "3"}, {"WORLD_SIZE": "x", "RANK": "1"},
    {"NUMBA_CACHE_DIR": "/dev/null"}, {"HF_HOME": "/dev/null/x"}, {"XDG_CACHE_HOME": "/dev/null/x"},
    {"COLUMNS": "many"}, {"CUDA_VISIBLE_DEVICES": "x"},
]  # fmt: skip


def machines(draw: random.Random, place: Path) -> Iterator[Case]:
    """Terminals, streams, variables and working folders of other machines, each a sweep in processes of its own."""
    path = write(place / "rows.jsonl", table(rows(40)))
    here = place / "here"
    here.mkdir()
    for name in ("random", "datasets", "json", "torch", "numpy", "yaml"):
        (here / f"{name}.py").write_text("raise SystemExit('a file of the working folder was imported')\n")
    for i in itertools.count():
        # The plain machine first, then each thing alone, then two at once.
        streams = STREAMS[i % len(STREAMS)] if i < len(STREAMS) else draw.choice(STREAMS)
        own = VARIABLES[i % len(VARIABLES)] if i >= len(STREAMS) else {}
        out = place / f"out{i}"
        words = ["-P", "-m", "intrinsic_cli", "sweep", *EASY, f"task.path={path}", f"output_dir={out}"]
        line = " ".join(shlex.quote(word) for word in [sys.executable, *words])

        def act(own: dict[str, str] = own, out: Path = out, line: str = f"{line} {streams}") -> None:
            done = subprocess.run(
                ["sh", "-c", line], cwd=here, capture_output=True, text=True, errors="replace",
                timeout=PATIENCE - 10, env={**os.environ, "PYTHONPATH": str(ROOT), **own},
            )  # fmt: skip
            if len(list(out.glob("*/result.json"))) < 2 and (done.returncode == 0 or not done.stderr.strip()):
                raise Other(
                    f"a sweep that ended without its results or a word, with status {done.returncode}"
                )
            look(done.returncode, done.stdout, done.stderr)

        yield act


KINDS: dict[str, tuple[Callable[[random.Random, Path], Iterator[Case]], int]] = {
    "names": (names, 350), "beside": (beside, 350), "cells": (cells, 350), "labels": (labels, 250),
    "damage": (damage, 400), "sizes": (sizes, 40), "changes": (changes, 80), "words": (words, 80),
    "models": (models, 120), "outputs": (outputs, 150), "finetunes": (finetunes, 150), "machines": (machines, 28),
}  # fmt: skip


# --- counting ---------------------------------------------------------------------------------------------


def trial(kind: str, seed: int, count: int, report: Path) -> None:
    """Judge `count` cases of a kind; the report grows line by line, so that a crash loses one case."""

    def expired(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, expired)
    os.environ["HF_HUB_OFFLINE"] = "1"
    make, _ = KINDS[kind]
    with tempfile.TemporaryDirectory() as place, report.open("w") as file:
        (Path(place) / kind).mkdir()
        for case in itertools.islice(make(random.Random(f"{seed}/{kind}"), Path(place) / kind), count):
            outcome, said = judged(case)
            print(json.dumps([outcome, said]), file=file, flush=True)


def tally(kind: str, seed: int, count: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Outcomes of a kind, and what was said at its faults."""
    report = folder / f"{kind}.jsonl"
    words = [
        sys.executable,
        __file__,
        "--trial",
        kind,
        "--seed",
        str(seed),
        "--count",
        str(count),
        str(report),
    ]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    lines = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    counts = Counter(outcome for outcome, _ in lines)
    faults = [f"{kind}: {outcome}: {said}" for outcome, said in lines if outcome in FAULTS]
    if done.returncode or len(lines) < count:
        counts["crash"] += 1
        faults.append(
            f"{kind}: ended with status {done.returncode} after {len(lines)} cases: {done.stderr[-600:]}"
        )
    return counts, faults


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table. Returns 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of each kind")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, with commas between")
    parser.add_argument("--trial", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("report", nargs="?", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.trial:
        trial(given.trial, given.seed, given.count, given.report)
        return 0
    kinds, started = given.only.split(","), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count() or 1) as pool:

        def one(kind: str) -> tuple[Counter[str], list[str]]:
            return tally(kind, given.seed, max(1, round(KINDS[kind][1] * given.share)), Path(folder))

        found = dict(zip(kinds, pool.map(one, kinds), strict=True))
    print("| kind | what | cases | " + " | ".join(OUTCOMES) + " |")
    print("| --- | --- |" + " --- |" * (1 + len(OUTCOMES)))
    total: Counter[str] = Counter()
    for kind, (counts, _) in found.items():
        total += counts
        told = (KINDS[kind][0].__doc__ or "").removesuffix(".")
        print(
            f"| {kind} | {told} | {counts.total()} | "
            + " | ".join(str(counts[name]) for name in OUTCOMES)
            + " |"
        )
    print(f"| all | | {total.total()} |", *(f"{total[name]} |" for name in OUTCOMES))
    print(f"seed {given.seed}, {(time.monotonic() - started) / 60:.1f} min", file=sys.stderr)
    faults = [fault for _, some in found.values() for fault in some]
    for fault in faults:
        print(fault[:600].encode("ascii", "backslashreplace").decode(), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
