"""Studies as files: read, changed by words, written, and read again."""

import os

import pytest
import transformers

from intrinsic_cli.cli import main as cli
from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning import study_file, yaml_file
from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.words import parse
from intrinsic_cli.store import Store

STUDY = """
task: [mrpc, rte]
model: tiny
subspace: said
subspace.groups: tensor
d: [100, 1k]
lr: 1e-2
train: {epochs: 5, batch_size: [8, 16]}
task.text: [sentence1, sentence2]
baseline:
  lr: [1e-4, 1e-5]
"""
WORDS = [
    "task=mrpc,rte", "model=tiny", "subspace=said", "subspace.groups=tensor", "d=100,1000", "lr=0.01",
    "train.epochs=5", "train.batch_size=8,16", "task.text=[sentence1,sentence2]", "baseline.lr=[1e-4,1e-5]",
]  # fmt: skip


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def ids(overrides, own=None):
    return [spec.run_id for spec in sweep_plan(overrides, own).specs]


def test_a_file_means_what_the_same_words_mean(file):
    assert ids(study_file.read(file(STUDY))) == ids(parse(WORDS))
    assert len(ids(parse(WORDS))) == 2 * 2 * (2 + 2)


@pytest.mark.parametrize("text", ["", "{}", "null", "---", "# task: mrpc", "defaults: []"])
def test_a_file_without_words_is_no_study(file, text):
    with pytest.raises(
        ConfigError, match=r"study.yaml has no words of a study; write lines such as task: mrpc"
    ):
        study_file.read(file(text), parse(["d=50"]))


def test_words_stand_in_place_of_the_file_s(file):
    changed = study_file.read(file(STUDY), parse(["task=sst2", "task.text=sentence", "d=7", "seed=3"]))
    kept = [word for word in WORDS if not word.startswith(("task", "d="))]
    assert ids(changed) == ids(parse([*kept, "task=sst2", "task.text=sentence", "d=7", "seed=3"]))


def test_a_file_for_hydra_chooses_groups_in_its_defaults(file):
    path = file("defaults:\n  - sweep\n  - task: rte\n  - model: tiny\n  - _self_\nd: 50\n")
    assert ids(study_file.read(path)) == ids(parse(["task=rte", "model=tiny", "d=50"]))


@pytest.mark.parametrize("name", ["2026", "1e3", "007", "1_000", "true", "0x10", "1.50"])
def test_the_folder_of_a_file_may_have_any_name(file, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    plan = sweep_plan(study_file.read(path := file(f"model: tiny\nd: 50\noutput_dir: {name}\n")))
    assert plan.output_dir == name
    path.write_text(study_file.text(study_file.read(path), plan.cells), encoding="utf-8")
    assert sweep_plan(study_file.read(path)).output_dir == name


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        [],
        WORDS,
        ["task=mrpc,pydoc-topic", "model=tiny", "task.name='a, b: c'"],  # of which one sets data.max_train
        [
            "model=tiny",
            "launcher=slurm",
            "launcher.additional={exclude: node7}",
            "launcher.setup=[module load x]",
        ],
        ["model=tiny", "search=adaptive", "search.seeds=1,2", "d=10,1k", "subspace.include='*.weight',b*"],
        ["model=tiny", "task=owner/rows", "task.text=choice(a,b)", "d=50"],  # one column, then another
        ["model=tiny", "task.path=owner/rows,owner/others", "d=50"],  # of no task that is named
        ["model=owner/net", "task=owner/rows", "task.text=[a],[b]", "data.max_train=null"],
        ["model=tiny", "subspace=did,said", "d=50", "subspace.normalize=global,tensor"],
        ["model=tiny", "subspace=did", "adapter=lora", "d=50"],
    ],
)
def test_what_is_written_makes_the_study_again(file, words):
    given = parse(words)
    plan = sweep_plan(given)
    path = file(study_file.text(given, plan.cells))
    again = sweep_plan(study_file.read(path))
    assert again.specs == plan.specs
    assert (again.launcher, again.output_dir) == (plan.launcher, plan.output_dir)
    assert [search.ends() for search in again.searches] == [search.ends() for search in plan.searches]
    written = path.read_text(encoding="utf-8")
    assert "batch_size" in written  # a default, which another version may have otherwise
    assert "subspace.lr_step.global: 1.2" in written
    assert study_file.text(study_file.read(path), again.cells) == written


