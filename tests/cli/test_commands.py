"""The command line: what it prints, where, and with which exit status."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.rows import sentences, write_jsonl

from intrinsic_cli import __version__, hub
from intrinsic_cli.cli import commands
from intrinsic_cli.cli import main as cli
from intrinsic_cli.cli.completion import SCRIPTS, candidates
from intrinsic_cli.cli.main import build_parser
from intrinsic_cli.planning import options

SWEEP = ["sweep", "launcher=inline"]  # what processes of their own do stands in tests/stories
KEYS = [
    "model", "revision", "task", "subspace", "projection", "normalize", "metric", "full_score", "target",
    "threshold", "d90", "d90_low", "d90_high", "status", "runs",
]  # fmt: skip


@pytest.fixture(scope="module")
def easy(task_folder, tmp_path_factory):
    """A short run of the tiny model, without its output folder."""
    return [
        "model=tiny",
        "task=custom",
        f"task.path={task_folder}",
        "train.max_steps=2",
        "data.max_length=32",
    ]


@pytest.fixture(scope="module")
def study(easy, tmp_path_factory):
    """The output folder of a finished sweep."""
    folder = tmp_path_factory.mktemp("study")
    assert cli.main([*SWEEP, *easy, "d=50,100", "seed=0,1", f"output_dir={folder}"]) == 0
    return folder


# --- typos ------------------------------------------------------------------------------------------------

TYPOS = {
    "summrize outputs": "summarize", "Status outputs": "status", "list tsks": "tasks", "completion bsh": "bash",
    "sweep --dryrun": "--dry-run", "sweep -dry-run": "--dry-run", "sweep d=5 --dryrun --estmate": "--dry-run",
    "summarize --formt tex": "--format", "show x --jsn": "--json", "--versoin": "--version",
    "summarize x --format jsn": "json", "compare x --against stp": "step", "run --cfg=jb": "job",
    "run adapter=lara": "lora", "sweep subspace=dids": "did", "sweep launcher=slrum": "slurm",
    "sweep search=adaptiv": "adaptive", "run projection=fastfod": "fastfood",
    "sweep study=paper-tabel1": "paper-table1", "run train.precision=bf61": "bf16",
    "run subspace.normalize=tensr": "tensor", "run tracker=tensorbord": "tensorboard",
    "run epoks=3": "train.epochs", "sweep batchsize=4": "train.batch_size", "run modle=tiny": "model",
    "keys trian": "train", "keys trian.epochs": "train.epochs", "keys epoks": "train.epochs",
}  # fmt: skip


@pytest.mark.parametrize("typed", TYPOS)
def test_a_typo_ends_in_one_line_with_a_guess(typed, capsys):
    try:
        status = cli.main(typed.split())
    except SystemExit as stop:
        status = stop.code
    printed, said = capsys.readouterr()
    assert (status, printed, said.count("\n")) == (2, "", 1)
    guesses = re.search(r"; did you mean (.*?)\?", said)[1].split(" or ")
    assert guesses[0] == TYPOS[typed]


def test_a_word_like_nothing_is_answered_with_all_that_there_is(capsys):
    for typed in (["frob"], ["frob", "--format", "json"]):
        with pytest.raises(SystemExit):
            cli.main(typed)
        assert "frob is not known; use one of run, sweep, " in capsys.readouterr().err


# --- bad input --------------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.online.cache_clear()
    yield
    hub.online.cache_clear()


BAD = {
    "unknown task": (["task=mprc"], ["task=mprc", "mrpc"]),
    "unknown model": (["model=robertabase"], ["model=robertabase", "roberta-base"]),
    "unknown key": (["train.epoch=3"], ["train.epoch", "train.epochs"]),
    "no d": (["d=0"], ["d=0", "at least 1"]),
    "d within the scales": (["subspace=said", "d=5"], ["d=5", "m=5", "d > 5"]),
    "d within the head": (["subspace.head=trained", "d=66"], ["d=66", "66 directly trained", "d > 66"]),
    "no learning rate": (["lr=0"], ["lr=0", "above 0"]),
    "negative learning rate": (["lr=-1"], ["lr=-1", "above 0"]),
    "label column": (["task.label=lable"], ["task.label=lable", "did you mean label"]),
    "text column": (["task.text=[body]"], ["body", "text, label"]),
    "empty split": (["task.path={empty}"], ["empty.csv", "empty split"]),
    "not text": (["task.path={binary}"], ["binary.csv", "line 2", "UTF-8"]),
    "no file": (["task.path={folder}/nix.csv"], ["nix.csv", "does not exist"]),
    "data not cached": (["task.path=nobody/nothing"], ["nobody/nothing", "can't be reached", "task.path="]),
    "model not cached": (
        ["model.name=nobody/nothing"],
        ["nobody/nothing", "can't be reached", "model.name="],
    ),
    "no folder": (["output_dir={binary}/deep"], ["output_dir=", "binary.csv/deep", "another folder"]),
    "too long": (["data.max_length=999"], ["data.max_length=999", "256"]),
    "pattern": (["subspace.include=[nix*]"], ["nix*", "bert."]),
    "holdout": (["data.holdout=96"], ["data.holdout=96", "96 training rows"]),
    "too many layers": (["model.num_hidden_layers=9"], ["num_hidden_layers=9", "2 layers"]),
}


@pytest.mark.parametrize("command", [["run"], SWEEP], ids=["run", "sweep"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2_before_any_training(idim, easy, tmp_path, offline, case, command):
    (tmp_path / "empty.csv").write_text("text,label\n")
    (tmp_path / "binary.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    places = {"empty": tmp_path / "empty.csv", "binary": tmp_path / "binary.csv", "folder": tmp_path}
    words, parts = BAD[case]
    out = tmp_path / "out"
    status, printed, said = idim(
        *command, *easy, f"output_dir={out}", *(word.format(**places) for word in words)
    )
    assert status == 2
    assert printed == ""
    assert said.startswith("idim: ")
    assert said.count("\n") == 1
    for part in parts:
        assert part in said
    assert not out.exists() or list(out.iterdir()) == []


def test_a_folder_or_format_that_can_not_be_summarized(idim, study, tmp_path):
    for words, parts in [
        (["summarize", tmp_path / "nix"], ["nix", "not a folder"]),
        (["status", tmp_path / "nix"], ["nix", "not a folder"]),
        (["summarize", tmp_path], ["idim status"]),
        (["summarize", study, "--format", "xml"], ["xml", "md", "csv", "tex", "json"]),
        (["summarize", study, "--threshold", "0"], ["threshold"]),
    ]:
        status, _, said = idim(*words)
        assert status == 2
        assert said.count("\n") == 1
        for part in parts:
            assert part in said


@pytest.mark.parametrize("words", [[], ["frob"], ["list", "frogs"], ["run", "--frob"]])
def test_argparse_refuses_with_status_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert "idim" in capsys.readouterr().err


# --- run, sweep, status, summarize ------------------------------------------------------------------------


DATA = (
    "task task: 96 rows of train.jsonl to train on (calm 48, loud 48), 40 rows of validation.jsonl to validate "
    "(calm 20, loud 20)\n"
)


WHERE = r"trained on cpu in (fp32|bf16) with 1 thread, random matrix P computed by numba\n"


def test_run_prints_the_score_and_where_the_result_lies(idim, easy, tmp_path):
    status, printed, said = idim("run", *easy, "d=50", f"output_dir={tmp_path}")
    score, folder = printed.splitlines()
    result = json.loads(Path(folder, "result.json").read_text())
    assert status == 0
    assert re.fullmatch(
        re.escape(DATA) + r"trained on cpu in (fp32|bf16) with 1 thread, random matrix P computed by numba\n",
        said,
    )
    assert score == f"accuracy {result['score']:.4f}"
    assert result["spec"]["d"] == 50
    assert idim("run", *easy, "d=50", f"output_dir={tmp_path}") == (0, printed, "")  # nothing is read


def test_weights_that_a_finished_run_did_not_keep_are_missed(idim, easy, tmp_path):
    words = [*easy, "subspace=full", f"output_dir={tmp_path}"]
    _, printed, _ = idim("run", *words)
    status, again, said = idim("run", *words, "train.keep_weights=true")
    assert (status, again) == (0, printed)
    assert said.startswith("1 of these runs ended without train.keep_weights=true and have no weights; ")
    assert said.count("\n") == 1
    assert said in idim("sweep", *words, "train.keep_weights=true", "--dry-run")[1]


def test_a_run_that_diverges_has_status_1_and_no_result(idim, easy, tmp_path):
    words = [*easy, "subspace=full", f"output_dir={tmp_path}"]
    status, printed, said = idim("run", *words, "lr=1e30")
    assert (status, printed, said.count("\n")) == (1, "", 3)
    assert said.startswith(DATA)
    assert "lr=1e+30" in said
    assert list(tmp_path.rglob("result.json")) == []
    status, printed, _ = idim("status", tmp_path)
    assert status == 0
    assert printed.splitlines()[1].startswith("failed   tiny-custom-full-lr1e_30-s0-")
    assert "smaller lr" in printed
    status, _, said = idim(*SWEEP, *words, "lr=1e30,1e-3")
    assert status == 1
    assert said.splitlines()[-1].endswith("says why")
    assert len(list(tmp_path.rglob("result.json"))) == 1


@pytest.mark.parametrize("slots", ["0", "-1", "1.5"])
def test_a_dry_run_refuses_the_launcher_that_its_sweep_does(idim, easy, tmp_path, slots):
    words = [*easy, "d=50", f"launcher.slots={slots}", f"output_dir={tmp_path}"]
    said = idim("sweep", *words)
    assert said[0] == 2
    assert idim("sweep", "--dry-run", *words) == said


def test_a_run_that_its_folder_can_not_take_is_not_said_to_have_a_status(idim, easy, tmp_path):
    words = [*SWEEP, *easy, "d=50", "baseline.run=false", f"output_dir={tmp_path}"]
    name = idim(*words, "--dry-run")[1].split()[1]
    (tmp_path / name / "theta.safetensors" / "in the way").mkdir(parents=True)
    status, _, said = idim(*words)
    assert status == 1
    assert said.splitlines()[-1].startswith("idim: 1 run could not be written")
    assert "idim status" not in said


def test_steps_of_a_run_that_will_diverge_can_be_timed(idim, easy, tmp_path):
    status, printed, _ = idim("sweep", "--estimate", *easy, "d=50", "lr=1e38", f"output_dir={tmp_path}")
    assert (status, "timed on this machine" in printed) == (0, True)


def test_status_counts(idim, study):
    status, printed, _ = idim("status", study)
    first, *runs = printed.splitlines()
    assert status == 0
    assert len(runs) == 6  # 2 d's and the baseline, twice
    assert all(line.startswith("done ") and " accuracy 0." in line for line in runs)
    assert first == "6 done, 0 running, 0 failed, 0 pending"


def test_the_plan_says_what_is_done_and_trains_nothing(idim, easy, study):
    before = sorted(path.name for path in study.iterdir())
    status, printed, _ = idim("sweep", "--dry-run", *easy, "d=50,70", "seed=0,1", f"output_dir={study}")
    *runs, last = printed.splitlines()
    assert status == 0
    assert sorted(line.split()[0] for line in runs) == ["done"] * 4 + ["pending"] * 2
    assert last == "6 runs, 2 to do"
    assert sorted(path.name for path in study.iterdir()) == before
    status, printed, _ = idim("sweep", "--estimate", *easy, "d=50,70", "seed=0,1", f"output_dir={study}")
    *again, last = printed.splitlines()
    assert (status, again) == (0, runs)
    assert last.startswith("6 runs, 2 to do, about ")
    assert last.endswith(
        "one after the other: by 4 steps and one evaluation of each kind of run, timed on this machine"
    )
    assert sorted(path.name for path in study.iterdir()) == before


def test_json_has_exactly_the_documented_keys(idim, study):
    status, printed, said = idim("summarize", study, "--format", "json")
    [record] = json.loads(printed)
    assert (status, said) == (0, "")
    assert list(record)[: len(KEYS)] == KEYS  # what older scripts rely on comes first
    assert record["status"] in ("estimated", "below_grid", "above_grid", "undefined")
    expected = {
        "model": "tiny", "revision": None, "task": "task", "subspace": "did", "projection": "fastfood",
        "normalize": "global", "metric": "accuracy", "threshold": 0.9, "runs": 4,
    }  # fmt: skip
    assert {key: record[key] for key in expected} == expected
    full = [json.loads(path.read_text()) for path in study.rglob("result.json")]
    scores = [result["score"] for result in full if result["spec"]["subspace"]["kind"] == "full"]
    assert record["full_score"] == pytest.approx(sum(scores) / 2)
    [other] = json.loads(idim("summarize", study, "--format", "json", "--threshold", "0.5")[1])
    assert other["threshold"] == 0.5


def test_the_other_formats(idim, study):
    [row] = csv.DictReader(io.StringIO(idim("summarize", study, "--format", "csv")[1]))
    assert list(row)[: len(KEYS)] == KEYS
    assert (row["model"], row["runs"]) == ("tiny", "4")
    markdown = idim("summarize", study, "--format", "md")[1]
    header, rule, row = (line for line in markdown.splitlines() if line.startswith("|"))
    assert "task DID" in header
    assert set(rule) <= set("|-: ")
    assert row.split()[1] == "tiny"
    tex = idim("summarize", study, "--format", "tex")[1]
    assert r"\begin{tabular}" in tex
    assert "tiny" in tex
    table = idim("summarize", study)[1]
    assert "task DID" in table


# --- what can be asked without training -------------------------------------------------------------------

HEAVY = (
    "torch",
    "hydra",
    "omegaconf",
    "transformers",
    "datasets",
    "pandas",
    "sklearn",
    "scipy",
    "numpy",
)


@pytest.mark.parametrize("words", [["--help"], ["sweep", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(words):
    code = f"""
