"""The paper's studies by one word each, and tasks whose files have keys of their own."""

import math
import re

import pandas as pd
import pytest
import yaml
from support.rows import sentences

from intrinsic_cli.cli import main as cli
from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning import checkpoints, options, study_file
from intrinsic_cli.planning.compose import OF_SWEEPS, compose_config, keys
from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.specs import run_spec
from intrinsic_cli.planning.words import parse
from intrinsic_cli.tasks import splits

SHORT = ["model=tiny", "d=50", "train.max_steps=1", "data.max_length=16"]
PRESETS = sorted((options.config_dir() / "study").glob("*.yaml"))


def plan(*words):
    return sweep_plan(study_file.preset(parse(words)))


@pytest.mark.long
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_its_lists_multiplied_out(path):
    tree = yaml.safe_load(path.read_text())

    def many(*names):
        return math.prod(len(v) if isinstance(v := tree.get(name, 0), list) else 1 for name in names)

    cells = many("model", "model.name", "task")
    expected = cells * (many("subspace", "d", "seed") + many("baseline.lr", "seed"))
    assert len(plan(f"study={path.stem}").specs) == expected


def test_words_stand_in_place_of_the_presets():
    specs = plan(
        "study=paper-table1", "task=mrpc", "model=tiny", "d=50,100", "seed=0", "baseline.lr=1e-4"
    ).specs
    assert {(s.model.name, s.task.name, s.subspace.kind, s.d) for s in specs} == {
        ("tiny", "mrpc", kind, d) for kind in ("did", "said") for d in (50, 100)
    } | {("tiny", "mrpc", "full", None)}
    assert {s.subspace.groups for s in specs if s.subspace.kind == "said"} == {"layer"}
    assert {s.train.epochs for s in specs} == {5}


def test_the_checkpoints_of_a_pretraining_are_in_the_order_of_their_steps():
    words = checkpoints.overrides(study_file.preset(parse(["study=paper-pretraining", "task=mrpc", "d=100"])))
    names = list(dict.fromkeys(spec.model.name for spec in sweep_plan(words).specs))
    assert [name.rpartition("step_")[2] for name in names] == [
        "0k", "20k", "40k", "100k", "200k", "400k", "1000k", "2000k",
    ]  # fmt: skip


def test_a_study_that_there_is_none_of_is_refused(capsys):
    with pytest.raises(ConfigError, match="study=nix is not known; use one of paper-generalization, "):
        plan("study=nix")
    assert cli.main(["run", "study=paper-table1"]) == 2
    assert capsys.readouterr().err.startswith("idim: study is not a key")


def test_each_preset_says_what_is_known_and_what_is_ours(capsys):
    for path in PRESETS:
        head, line, ours = path.read_text().partition("# --- our choice\n")
        assert "# Known" in head
        assert line
        assert "seed:" in ours
        assert "seed:" not in head
    assert cli.main(["list", "studies"]) == 0
    assert capsys.readouterr().out.count("\n") == len(PRESETS)


def rows(count, labels, columns, offset=0):
    texts = sentences(count, offset=offset)
    return pd.DataFrame([
        {column: row["text"] for column in columns} | {"label": labels[i % len(labels)]}
        for i, row in enumerate(texts)
    ])  # fmt: skip


@pytest.mark.parametrize("number", [1, 2, 3])
def test_anli_has_three_rounds(idim, tmp_path, number):
    """In the hub's layout, one file a split."""
    folder = tmp_path / "anli" / "plain_text"
    folder.mkdir(parents=True)
    for each in (1, 2, 3):
        made = rows(30 + each, (0, 1, 2), ("premise", "hypothesis"), offset=100 * each)
        made.to_parquet(folder / f"train_r{each}-00000-of-00001.parquet")
        made[: 10 + each].to_parquet(folder / f"dev_r{each}-00000-of-00001.parquet")
    words = [
        "task=anli",
        f"task.round={number}",
        f"task.path={tmp_path / 'anli'}",
        f"output_dir={tmp_path / 'out'}",
    ]
    status, _, said = idim("run", *SHORT, *words)
    assert status == 0
    assert f"task anli-r{number}: {30 + number} rows of train_r{number}-" in said
    assert f"{10 + number} rows of dev_r{number}-" in said


