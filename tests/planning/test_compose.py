"""From words on a command line to specs."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from intrinsic_cli.cli.arguments import in_shell
from intrinsic_cli.errors import ConfigError, IdimError
from intrinsic_cli.planning import compose, options, specs
from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.words import parse
from intrinsic_cli.spec import BUILTIN_MODELS, RunSpec


def run_spec(*words):
    return specs.run_spec(compose.compose_config("run", parse(words)))


def grid(*words):
    """(kind, model, task, d, seed, lr) of every run of a sweep."""
    specs = sweep_plan(parse(words)).specs
    assert len({spec.run_id for spec in specs}) == len(specs)
    return [(s.subspace.kind, s.model.label, s.task.name, s.d, s.seed, s.lr) for s in specs]


def test_every_override_reaches_its_field(task_folder):
    spec = run_spec(
        "task=mrpc", "model=roberta-base", "model.revision=abc", "model.num_hidden_layers=3", "subspace=said",
        "subspace.normalize=tensor", "subspace.groups=module", "projection=sorf", "d=77", "seed=4", "lr=0.25",
        "train.epochs=1.5", "train.max_steps=9", "train.batch_size=3", "train.precision=bf16",
        "data.max_train=11", "data.max_eval=12", f"task.path={task_folder}",
    )  # fmt: skip
    assert (spec.task.name, spec.task.text, spec.task.path) == (
        "mrpc",
        ("sentence1", "sentence2"),
        str(task_folder),
    )
    assert (spec.model.name.rpartition("/")[2], spec.model.revision, spec.model.num_hidden_layers) == (
        "roberta-base", "abc", 3
    )  # fmt: skip
    assert (spec.subspace.kind, spec.subspace.normalize, spec.subspace.groups) == ("said", "tensor", "module")
    assert (spec.projection.kind, spec.d, spec.seed, spec.lr) == ("sorf", 77, 4, 0.25)
    train = spec.train
    assert (train.epochs, train.max_steps, train.batch_size, train.precision) == (1.5, 9, 3, "bf16")
    assert (spec.data.max_train, spec.data.max_eval) == (11, 12)


@pytest.mark.long
def test_every_model_and_task_and_projection_composes():
    models, tasks = options.options("model"), sorted(set(options.options("task")) - {"custom"})
    kinds = options.options("projection")
    assert len(models) >= len(tasks) >= len(kinds)
    for model, task, kind in zip(models, itertools.cycle(tasks), itertools.cycle(kinds), strict=False):
        spec = run_spec(f"model={model}", f"task={task}", f"projection={kind}")
        assert spec.model.name in BUILTIN_MODELS or "/" in spec.model.name, model
        name = spec.task.name.removesuffix("-r1").removesuffix("-sentiment")  # of a round, and of a subset
        assert (name, spec.projection.kind) == (task, kind)


def test_a_run_can_be_written_down_and_read_again():
    spec = run_spec("model=tiny", "subspace=said", "subspace.include=[a,b*]")
    assert RunSpec.from_dict(spec.to_dict()) == spec
    assert spec.subspace.include == ("a", "b*")


def test_the_default_learning_rate_falls_with_d_and_knows_the_model():
    """MiniLM, d = 1,000: (22.7e6 / 1,000)^0.2 is 7.434, times 1.2 is 8.92, over the root of 1,000 is 0.282."""
    assert run_spec("d=1000").lr == 0.282
    assert run_spec("d=1000", "subspace=said").lr == 0.282
    assert run_spec("d=1000", "subspace.normalize=tensor").lr == 0.0235
    assert run_spec("d=1000", "subspace.lr_step.global=0.12").lr == 0.0282
    larger = run_spec("model=bert-large", "d=1000").lr  # 335 M parameters
    assert larger == pytest.approx(0.282 * (335 / 22.7) ** 0.2, rel=0.005)
    # Where d is all there is, a step is as long as full fine-tuning's.
    assert run_spec("model=tiny", "d=40000").lr == pytest.approx(1.2 / 40000**0.5, rel=0.005)
    assert run_spec("d=1000", "subspace=full").lr == run_spec("model=bert-large", "subspace=full").lr == 1e-4


@pytest.mark.parametrize(
    "both", [("d=[50,500,700]", "d=50,500,700"), ("seed=[3,4]", "seed=3,4"), ("lr=[0.1,1e-2]", "lr=0.1,1e-2")]
)
def test_lists_in_brackets_and_without_are_the_same(both):
    one, other = (grid("model=tiny", words) for words in both)
    assert one == other
    assert len({run[3:] for run in one}) == len(one) >= 3


def test_a_single_value_is_a_list_of_one():
    assert grid("model=tiny", "d=50") == grid("model=tiny", "d=[50]")


def test_hydra_lists_make_the_product_with_one_baseline_per_cell():
    runs = grid("task=mrpc,rte", "model=tiny", "subspace=did,said", "d=50,500", "seed=0,1")
    assert len(runs) == 2 * (2 + 2 * 2 * 2)
    full = [run for run in runs if run[0] == "full"]
    assert {(task, seed) for _, _, task, _, seed, _ in full} == {
        (t, s) for t in ("mrpc", "rte") for s in (0, 1)
    }
    assert {d for _, _, _, d, _, _ in full} == {None}
    for kind in ("did", "said"):
        assert {run[2:5] for run in runs if run[0] == kind} == {
            (t, d, s) for t in ("mrpc", "rte") for d in (50, 500) for s in (0, 1)
        }  # fmt: skip


def test_the_baseline_has_seeds_and_rates_of_its_own():
    runs = grid(
        "model=tiny", "d=50", "seed=0,1", "lr=0.3,0.4", "baseline.seed=7,8,9", "baseline.lr=[1e-4,1e-5]"
    )
    full = [run for run in runs if run[0] == "full"]
    assert {(seed, lr) for *_, seed, lr in full} == {(s, lr) for s in (7, 8, 9) for lr in (1e-4, 1e-5)}
    assert {(seed, lr) for kind, *_, seed, lr in runs if kind == "did"} == {
        (s, lr) for s in (0, 1) for lr in (0.3, 0.4)
    }
    assert not [run for run in grid("model=tiny", "d=50", "baseline.run=false") if run[0] == "full"]


@pytest.mark.parametrize("words", [("d=0",), ("subspace=said", "projection=sorf", "d=0", "lr=0.3", "seed=7")])
def test_nothing_trained_is_one_run_whatever_the_space(words):
    spec = run_spec("model=tiny", "task=pydoc-lm", *words)
    assert (spec.subspace.kind, spec.d, spec.lr, spec.seed) == ("none", 0, 0.0, 0)
    assert spec == run_spec("model=tiny", "task=pydoc-lm", "d=0")
    assert spec.study == run_spec("model=tiny", "task=pydoc-lm", "d=10").study
    assert run_spec(*specs.words_of(spec)) == spec


@pytest.mark.parametrize(
    ("words", "untrained"),
    [
        (["task=pydoc-lm"], 1),
        (["task=arithmetic", "seed=0,1", "projection=fastfood,sorf", "d=0,20"], 1),
        (["task=pydoc-topic", "task.kind=choice"], 1),
        (["task=pydoc-lm", "search=adaptive", "d=20,200"], 1),
        (["task=pydoc-lm", "baseline.run=false"], 0),
        (["task=pydoc-lm", "subspace=full"], 0),
        (["task=pydoc-topic"], 0),
    ],
    ids=str,
)
def test_a_sweep_measures_the_model_before_training_where_that_means_something(words, untrained):
    assert [run[3] for run in grid("model=tiny", *words)].count(0) == untrained


def test_curve_and_baseline_share_a_study():
    plan = sweep_plan(parse(["model=tiny", "d=50,60", "output_dir=there"]))
    assert len(plan.specs) == 3
    assert len({spec.study for spec in plan.specs}) == 1
    assert plan.output_dir == "there"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["d=100"], "d from 100 to 100"),
        (["d=0,100"], "d from 0 to 100"),
        (["search.seeds=[0,0,1]"], "search.seeds=[0, 0, 1]"),
        (["search.rel_width=0"], "search.rel_width=0"),
        (["search.budget=0"], "search.budget=0"),
    ],
)
def test_what_can_not_be_searched_is_no_plan(words, part):
    with pytest.raises(ConfigError, match=re.escape(part)):
        sweep_plan(parse(["model=tiny", "search=adaptive", *words]))


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["baseline.lr=0"], "baseline.lr=0.0 must be above 0"),
        (["baseline.seed=-1"], "baseline.seed=-1 must be"),
        (["lr=0", "baseline.lr=1e-4"], "lr=0.0 must be above 0"),
        (["lr=0", "subspace=full"], "lr=0.0 must be above 0"),
    ],
)
def test_what_full_fine_tuning_can_not_have_is_called_by_its_key(words, start):
    with pytest.raises(ConfigError, match=f"^{re.escape(start)}"):
        sweep_plan(parse(["model=tiny", "d=50", *words]))


@pytest.mark.parametrize("name", ["2026", "1e3", "007", "it's", "true", "a (b"])
def test_the_folder_of_the_runs_may_have_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert sweep_plan(parse(["model=tiny", "d=50", f"output_dir={name}"])).output_dir == name
        (tmp_path / name).mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["launcher=local,inline"], ["launcher=local,inline", "one launcher"]),
        (["launcher.slots=1,2"], ["launcher.slots=1,2", "one launcher"]),
        (["output_dir=a,b"], ["output_dir=a,b", "one folder"]),
        (["tracker=none,none2"], ["none2"]),
        (["projection.cache=auto,store"], ["projection.cache=auto,store", "one and the same run"]),
        (["train.eval_batch_size=64,128"], ["train.eval_batch_size=64,128", "one and the same run"]),
    ],
)  # fmt: skip
def test_a_list_of_what_a_study_has_one_of_is_refused(words, parts):
    with pytest.raises(ConfigError) as caught:
        sweep_plan(parse(["model=tiny", "d=50", *words]))
    assert all(part in str(caught.value) for part in parts)


def test_a_value_that_some_cells_need_makes_one_run_in_the_others():
    """SAID has a scale for each group, and DID has no groups."""
    words = ["model=tiny", "d=50,60", "subspace.groups=layer,tensor", "baseline.run=false"]
    specs = sweep_plan(parse([*words, "subspace=did,said"])).specs
    assert sorted((s.subspace.kind, s.d) for s in specs) == [
        ("did", 50), ("did", 60), *[("said", d) for d in (50, 50, 60, 60)]
    ]  # fmt: skip
    said = {(s.d, s.subspace.groups) for s in specs if s.subspace.kind == "said"}
    assert said == set(itertools.product((50, 60), ("layer", "tensor")))
    words = ["model=tiny", "d=50,60", "subspace.groups=layer,tensor", "search=adaptive"]
    searches = sweep_plan(parse([*words, "subspace=did,said"])).searches
    assert [search.ends()[0].subspace.kind for search in searches] == ["did", "said", "said"]


@pytest.mark.parametrize(
    "words",
    [
        ["subspace.groups=layer,tensor"],
        ["subspace.groups=tensor,module", "search=adaptive", "d=50,60"],
        [
            "subspace.groups=tensor,module",
            "baseline.lr=1e-3",
        ],  # full fine-tuning's own is the usual one, layer
        ["subspace=said,did", "subspace.groups=layer,tensor", "projection.cache=auto,store"],
    ],
)
def test_a_value_that_no_cell_needs_is_refused(words):
    key = "projection.cache" if "cache" in words[-1] else "subspace.groups"
    with pytest.raises(ConfigError, match=f"^{key}=.* make one and the same run"):
        sweep_plan(parse(["model=tiny", "d=50", *words]))


@pytest.mark.parametrize(
    ("words", "start", "instead"),
    [
        (["subspace=full", "baseline.lr=0.5"], "baseline.lr=0.5", "write lr=0.5"),
        (["subspace=full", "baseline.lr=0.5,1", "lr=2"], "baseline.lr=0.5,1", "write lr=0.5,1"),
        (["subspace=full", "baseline.seed=7"], "baseline.seed=7", "write seed=7"),
        (["search=adaptive", "seed=5"], "seed=5", "write search.seeds=[5]"),
        (["search=adaptive", "seed=0,1", "subspace=did,said"], "seed=0,1", "baseline.seed=0,1"),
    ],
)
def test_a_key_that_no_run_goes_by_is_refused(words, start, instead):
    with pytest.raises(ConfigError, match=f"^{re.escape(start)} is .*{re.escape(instead)}") as caught:
        sweep_plan(parse(["model=tiny", "d=50,60", *words]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["subspace=full", "baseline.lr=null", "baseline.seed=null"],
        ["subspace=full,did", "baseline.lr=0.5", "baseline.seed=7"],
        ["search=adaptive", "seed=0", "search.seeds=[5,6]"],
        ["search=adaptive,grid", "seed=5"],
    ],
)
def test_a_key_that_some_run_goes_by_is_taken(words):
    assert sweep_plan(parse(["model=tiny", "d=50,60", *words])).specs


@pytest.mark.parametrize(
    ("words", "rates"),
    [
        (["lr=0.9,0.9"], [0.9]),
        (["lr=[0.9,0.3,9e-1]"], [0.9, 0.3]),
        (["lr=1,1.0"], [1.0]),
        (["search.lr_multiples=[1,1.0]"], None),
    ],
)
def test_a_search_tries_a_rate_once_however_often_it_is_named(words, rates):
    plan = sweep_plan(parse(["model=tiny", "d=50,60", "search=adaptive", *words]))
    [search] = plan.searches
    one = sweep_plan(parse(["model=tiny", "d=50,60", "search=adaptive", "search.lr_multiples=[1]"]))
    assert list(search.lrs(50)) == (rates or [one.searches[0].make(50, 0, None).lr])
    assert len([spec for spec in plan.specs if spec.is_full]) == len(search.lrs(50))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["task.metrics=[auc]"], "'auc' is no classification metric; use accuracy"),
        (["task=pydoc-lm", "task.metrics=[acuracy]"], "'acuracy' is no lm metric"),
        (["task.regression=true"], "'accuracy' is no regression metric"),
    ],
)
def test_a_metric_that_the_kind_does_not_have_is_refused_by_the_plan(words, part):
    with pytest.raises(ConfigError, match=f"^task.metrics: {part}"):
        sweep_plan(parse(["model=tiny", "d=50", *words]))


def test_any_other_key_can_be_a_list():
    plan = sweep_plan(parse(["model=tiny", "d=50", "train.batch_size=8,16", "baseline.run=false"]))
    assert [spec.train.batch_size for spec in plan.specs] == [8, 16]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["task=mprc"], ["task=mprc", "mrpc", "idim list tasks"]),
        (["model=robertabase"], ["model=robertabase", "roberta-base", "idim list models"]),
        (["task=sms_spam"], ["task=sms_spam", "task=custom task.path=sms_spam"]),
        (["model=enc"], ["model=enc", "model.name=enc"]),
        (["task=MPRC"], ["did you mean mrpc?"]),
        (["projection=fasfood"], ["projection=fasfood", "fastfood"]),
        (["subspace=dod"], ["subspace=dod", "did", "said", "full"]),
        (["trian.epochs=2"], ["trian.epochs", "train.epochs"]),
        (["train.epoch=2"], ["train.epoch", "train.epochs"]),
        (["tsk=mrpc"], ["tsk", "task"]),
        (["+new=1"], ["+new=1", "key=value"]),
        (["mrpc"], ["mrpc", "key=value", "task=mrpc"]),
        (["d=-1"], ["d=-1", "at least 1"]),
        (["d=0"], ["d=0", "classification", "at least 1"]),
        (["d=1.5"], ["d=1.5", "integer"]),
        (["d=abc"], ["d=", "abc"]),
        (["d=inf"], ["d=inf", "integer"]),
        (["d=nan"], ["d=nan", "integer"]),
        (
            ["seed=18446744073709551616"],
            ["seed=18446744073709551616 is too large; the most is 9223372036854775807"],
        ),
        (["lr=1" + "0" * 400], ["is too large; the most is 1.7976931348623157e+308"]),
        (["d=null"], ["needs d", "d=500"]),
        (["d=50,500"], ["d=50,500", "idim sweep"]),
        (["d=[50,500]"], ["d=[50, 500]", "idim sweep"]),
        (["lr=0"], ["lr=0", "above 0"]),
        (["lr=-0.1"], ["lr=-0.1", "above 0"]),
        (["lr=nan"], ["lr=nan"]),
        (["seed=-1"], ["seed=-1", "at least 0"]),
        (["train.epochs=x"], ["train.epochs", "'x'"]),
        (["train.precision=fp8"], ["fp8", "bf16"]),
        (["subspace.normalize=row"], ["row", "global", "tensor"]),
        (["task=custom"], ["task.path"]),
        (["task=custom", "task.path=./nowhere.csv"], ["nowhere.csv", "does not exist"]),
        (["model.name="], ["model.name"]),
        (["train=5"], ["train"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else "",
)
def test_bad_words_are_answered_in_one_line(words, parts):
    with pytest.raises(IdimError) as caught:
        run_spec("model=tiny", *words)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["model=bert-base-uncased"], ["model=bert-base"]),
        (["model=FacebookAI/roberta-base"], ["model=roberta-base"]),
        (["model=owner/net"], ["model.name=owner/net"]),
        (["model={folder}"], ["model.name={folder}"]),
        (["task={folder}/rows.csv"], ["task=custom", "task.path={folder}/rows.csv"]),
        (["task=owner/rows"], ["task=custom", "task.path=owner/rows"]),
        (["task=mrpc", "task.text=one"], ["task=mrpc", "task.text=[one]"]),
        (["task=mrpc", "task.text=one,two"], ["task=mrpc", "task.text=[one,two]"]),
        (["task.metrics=f1,accuracy"], ["task.metrics=[f1,accuracy]"]),
        (["subspace.include=*.weight"], ["subspace.include=['*.weight']"]),
        (["d=1k"], ["d=1000"]),
        (["data.max_train=1.5k"], ["data.max_train=1500"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_a_shell_user_types_is_what_is_meant(tmp_path, typed, meant):
    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("")
    one, other = ([word.format(folder=tmp_path) for word in words] for words in (typed, meant))
    assert run_spec(*one) == run_spec(*other)
    assert sweep_plan(parse(one)).specs == sweep_plan(parse(other)).specs


@pytest.mark.parametrize("where", [".", "./", "../home", "..", "~", "~/", "~/../home", "{home}/."])
def test_a_folder_however_it_is_typed_is_called_by_its_name(tmp_path, monkeypatch, where):
    home = tmp_path / "home"
    (home / "inside").mkdir(parents=True)
    (home / "config.json").write_text("{}")
    (home / "model.safetensors").write_text("")
    (home / "rows.csv").write_text("text,label\na,b\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "inside" if where == ".." else home)
    typed = where.format(home=home)
    for words in ([f"model.name={typed}", f"task.path={typed}"], [f"model={typed}/", f"task.path='{typed}'"]):
        spec = run_spec("task=custom", "output_dir=/nowhere", *words)
        assert spec.run_id.startswith("home-custom-did-")
        assert spec.task.title == "home"
        assert spec == run_spec(
            "task=custom",
            "output_dir=/nowhere",
            f"model.name={spec.model.name}",
            f"task.path={spec.task.path}",
        )
        assert Path(spec.model.name).resolve() == Path(spec.task.path).resolve() == home


def test_home_is_no_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for typed in ("~/x y", "'~/x y'"):
        plan = sweep_plan(parse(["model=tiny", f"output_dir={typed}"]))
        assert plan.output_dir == str(tmp_path / "x y")
    with pytest.raises(ConfigError, match="output_dir=~nobody-here/x is no folder"):
        sweep_plan(parse(["model=tiny", "output_dir=~nobody-here/x"]))


def test_own_data_are_called_as_their_file(tmp_path):
    (tmp_path / "Reviews.CSV").write_text("text,label\na,b\n")
    task = run_spec("model=tiny", f"task={tmp_path}/Reviews.CSV").task
    assert (task.name, task.title) == ("custom", "Reviews")
    assert run_spec("model=tiny", "task=owner/rows").task.title == "rows"
    assert run_spec("model=tiny", "task=owner/rows", "task.name=mine").task.title == "mine"


def test_rows_of_ones_own_are_no_rows_of_the_default_task(tmp_path):
    """All of them, by the file's name: the default task takes 3,000 of its own."""
    rows = tmp_path / "Reviews.csv"
    rows.write_text("text,label\na,b\n")
    spec = run_spec("model=tiny", f"task.path={rows}")
    assert (spec.task.name, spec.task.title, spec.data.max_train) == ("custom", "Reviews", None)
    assert spec == run_spec("model=tiny", f"task={rows}")
    for given in ([f"task.path={rows}"], [f"task.path={rows},owner/rows"]):
        plan = sweep_plan(parse(["model=tiny", "d=50", *given]))
        assert {spec.task.name for spec in plan.specs} == {"custom"}
        assert {spec.data.max_train for spec in plan.specs} == {None}
    assert (
        run_spec("model=tiny", f"task.path={rows}", "task=mrpc").task.name == "mrpc"
    )  # a copy of a known one
    assert run_spec("model=tiny", "task.path=null") == run_spec("model=tiny")