import sys
from pathlib import Path
from intrinsic_cli.cli.main import main
try:
    main({words!r})
except SystemExit as stop:
    assert stop.code == 0
print(sorted(set(sys.modules) & set({HEAVY!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *text, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    assert any("idim" in line for line in text)


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"idim {__version__}\n"


@pytest.mark.parametrize("command", sorted(commands.NAMES))
def test_every_command_has_an_example_in_its_help(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert f"idim {command}" in capsys.readouterr().out.split("examples:")[1]


def test_cfg_prints_the_resolved_configuration(idim):
    status, printed, _ = idim("run", "--cfg", "job", "model=tiny", "subspace=said", "d=77")
    cfg = yaml.safe_load(printed)
    assert status == 0
    assert (cfg["d"], cfg["model"]["name"], cfg["subspace"]["kind"]) == (77, "tiny", "said")
    sweep = yaml.safe_load(idim("sweep", "--cfg", "job", "d=50,500")[1])
    assert sweep["d"] == [50, 500]
    assert "baseline" in sweep


def test_list(idim):
    for what, some in [
        ("tasks", {"mrpc", "sst2", "mnli", "pydoc-topic", "custom"}),
        ("models", {"minilm", "tiny", "roberta-base"}),
        ("projections", {"fastfood", "sorf", "dense", "sparse", "signs"}),
    ]:
        status, printed, _ = idim("list", what)
        names = {line.split()[0] for line in printed.splitlines()}
        assert status == 0
        assert some <= names == set(options.options(what.removesuffix("s")))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ru"], ["run"]),
        (["run", "task=mr"], ["task=mrpc"]),
        (["sweep", "model=tiny,roberta-b"], ["model=tiny,roberta-base"]),
        (["run", "train.max_s"], ["train.max_steps="]),
        (["sweep", "baseline.r"], ["baseline.run="]),
        (["summarize", "--f"], ["--format"]),
        (["list", "proj"], ["projections"]),
        (["run", "nix"], []),
        (["run", "train.precision=b"], ["train.precision=bf16"]),
        (["run", "model.allow_pickle="], ["model.allow_pickle=true", "model.allow_pickle=false"]),
        (["sweep", "launcher.part"], ["launcher.partition="]),
        (["sweep", "subspace.normalize=global,t"], ["subspace.normalize=global,tensor"]),
        (["summarize", "--format", "j"], ["json"]),
        (["summarize", "--selection", ""], ["validation", "holdout"]),
        (["export", "--out", ""], []),
    ],
)
def test_completion_candidates(words, found):
    assert candidates(build_parser(), words) == found


def test_completion_answers_through_the_command_line(idim):
    for command in ("run", "trajectory"):
        assert idim("_complete", command, "subspace=") == (
            0,
            "subspace=did\nsubspace=full\nsubspace=said\n",
            "",
        )


@pytest.mark.parametrize("shell", SCRIPTS)
def test_completion_scripts_ask_idim(idim, shell):
    status, printed, _ = idim("completion", shell)
    assert status == 0
    assert "idim _complete" in printed


def test_bash_completion_completes(tmp_path):
    """The script in a real bash, with an `idim` that is this one."""
    bash = "/bin/bash"
    if not os.path.exists(bash):
        pytest.skip("no bash here")
    idim = tmp_path / "idim"
    code = "from intrinsic_cli.cli.main import main; raise SystemExit(main())"
    idim.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    idim.chmod(0o755)
    line = "idim run task=mr"
    code = f"""{SCRIPTS["bash"]}
COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=(idim run task = mr) COMP_CWORD=4
_idim 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        [bash, "-c", code],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "mrpc\n", done.stderr


def test_a_file_with_one_split_is_enough(idim, easy, tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", sentences(60))
    status, _, said = idim("run", *easy, "d=50", f"task.path={path}", f"output_dir={tmp_path / 'out'}")
    assert status == 0
    assert re.fullmatch(
        r"task rows: (\d+) rows of rows.jsonl to train on \(calm \d+, loud \d+\), (\d+) rows of rows.jsonl to "
        r"validate \(calm \d+, loud \d+\)\ntrained on .*\n", said,
    )  # fmt: skip
    [result] = (tmp_path / "out").rglob("result.json")
    counts = json.loads(result.read_text())
    assert counts["n_train"] + counts["n_eval"] == 60
    assert counts["n_eval"] > 0


def test_options_stand_before_between_and_behind_overrides(capsys):
    words = ["d=50", "seed=1", "lr=0.1"]
    for at in range(4):
        arguments = cli.parse(["sweep", *words[:at], "--dry-run", *words[at:]])
        assert (arguments.dry_run, arguments.overrides) == (True, words)
    for wrong, said in (
        (["sweep", "d=50", "--dry", "--rerun", "seed=1"], "--rerun is no option"),
        (["status", "outputs", "d=50"], "unrecognized arguments"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.parse(wrong)
        assert stop.value.code == 2
        assert said in capsys.readouterr().err