def test_yelp_is_scored_on_its_test_split(idim, tmp_path):
    folder = tmp_path / "yelp" / "plain_text"
    folder.mkdir(parents=True)
    rows(30, (0, 1), ("text",)).to_parquet(folder / "train-00000-of-00001.parquet")
    rows(12, (0, 1), ("text",), offset=100).to_parquet(folder / "test-00000-of-00001.parquet")
    words = ["task=yelp-polarity", f"task.path={tmp_path / 'yelp'}", f"output_dir={tmp_path / 'out'}"]
    status, _, said = idim("run", *SHORT, *words)
    assert status == 0
    assert "task yelp-polarity: 30 rows of train-00000-of-00001.parquet" in said
    assert "12 rows of test-00000-of-00001.parquet" in said


# Data sets that are known by their bare names: files as the hub has them, columns, and the splits that count.
HUB = {
    "imdb": ("plain_text/{}-00000-of-00001", ("text",), ("train", "test", "unsupervised"), "test"),
    "ag_news": ("data/{}-00000-of-00001", ("text",), ("train", "test"), "test"),
    "rotten_tomatoes": ("{}", ("text",), ("train", "validation", "test"), "validation"),
    "emotion": ("split/{}-00000-of-00001", ("text",), ("train", "validation", "test"), "validation"),
    "dbpedia_14": ("dbpedia_14/{}-00000-of-00001", ("title", "content"), ("train", "test"), "test"),
    "yelp_review_full": ("yelp_review_full/{}-00000-of-00001", ("text",), ("train", "test"), "test"),
    "tweet_eval": ("irony/{}-00000-of-00001", ("text",), ("train", "validation", "test"), "validation"),
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_a_data_set_of_the_hub_is_a_task_by_its_bare_name(tmp_path, name):
    place, columns, names, scored = HUB[name]
    for i, split in enumerate(names):
        file = tmp_path / f"{place.format(split)}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows(20 + i, (0, 1), columns, offset=100 * i).to_parquet(file)
    subset = ["task.subset=irony"] if name == "tweet_eval" else []
    spec = run_spec(compose_config("run", parse([f"task={name}", f"task.path={tmp_path}", *subset])))
    assert spec.task.title == ("tweet_eval-irony" if subset else name)
    found = splits.load(spec.task, spec.data)
    assert (len(found.train), len(found.validation)) == (20, 20 + names.index(scored))
    assert (found.train.pairs is None) == (len(columns) == 1)


@pytest.mark.parametrize(
    ("typed", "meant"), [("IMDB", "imdb"), ("yelp_polarity", "yelp-polarity"), ("SST2", "sst2")]
)
def test_a_data_set_is_known_in_any_spelling_of_its_name(typed, meant):
    assert compose_config("run", parse([f"task={typed}"])).task.name == meant


def test_what_names_no_task_says_the_key_that_would():
    for word in ("glue", "sms_spam"):  # of many tasks, and of none
        with pytest.raises(ConfigError, match=f"task=custom task.path={word}"):
            compose_config("run", parse([f"task={word}"]))
    assert compose_config("run", parse(["task=stanfordnlp/imdb"])).task.name == "custom"


def test_a_key_of_a_sweep_alone_is_called_so_in_a_run():
    for word in (
        "baseline.lr=0.1",
        "launcher=inline",
        "search=adaptive",
        "search.budget=3",
        "launcher.slots=2",
    ):
        key = re.escape(word.partition("=")[0])
        with pytest.raises(ConfigError, match=f"^{key} is not a key here, but one of idim sweep"):
            compose_config("run", parse([word]))


def test_the_parts_of_a_sweep_are_what_a_run_lacks():
    run, sweep = ({key.partition(".")[0] for key in keys(name)} for name in ("run", "sweep"))
    assert sweep - run == set(OF_SWEEPS)


def test_a_key_that_no_value_refers_to_is_refused():
    with pytest.raises(ConfigError, match=r"task\.round is not a key"):
        sweep_plan(parse(["task=mrpc", "task.round=1"]))