@pytest.mark.parametrize(
    "words",
    [
        ["seed=range(10001)"],
        ["d=range(1,102)", "seed=range(100)"],
        ["train.batch_size=range(1,102)", "train.max_steps=range(1,101)"],
        ["search=adaptive", "search.budget=10001"],
    ],
)
def test_more_runs_than_a_sweep_may_have_are_refused(words):
    with pytest.raises(ConfigError, match="more than 10000 runs"):
        sweep_plan(parse(["model=tiny", *words]))


def test_full_fine_tuning_alone_is_counted_once():
    assert len(sweep_plan(parse(["model=tiny", "subspace=full", "seed=range(0,5001)"])).specs) == 5001


def test_a_folder_that_differs_between_the_runs_of_a_sweep_is_refused():
    words = ["task=mrpc,rte", "model=tiny", "d=300", "output_dir='outputs/${task.name}'"]
    with pytest.raises(ConfigError, match="output_dir=outputs/mrpc and outputs/rte are of one sweep"):
        sweep_plan(parse(words))
    assert sweep_plan(parse(["task=mrpc", *words[1:]])).output_dir == "outputs/mrpc"


def test_an_escaped_interpolation_is_its_letters():
    words = [
        "model=tiny",
        "d=300",
        "task=owner/rows",
        "task.kind=choice",
        r"task.prompt={text} costs \${seed}",
    ]
    [spec, *_] = sweep_plan(parse(words)).specs
    assert spec.task.prompt == "{text} costs ${seed}"