@pytest.mark.parametrize(
    ("first", "later", "meant"),
    [
        (["model.name=./m"], ["model=tiny"], ["model=tiny"]),
        (["model=tiny", "task.path=owner/rows"], ["task=sst2"], ["model=tiny", "task=sst2"]),
        (["model=tiny", "task=owner/rows", "task.label=y"], ["task=mrpc"], ["model=tiny", "task=mrpc"]),
        # One task of these has a number of rows of its own.
        (["model=tiny"], ["task=sst2"], ["model=tiny", "task=sst2"]),
        (["model=tiny", "task=sst2"], ["task=pydoc-topic"], ["model=tiny", "task=pydoc-topic"]),
        (["model=tiny", "data.max_train=70"], ["task=rte"], ["model=tiny", "task=rte", "data.max_train=70"]),
    ],
)
def test_a_choice_that_is_typed_stands_in_place_of_all_that_the_file_says_of_its_own(
    file, first, later, meant, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    transformers.BertConfig().save_pretrained("m")
    (tmp_path / "m" / "model.safetensors").touch()
    given = parse([*first, "d=300"])
    path = file(study_file.text(given, sweep_plan(given).cells))
    assert sweep_plan(study_file.read(path, parse(later))).specs == sweep_plan(parse([*meant, "d=300"])).specs


def test_a_preset_with_another_model_is_of_that_alone():
    plan = sweep_plan(
        study_file.preset(parse(["study=paper-pretraining", "model=roberta-base", "task=mrpc"]))
    )
    assert {spec.model.label for spec in plan.specs} == {"roberta-base"}


@pytest.mark.parametrize(
    ("line", "value"), [("time: 1:30:00", "1:30:00"), ("account: 1e5", "1e5"), ("qos: 007", "007")]
)
def test_texts_of_a_launcher_keep_their_letters(file, line, value):
    plan = sweep_plan(study_file.read(file(f"d: [300]\nlauncher: slurm\nlauncher.{line}\n")))
    assert plan.launcher[line.partition(":")[0]] == value


def test_another_choice_of_a_group_has_its_own_default_rate(file):
    given = parse(["model=tiny", "subspace=did,said", "d=50"])
    path = file(study_file.text(given, sweep_plan(given).cells))
    for words in (
        ["subspace=full"],
        ["adapter=lora", "adapter.r=2", "subspace=full"],
        ["subspace.lr_step.global=2"],
    ):
        typed = parse(words)
        assert sweep_plan(study_file.read(path, typed)).specs == sweep_plan([*given, *typed]).specs


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("search: adaptive\nd: [10, 1000]\nseed: 5\n", "seed"),
        ("subspace: full\nbaseline.lr: [0.002]\nbaseline.seed: 7\n", "baseline.lr"),
    ],
)
def test_a_file_may_have_a_key_that_no_run_goes_by_but_words_may_not(file, text, key, capsys, tmp_path):
    """Files of earlier versions have some."""
    command = ["sweep", str(file(f"model: tiny\n{text}")), "--dry-run", f"output_dir={tmp_path / 'none'}"]
    assert cli.main(command) == 0
    assert "to do" in capsys.readouterr().out
    assert cli.main([*command, f"{key}=3"]) == 2
    assert capsys.readouterr().err.startswith(f"idim: {key}=3 is ")


@pytest.mark.parametrize(
    ("text", "typed", "start"),
    [
        ("d: [10, 1000]\nseed: [3, 4]\n", "search=adaptive", "seed=3,4 is not"),
        ("d: [10, 1000]\nbaseline: {lr: [0.002], seed: 4}\n", "subspace=full", "baseline.lr=0.002 is for"),
    ],
)
def test_words_that_leave_a_key_of_the_file_to_no_run_are_refused(file, text, typed, start, capsys):
    assert cli.main(["sweep", str(file(f"model: tiny\n{text}")), "--dry-run", typed]) == 2
    assert capsys.readouterr().err.startswith(f"idim: {start}")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- a", "no mapping"), ("5", "can't be read"), ("'5': 1", "5 is not a key"), ("a: [", "can't be read"),
        ("a: &x [1]\nb: *x", "alias"), ("a: 1\na: 2", "can't be read"), ("d: 1\nnope: 2", "nope is not a key"),
        ("task: []", "empty list"), ("task: {name: x}\n1: 2", "no mapping"), ("task.label: [[a]]", "task.label"),
        ("d: [1, {a: 2}]", "d="), ("x: " + "[" * 5000, "can't be read"), ("a\0b: 1", "can't be read"),
        ("launcher: [local, inline]", "one launcher"), ("d: ${nope}", "can't be resolved"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_study_is_refused_in_one_line(file, text, part, capsys):
    assert cli.main(["sweep", str(file(text)), "--dry-run", "model=tiny"]) == 2
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.count("\n") == 1
    assert part in said


def test_a_study_file_that_is_no_file_is_refused(tmp_path):
    for path in (tmp_path / "nix.yaml", tmp_path):
        with pytest.raises(ConfigError, match="no file of at most"):
            study_file.read(path)
    (tmp_path / "large.yaml").write_text("# " + "x" * yaml_file.LARGEST)
    with pytest.raises(ConfigError, match="no file of at most"):
        study_file.read(tmp_path / "large.yaml")


def test_a_folder_keeps_the_studies_that_made_it(tmp_path):
    store = Store(tmp_path)
    for text in ("a", "a", "b", "a", "b", "c", "a", "c"):
        store.keep_study(text)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "study.yaml": "c", "study-1.yaml": "a", "study-2.yaml": "b", "study-3.yaml": "c"
    }  # fmt: skip


