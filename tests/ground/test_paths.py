import hashlib
import os
import re

import pytest

from intrinsic_cli import paths
from intrinsic_cli.errors import DataError, ModelError


def test_local_path_tells_paths_from_hub_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert paths.local_path("nyu-mll/glue", "task.path") is None
    assert paths.local_path("gpt2", "model.name") is None
    assert paths.local_path("rows.csv", "task.path").samefile(tmp_path / "rows.csv")
    assert paths.local_path("./a/b", "task.path").samefile(tmp_path / "a" / "b")
    assert paths.local_path(str(tmp_path), "task.path") == tmp_path


@pytest.mark.parametrize("name", ["./none", "none.csv", "x/y/z", "/none/at/all", "../none.parquet"])
def test_local_path_refuses_what_does_not_exist(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"model\.name=.* does not exist"):
        paths.local_path(name, "model.name", ModelError)


@pytest.mark.parametrize("name", ["glue", "nyu-mll/glue"])
def test_a_folder_named_like_a_hub_id_is_no_silent_choice(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError, match=rf"write task\.path=\./{name} for the folder"):
        paths.local_path(name, "task.path")
    assert paths.local_path(f"./{name}", "task.path").is_dir()


@pytest.mark.parametrize("name", ["rows.csv.gz", "data/rows.txt"])
def test_a_file_named_like_a_hub_id_is_no_silent_choice(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"is a file here .*write task\.path=\./{name} for the file"):
        paths.local_path(name, "task.path")


def test_fingerprint_of_a_file_is_the_hash_of_its_bytes(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(b"text,label\na,1\n")
    assert paths.fingerprint(file) == hashlib.sha256(b"text,label\na,1\n").hexdigest()
    assert (
        paths.fingerprint(file.rename(tmp_path / "copy.csv"))
        == hashlib.sha256(b"text,label\na,1\n").hexdigest()
    )


def test_fingerprint_of_a_folder_sees_names_and_contents_alone(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "sub" / "weights").write_text("abc")
    first = paths.fingerprint(one)
    (two / ".cache").mkdir()
    (two / ".cache" / "lock").write_text("hidden")
    os.utime(two / "config.json", (1, 1))
    assert paths.fingerprint(two) == first
    (two / "sub" / "weights").write_text("abd")
    assert paths.fingerprint(two) != first
    (two / "sub" / "weights").write_text("abc")
    assert paths.fingerprint(two) == first
    (two / "config.json").rename(two / "settings.json")
    assert paths.fingerprint(two) != first


def test_fingerprint_of_nothing_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        paths.fingerprint(tmp_path / "none")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.csv", "b.jsonl"], "holds .csv and .jsonl files"),
        (["a.CSV", "b.json", "c.json"], "holds .csv and .json files"),
        (["a.tsv", "b.json", "c.jsonl", "d.parquet"], "holds .json, .jsonl, .parquet and .tsv files"),
    ],
)
def test_a_folder_of_several_kinds_is_told_with_what_it_holds(tmp_path, names, said):
    for name in names:
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=re.escape(f"{said}; give one of them")):
        paths.data_files(tmp_path, str(tmp_path))