@pytest.mark.parametrize("words", ["d=[]", "seed=[]", "lr=[]"])
def test_an_empty_list_is_no_study(words):
    with pytest.raises(ConfigError, match=words.partition("=")[0]):
        sweep_plan(parse(["model=tiny", words]))


@pytest.mark.parametrize(
    "words",
    [
        ["d=[50,-1]"],
        ["search=adaptive", "d=0,50"],
        ["d=50,x"],
        ["lr=[0.1,-1]"],
        ["baseline.lr=[0]"],
        ["task=mrpc,rtee"],
    ],
)
def test_one_bad_value_in_a_list_refuses_the_study(words):
    with pytest.raises(ConfigError):
        sweep_plan(parse(["model=tiny", *words]))


@pytest.mark.parametrize(
    ("words", "rates"),
    [
        ([], [1e-4]),
        (["lr=0.1"], [1e-4]),
        (["lr=0.1,0.2"], [3e-5, 1e-4]),
        (["lr=0.1,0.2,0.3"], [3e-5, 1e-4, 3e-4]),
        (["lr=[0.1,0.2,0.3,0.4,0.5]"], [1e-5, 3e-5, 1e-4, 3e-4, 1e-3]),
        (["lr=0.1,0.2", "baseline.lr=2e-5"], [2e-5]),
        (["search=adaptive"], [3e-5, 1e-4, 3e-4]),
        (["search=adaptive", "search.lr_multiples=[1]"], [1e-4]),
        (["search=adaptive", "lr=0.1,0.2"], [3e-5, 1e-4]),
        (["search=adaptive", "baseline.lr=1e-3,2e-3"], [1e-3, 2e-3]),
    ],
)
def test_full_fine_tuning_is_tuned_as_far_as_theta(words, rates):
    plan = sweep_plan(parse(["model=tiny", "d=50,60", "baseline.seed=0,1", *words]))
    full = [spec for spec in plan.specs if spec.d is None]
    assert [(s.lr, s.seed) for s in full] == [(lr, seed) for lr in rates for seed in (0, 1)]
    told = [f"full fine-tuning tries {len(rates)} learning rates, as θ does (baseline.lr=… sets them)"]
    assert (list(plan.notes) == told) is (len(rates) > 1 and "baseline.lr" not in str(words))