def test_of_a_study_that_was_moved_the_place_of_its_runs_is_told(tmp_path, capsys):
    given = parse(["model=tiny", "d=50", f"output_dir={tmp_path / 'outputs'}"])
    plan = sweep_plan(given)
    moved = tmp_path / "moved"
    (moved / plan.specs[-1].run_id).mkdir(parents=True)
    (moved / "study.yaml").write_text(study_file.text(given, plan.cells))
    again = ["sweep", str(moved / "study.yaml"), "--dry-run"]
    told = f"runs of this study lie in {moved} and none in {tmp_path / 'outputs'}; output_dir={moved} goes on"
    assert cli.main(again) == 0
    assert told in capsys.readouterr().out
    assert cli.main([*again, f"output_dir={moved}"]) == 0
    assert "lie in" not in capsys.readouterr().out
    (tmp_path / "outputs" / plan.specs[0].run_id).mkdir(parents=True)
    assert cli.main(again) == 0
    assert "lie in" not in capsys.readouterr().out


def test_own_files_of_tasks_and_models(tmp_path, capsys):
    own = tmp_path / "it's [mine], $x"
    for group, text in {
        "task": "name: mine\npath: owner/rows\ntext: [body]\nlabel: y\ntrain: train\nmetrics: [f1]\n",
        "model": "name: owner/net\nnum_hidden_layers: 2\n",
    }.items():
        (own / group).mkdir(parents=True)
        (own / group / "mine.yaml").write_text(text)
    plan = sweep_plan(parse(["task=mine,mrpc", "model=mine", "d=50"]), own)
    assert [(spec.task.name, spec.model.name) for spec in plan.specs[::2]] == [
        ("mine", "owner/net"),
        ("mrpc", "owner/net"),
    ]
    assert {spec.subspace.kind for spec in plan.specs} == {"full", "did"}
    plan_it = ["sweep", "--dry-run", "model=tiny"]
    assert cli.main([*plan_it, "task=mine", f"--config-dir={own}", f"output_dir={tmp_path}"]) == 0
    assert "tiny-mine-full" in capsys.readouterr().out
    assert cli.main(["sweep", "--dry-run", "task=mine", "model=tiny"]) == 2
    assert cli.main(["sweep", "--dry-run", "task=mine", f"--config-dir={tmp_path}/nix"]) == 2
    assert "--config-dir" in capsys.readouterr().err
    (own / "task" / "torn.yaml").write_text("name: [")
    assert cli.main([*plan_it, "task=torn", f"--config-dir={own}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


@pytest.mark.parametrize("group", ["task", "model"])
@pytest.mark.parametrize(
    "content", ["pipe", "folder", "device", "hole", b"a: " + b"[" * 20_000, b"\xff\xfe\0a", b"\xe9", BOMB.encode(),
                b"[1, 2]", b"5", b"a: ["],
    ids=lambda value: value if isinstance(value, str) else repr(value[:8]),
)  # fmt: skip
def test_an_own_file_of_any_content_is_refused_at_once(tmp_path, capsys, group, content):
    path = tmp_path / "own" / group / "mine.yaml"
    path.parent.mkdir(parents=True)
    if content == "pipe":
        os.mkfifo(path)
    elif content == "folder":
        path.mkdir()
    elif content == "device":
        path.symlink_to("/dev/zero")
    elif content == "hole":
        with path.open("wb") as file:
            file.truncate(5 << 30)
    else:
        path.write_bytes(content)
    words = ["run", "--cfg", "job", f"{group}=mine", f"--config-dir={tmp_path / 'own'}"]
    assert cli.main(words) == 2
    printed, said = capsys.readouterr()
    assert (printed, said.count("\n")) == ("", 1)
    assert f"{group}=mine" in said or "mine.yaml" in said
