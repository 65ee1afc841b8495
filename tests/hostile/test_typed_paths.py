"""Paths that are typed: too long for any file system, or with letters that a terminal would obey."""

import re

import pytest
from support.made_runs import save, study

from intrinsic_cli.errors import IdimError
from intrinsic_cli.finetunes.rebuild import export
from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.words import parse
from intrinsic_cli.store import Store
from intrinsic_cli.training import inputs
from intrinsic_cli.training.run import execute

LONG = {"name": "y" * 300, "path": "a/" * 3000, "file": "z" * 300 + ".safetensors"}
READ = ["summarize {}", "status {}", "report {}", "compare {}", "bound {}", "tasks {}", "forget {} --failed",
        "show {}", "diff {} {}", "eval {} task=sst2", "apply {} --out new", "push {} a/b",
        "run --config-dir {} model=tiny", "export {} --out new"]  # fmt: skip
WRITTEN = ["export RUN --out {}", "export RUN --to peft {} --rank 1", "apply FILE --out {}", "report RUNS --out {}",
           "report RUNS --figures {}", "run model=tiny d=20 output_dir={}"]  # fmt: skip


@pytest.fixture(scope="module")
def made(make_spec, tmp_path_factory):
    """Words for a run, its fine-tune's file, and a folder of runs with a curve."""
    folder, spec = tmp_path_factory.mktemp("made"), make_spec(d=30)
    store = Store(folder / "one")
    execute(spec, store, inputs.load)
    run = store.run(spec)
    save(study({100: 0.6, 400: 0.74}, 0.8), folder / "many")
    return {"RUN": run.path, "FILE": export(run, folder / "f.safetensors"), "RUNS": folder / "many"}


def words(line, made, path):
    return [made.get(word, path if word == "{}" else word.replace("{}", path)) for word in line.split()]


@pytest.mark.parametrize("long", LONG)
@pytest.mark.parametrize("line", [*READ, *WRITTEN])
def test_a_path_that_is_too_long_is_one_line(idim, made, tmp_path, monkeypatch, line, long):
    monkeypatch.chdir(tmp_path)
    status, _, err = idim(*words(line, made, LONG[long]))
    assert status == 2
    assert "unforeseen" not in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


NAMES = [
    "My Reviews (final).csv",
    "a, b [2].csv",
    "it's {1}.csv",
    "50% & more; #1.csv",
    "a=b.csv",
    "$HOME.csv",
    "日本.csv",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["task=", "task.path="])
def test_own_files_may_have_any_name(tmp_path, monkeypatch, name, key):
    """As a shell hands it over, alone and beside another one; so may the folder of the runs."""
    monkeypatch.chdir(tmp_path)
    for each in (name, "plain.csv"):
        (tmp_path / each).write_text(f"text,label\n{each},0\nt,1\n")
    own = ["model=tiny", "d=9", *(["task=custom"] if "." in key else [])]
    plan = sweep_plan(parse([*own, key + name, "output_dir=my runs (1)"]))
    assert {spec.task.path for spec in plan.specs} == {name}
    assert plan.output_dir == "my runs (1)"
    if "," not in name and "'" not in name:
        plan = sweep_plan(parse([*own, f"{key}{name},plain.csv"]))
        assert {spec.task.path for spec in plan.specs} == {name, "plain.csv"}


def test_a_model_may_lie_in_a_folder_of_any_name(tmp_path):
    place = tmp_path / "my models (old), 2"
    place.mkdir()
    with pytest.raises(IdimError, match=re.escape(f"model.name={place} has no config.json")):
        sweep_plan(parse([f"model={place}"]))
    with pytest.raises(IdimError, match=re.escape(f"model.name={tmp_path}/not here (1) does not exist")):
        sweep_plan(parse([f"model={tmp_path}/not here (1)"]))


@pytest.mark.parametrize("line", ["export RUN --out {}", "apply FILE --out {}", "report RUNS --figures {}",
                                  "report RUNS --out {}", "export RUN --to peft {} --rank 1"])  # fmt: skip
def test_a_path_is_told_in_letters_that_no_terminal_obeys(idim, made, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    status, out, err = idim(*words(line, made, "\x1b[31mred\nidim: fine"))
    assert status == 0
    assert "\x1b" not in out + err
    assert "\\x1b[31mred\\nidim: fine" in out
    assert err == ""