def test_full_fine_tuning_beside_an_adapter_is_said_to_be_tuned_too():
    plan = sweep_plan(parse(["adapter=lora", "subspace=full", "lr=0.001,0.003"]))
    assert sum(spec.is_full for spec in plan.specs) == 2
    assert "full fine-tuning tries 2 learning rates, as θ does (baseline.lr=… sets them)" in plan.notes


def test_many_rates_of_full_fine_tuning_stay_within_a_decade_of_its_own():
    plan = sweep_plan(parse(["model=tiny", "d=50", f"lr=[{','.join(f'0.{i}' for i in range(1, 10))}]"]))
    rates = sorted(spec.lr for spec in plan.specs if spec.d is None)
    assert len(rates) == 9
    assert (rates[0], rates[4], rates[-1]) == (1e-5, 1e-4, 1e-3)


def test_a_baseline_with_fewer_rates_is_noted():
    (note,) = sweep_plan(parse(["model=tiny", "d=50", "lr=0.1,0.2", "baseline.lr=1e-4"])).notes
    assert note == "full fine-tuning has 1 of the 2 learning rates that θ has: more could raise its score"


def test_a_model_that_was_fetched_into_this_folder_stands_for_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub = run_spec("model=smollm2-135m").model
    assert (hub.name, hub.fingerprint) == ("HuggingFaceTB/SmolLM2-135M-Instruct", None)
    folder = tmp_path / "models" / "smollm2-135m"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    for words in (["model=smollm2-135m"], ["model=HuggingFaceTB/SmolLM2-135M-Instruct"]):
        here = run_spec(*words).model
        assert (here.name, here.label) == ("./models/smollm2-135m", "smollm2-135m")
        assert here.fingerprint is not None
    assert run_spec("model=smollm2-135m", "model.name=owner/other").model.name == "owner/other"
    assert dict(options.describe("model"))["smollm2-135m"] == "./models/smollm2-135m"


