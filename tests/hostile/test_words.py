"""Override words made to break: each ends in success, or in one line and status 2, and leaves nothing."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cases import Cases
from support.rows import sentences, write_jsonl

from intrinsic_cli.errors import LONGEST, IdimError
from intrinsic_cli.planning import compose, options
from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.words import MOST_RUNS, expand, parse

# A valid one of these could train for hours, or start processes: they are given impossible values only.
PLACE = {"output_dir"}  # any text is a folder that can be made; what can not is tested on its own
LONG = {"train.epochs", "train.max_steps", "train.evals", "train.batch_size"}
RUN_KEYS = [*compose.keys("run"), *options.GROUPS]
ODD_KEYS = [
    "", " d", "d ", "d[0]", "d.e", "nope", "a.b.c", "+x", "++x", "++d", "+d", "~d", "d@x", "task@_global_", "x@y:z",
    "hydra", "hydra.run.dir", "hydra/launcher", "hydra.searchpath", "defaults", "_self_", "package", "task.text.0",
    "task.text[0]", "_target_", "model._target_", "subspace.kind", "search.kind",
]  # fmt: skip
IMPOSSIBLE = [
    "-1", "-0.5", "nan", "inf", "-inf", "1e400", "-1e400", "9" * 30, "9" * 400, "[]", "{}", "[1]", "[[1]]", "{a:1}",
    "{a:{b:[1]}}", "[{a:1}]", "a", "'a'", "1,2", "${d", "${}", "${x}", "${d.x}", "${oc.env:NO_SUCH}", "${nope:1}",
    "${oc.decode:1}", "${oc.create:1}", "???", "[???]", "range(3)", "range(0)", "range(1,100000000)",
    "range(1,9,0)",
    "interval(0,1)", "choice()", "choice(1,2)", "glob(*)", "glob(*,exclude=a*)", "shuffle(1,2)", "sort(2,1)",
    "tag(a,1)", "int(x)", "float(x)", "extend_list(1)", "append(1)", "1:30", "2020-01-01", "x" * 300, "x" * 200_000,
    "[" * 3000, "[" * 500 + "]" * 500, "{a:" * 500 + "1" + "}" * 500, "int(" * 500 + "1" + ")" * 500,
]  # fmt: skip
ODD = [
    *IMPOSSIBLE, "", "''", "' '", "null", "true", "false", "0", "1", "3", "0.5", "1e-300", "5e-324", "None", "yes",
    "'", '"', "'a", "(", ")", "[", "]", "{", "}", "$", "\\", "\\\\", "\0", "a\0b", "\n", "a\nb", "\t", "\x1b[31m",
    "é",
    "'é'", "日本", "'日本'", "\ud800", "'\ud800'", "🤷", "\u202e", "'\u202e'", "..", "../..", "'../../etc'", "/",
    "/dev/null", "/dev/zero", "/proc/self/mem", "/etc/passwd", "~", "~/x", "~nobody/x", "'~nobody/x'", ".", "./x",
    "a/b", "a/b/c", "a b", "a=b", "a:b", "a;b", "`ls`", "$(ls)", "%s", "{0}", "a # b", "|", "> x", "*x", "&x", "!x",
    "- a", "--help", "-m", "[a,b]", "[a,a]", "['']", "[a,*]", "csv", "bool(1)", "str(1)", "json_str({a:1})",
]  # fmt: skip


@pytest.fixture
def cases(tmp_path, capsys):
    return Cases(tmp_path / "out", capsys)


@pytest.fixture
def easy(tmp_path, cases, monkeypatch):
    """The words of a run of one step."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    rows = write_jsonl(tmp_path / "rows.jsonl", sentences(40))
    return ["model=tiny", "task=custom", f"task.path={rows}", "d=20", "train.max_steps=1", "data.max_length=16",
            "train.precision=fp32", f"output_dir={cases.output}"]  # fmt: skip


WORDS = st.one_of(
    st.builds("{}={}".format, st.sampled_from(sorted({*RUN_KEYS} - LONG - PLACE)), st.sampled_from(ODD)),
    st.builds("{}={}".format, st.sampled_from(sorted(LONG)), st.sampled_from(IMPOSSIBLE)),
    st.builds("{}={}".format, st.sampled_from(ODD_KEYS), st.sampled_from(ODD)),
    st.builds("{}={}".format, st.sampled_from(sorted({*RUN_KEYS} - LONG - PLACE)), st.text(max_size=30)),
    st.text(max_size=40).filter(lambda word: not word.startswith("-")),
)  # fmt: skip


@pytest.mark.long
def test_any_word_ends_in_a_run_or_in_one_line(easy, cases):
    @settings(
        max_examples=600, derandomize=True, deadline=None, database=None, suppress_health_check=HealthCheck
    )
    @given(st.lists(WORDS, min_size=1, max_size=2))
    def generated(words):
        cases("run", *easy, *words)

    generated()
    assert cases.counts.total() >= 600
    assert cases.counts["refused"] > cases.counts["success"] > 0
    assert os.listdir(".") == []