def test_a_list_with_spaces_is_told_how_to_be_written():
    with pytest.raises(
        ConfigError, match=r"'seed=0,' ends in a comma; write a list without spaces: seed=A,B"
    ):
        parse(["seed=0,", "1,", "2"])


@pytest.mark.parametrize(
    ("group", "text", "message"),
    [
        ("task", "txet: [a]\n", "txet is not known; use one of .*; did you mean text"),
        ("task", "- text\n", "is no list of keys"),
        ("model", "nmae: tiny\n", "nmae is not known; use one of .*; did you mean name"),
    ],
)
def test_a_mistake_in_a_file_of_ones_own_is_told_with_its_path(tmp_path, group, text, message):
    path = tmp_path / group / "mine.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{path}.* {message}"):
        compose.compose_config("sweep", parse([f"{group}=mine"]), tmp_path)


def test_a_file_of_ones_own_may_set_keys_of_other_parts(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text(
        "# @package _global_\ntask:\n  name: mine\n  path: rows.csv\ndata:\n  max_length: 7\n",
        encoding="utf-8",
    )
    assert compose.compose_config("sweep", parse(["task=mine"]), tmp_path).data.max_length == 7


@pytest.mark.parametrize(
    "words",
    [
        ["task.labels=[true,'null',1e3]", "task.text=[a,'b, c']"],
        ["task.regression=true", "task.metrics=[pearson]"],
        ["task.kind=lm", "task.metrics=[loss]", "task.pack=true"],
        ["task.kind=lm", "task.metrics=[loss]", r"task.prompt={q}\n", "task.answer=a"],
        ["task.kind=choice", "task.prompt={q}? It's ", r"task.words={0: false, null: 1e3, true: it\:s}"],
        ["task.kind=generation", "task.metrics=[exact_match]", "task.prompt={q}: ", "task.answer=1e3"],
        [
            "task.kind=generation",
            "task.metrics=[exact_match]",
            "task.answer=a",
            "task.max_new_tokens=5",
            "d=0",
        ],
        ["task=sst2", "task.kind=choice", "task.per_token=true", "adapter=lora"],
        ["task=stsb"],
        ["task=stsb", "task.regression=false", "task.metrics=[accuracy]"],
        ["task=stsb", "task.regression=false", "task.kind=lm", "task.metrics=[loss]"],
        ["task=pydoc-lm", "task.kind=regression", "task.metrics=[pearson]", "subspace=full"],
        ["task=pydoc-topic", "task.kind=choice", "d=0"],
    ],
    ids=" ".join,
)
def test_what_show_prints_makes_the_same_run(tmp_path, words):
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\na,b\n")
    spec = run_spec("model=tiny", *([] if "task=" in words[0] else [f"task={rows}"]), *words)
    line = in_shell(["idim", "run", *specs.words_of(spec)])
    assert run_spec(*shlex.split(line)[2:]).run_id == spec.run_id