@pytest.mark.long
def test_any_list_ends_in_a_plan_or_in_an_error_of_ours(easy, cases):
    values = st.lists(st.sampled_from([*IMPOSSIBLE, "0", "1", "50", "0.1", "null"]), min_size=1, max_size=2)
    keys = st.sampled_from(["d", "seed", "lr", "baseline.lr", "baseline.seed", "baseline.run", "search.seeds",
                            "search.budget", "search.rel_width", "search.lr_multiples", *RUN_KEYS])  # fmt: skip
    word = st.builds(lambda key, some, form: key + "=" + form.format(",".join(some)), keys, values,
                     st.sampled_from(["{}", "[{}]", "choice({})"]))  # fmt: skip
    plans, messages = [], []

    @settings(
        max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=HealthCheck
    )
    @given(st.sampled_from(["grid", "adaptive"]), st.lists(word, min_size=1, max_size=2))
    def generated(search, words):
        try:
            plan = sweep_plan(parse([*easy, "d=20,40", f"search={search}", *words]))
        except IdimError as error:
            messages.append(str(error))
            return
        assert plan.specs or plan.searches
        assert len(plan.specs) <= MOST_RUNS
        for spec in plan.specs[:3]:
            name = spec.run_id
            assert len(name.encode()) <= 200
            assert "/" not in name
            assert not name.startswith(".")
        plans.append(plan)

    generated()
    assert len(plans) + len(messages) >= 150
    assert plans
    assert all(message.isprintable() and len(message) <= LONGEST + 10 for message in messages)


def test_a_word_of_the_command_line_itself(easy, cases):
    for words in [
        ["run", "--cfg", "x" * 5000],
        ["frob\n"],
        ["list", "\x1b[31m"],
        ["sweep", "--nope"],
        [""],
        [],
    ]:
        cases(*words)
    assert cases.counts == {"refused": 6}


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["d=range(1,100000000)"], ["range(1,100000000)", "10000 runs", "shorter lists"]),
        (["d=range(1,9000)", "seed=1,2"], ["10000 runs"]),
        (["train.batch_size=range(1,900)", "train.accumulate=range(1,900)"], ["10000 runs"]),
        (["d=range(1,5,0)"], ["range(1,5,0)", "zero"]),
        (["d=interval(0,1)"], ["interval(0,1)", "key=a,b"]),
        (["model=glob(*)"], ["glob(*)", "key=a,b"]),
        (["d=range(0)"], ["range(0)", "empty list"]),
        (["output_dir=a,b"], ["output_dir=a,b", "one folder"]),
        (["search=adaptive", "d=10,20", "search.seeds=[0,-1]"], ["seed=-1", "at least 0"]),
        (["search=adaptive", "d=10,20", "search.budget=0"], ["search.budget=0", "at least 1"]),
        (["search=adaptive", "d=10,20", "search.lr_multiples=[1,-1]"], ["lr=-", "above 0"]),
        (["baseline.run=maybe"], ["baseline.run=maybe", "true nor false"]),
    ],
    ids=lambda value: value[0],
)
def test_a_list_that_is_no_study_says_why(cases, easy, words, parts):
    said = cases("sweep", *easy, *words)
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("d=" + "9" * 400, ["d=999", "is too large"]),
        ("train.evals=100000000", ["train.evals=100000000", "at most 10000"]),
        ("train.epochs=1e308", ["train.epochs=1e+308", "at most 1e+06"]),
        ("train.epochs=x", ["train.epochs='x'", "a number such as 0.5"]),
        ("train.patience=x", ["train.patience='x'", "or null"]),
        ("task.text={a:1}", ["task.text", "a group of keys where a value belongs"]),
        ("task.text=null", ["task.text=null", "a list such as [a,b]"]),
        ("lr=${oc.env:NO_SUCH}", ["${oc.env:NO_SUCH}", "NO_SUCH", "write the value itself"]),
        ("d=${d}", ["'d=${d}'", "itself"]),
        ("d=???", ["???", "missing"]),
        ("++d=5", ["++d=5", "key=value"]),
        ("task@x=mrpc", ["task@x=mrpc", "package"]),
        ("train=5", ["train=5", "a value where a group of keys belongs"]),
        ("train.epochs={a:1}", ["a group of keys where a value belongs"]),
        ("subspace.kind=full", ["subspace.kind=full", "choose it by subspace="]),
        ("task.path=日本.csv", ["日本.csv does not exist"]),
        ("task.name=日本", ["日本", "both quotes"]),
        ("task.name=a\0b", ["a\\x00b", "control character"]),
        ("task.path='\udcff'", ["no UTF-8"]),
        ("output_dir=[1]", ["output_dir=[1]", "output_dir=outputs"]),
        ("output_dir=", ["output_dir=", "output_dir=outputs"]),
        ("tracker=[1]", ["tracker=['1']", "tracker=none"]),
        ("task.name=' '", ["task.name is empty"]),
        ("task.label=text", ["task.label=text", "different columns"]),
        ("task.path=csv", ["task.path=csv", "a format"]),
        ("=5", ["=5 is not a key"]),
        ("x" * 200_000 + "=1", ["200002 characters", "100000"]),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_word_that_can_not_be_used_says_why(cases, easy, word, parts):
    said = cases("run", *easy, word)
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    "where", ["a" * 300, "a/" * 3000 + "b", "file", "file/x", "loop", "pipe", "/dev/null/x"]
)
def test_an_output_folder_that_can_not_be(cases, easy, tmp_path, where):
    (tmp_path / "file").write_text("")
    os.symlink("loop", tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    said = cases("run", *easy, f"output_dir='{tmp_path / where}'")
    assert "output_dir=" in said


def test_names_never_leave_the_output_folder(cases, easy, tmp_path):
    for name in ["'../../x'", "..", "/etc/x", "x" * 3000, "'a\u202eb'", "'日本'", "'.hidden'"]:
        for spec in sweep_plan(parse([*easy, f"task.name={name}"])).specs:
            path = cases.output / spec.run_id
            assert path.resolve().parent == cases.output.resolve()
            assert len(os.fsencode(path.name)) < 255


def test_a_list_keeps_its_values_whatever_they_are():
    cells = expand(parse(["task.name='a,b','c d'", "d=1,2"]))
    assert [[(each.key_or_group, each.value()) for each in cell] for cell in cells] == [
        [("task.name", "a,b"), ("d", [1, 2])], [("task.name", "c d"), ("d", [1, 2])],
    ]  # fmt: skip
