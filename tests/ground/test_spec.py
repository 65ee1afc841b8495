"""Records of runs: their checks, and the identity that says which runs are the same."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.spec import (
    AdapterSpec,
    DataSpec,
    ModelSpec,
    ProjectionSpec,
    RunSpec,
    SubspaceSpec,
    TaskSpec,
    TrainSpec,
    stream_seed,
)

TASK = TaskSpec("t", "owner/rows", None, ("text",), "label", "train", "test", ("accuracy",))


def spec(kind="did", d=100, **options):
    return RunSpec(ModelSpec("owner/net"), TASK, SubspaceSpec(kind), lr=0.1, d=d, **options)


@given(st.integers(0, 10**6), st.text(max_size=20))
def test_streams_are_63_bit_and_apart(seed, name):
    value = stream_seed(seed, name)
    assert 0 <= value < 2**63
    assert value != stream_seed(seed + 1, name)
    assert value != stream_seed(seed, name + "'")


def test_streams_are_the_same_in_a_process_with_other_string_hashes():
    code = "from intrinsic_cli.spec import stream_seed; print(stream_seed(3, 'P/w'))"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": h},
            capture_output=True,
            check=True,
        ).stdout
        for h in ("1", "2")
    }
    assert answers == {f"{stream_seed(3, 'P/w')}\n".encode()}


def test_plain_dicts_there_and_back():
    one = spec("said", train=TrainSpec(max_steps=5), data=DataSpec(max_train=9))
    one = replace(one, subspace=replace(one.subspace, include=("a.*", "b")))
    assert RunSpec.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [(("trainn",), 1, "run has unknown keys .'trainn'.; known are .*'train'"),
     (("train", "epoch"), 1, "train has unknown keys .'epoch'.; known are .*'epochs'")],
)  # fmt: skip
def test_from_dict_names_what_it_does_not_know(path, value, message):
    tree = spec().to_dict()
    part = tree
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(ConfigError, match=message):
        RunSpec.from_dict(tree)


def test_from_dict_names_what_is_missing():
    tree = spec().to_dict()
    del tree["model"]["name"]
    with pytest.raises(ConfigError, match=r"model: .*'name'"):
        RunSpec.from_dict(tree)


SCIENCE = {
    "d": lambda s: replace(s, d=101),
    "lr": lambda s: replace(s, lr=0.2),
    "seed": lambda s: replace(s, seed=1),
    "revision": lambda s: replace(s, model=replace(s.model, revision="x")),
    "layers": lambda s: replace(s, model=replace(s.model, num_hidden_layers=2)),
    "normalize": lambda s: replace(s, subspace=replace(s.subspace, normalize="tensor")),
    "projection": lambda s: replace(s, projection=replace(s.projection, kind="sorf")),
    "epochs": lambda s: replace(s, train=replace(s.train, epochs=4)),
    "batch": lambda s: replace(s, train=replace(s.train, batch_size=8)),
    "rows": lambda s: replace(s, data=replace(s.data, max_train=10)),
    "label": lambda s: replace(s, task=replace(s.task, label="y")),
}
LOGISTICS = {
    "cache": lambda s: replace(s, projection=replace(s.projection, cache="regenerate")),
    "kernel": lambda s: replace(s, projection=replace(s.projection, kernel="torch")),
    "eval_batch_size": lambda s: replace(s, train=replace(s.train, eval_batch_size=1)),
    "keep_weights": lambda s: replace(s, train=replace(s.train, keep_weights=True)),
}


@pytest.mark.parametrize("change", SCIENCE)
def test_what_changes_the_score_changes_the_run(change):
    assert SCIENCE[change](spec()).run_id != spec().run_id


@pytest.mark.parametrize("change", LOGISTICS)
def test_what_can_not_change_the_score_does_not_change_the_run(change):
    assert LOGISTICS[change](spec()).run_id == spec().run_id


def test_a_moved_folder_is_the_same_run_and_a_changed_one_is_not():
    def at(path, fingerprint):
        return replace(spec(), task=replace(TASK, path=path, fingerprint=fingerprint)).run_id

    assert at("/a/rows", "f1") == at("/b/rows", "f1")
    assert at("/a/rows", "f1") != at("/a/rows", "f2")


@pytest.mark.parametrize("change", ["d", "lr", "seed", "normalize", "projection"])
def test_a_curve_and_its_baseline_are_one_study(change):
    assert SCIENCE[change](spec()).study == spec().study == spec("full", None).study


@pytest.mark.parametrize("change", ["layers", "rows", "epochs"])
def test_other_data_or_models_are_another_study(change):
    assert SCIENCE[change](spec()).study != spec().study


def test_the_seed_of_p_names_another_run_only_where_it_is_set():
    old = spec().to_dict()
    del old["projection"]["seed"]  # a run of the time before
    assert RunSpec.from_dict(old).run_id == spec().run_id
    assert "projection" not in spec().identity()
    assert spec(projection=ProjectionSpec(seed=0)).run_id != spec().run_id


def test_a_value_that_is_its_keys_default_names_nothing():
    assert spec("said").identity() == {
        "model": {"name": "owner/net"},
        "task": {
            "name": "t", "path": "owner/rows", "config": None, "text": ("text",), "label": "label",
            "train": "train", "validation": "test", "metrics": ("accuracy",),
        },
        "subspace": {"kind": "said"}, "lr": 0.1, "d": 100,
    }  # fmt: skip
    assert spec(train=TrainSpec(warmup=0.06, epochs=3)).run_id == spec().run_id  # 3 is 3.0
    assert spec(train=TrainSpec(warmup=0)).run_id != spec().run_id


@dataclass(frozen=True)
class Grown(RunSpec):
    """A spec of a later version, with a key that today's does not have."""

    width: int = 7


def test_a_new_key_names_no_run_anew():
    known = {f.name: getattr(spec(), f.name) for f in fields(RunSpec)}
    grown = Grown(**known)
    assert (grown.run_id, grown.study, grown.legacy_ids) == (spec().run_id, spec().study, spec().legacy_ids)
    other = Grown(**known, width=8)
    assert other.run_id != spec().run_id
    assert other.study != spec().study
    assert other.legacy_ids == ()  # no earlier version can have trained it


ROWS = TaskSpec("t", "rows", None, ("text",), "label", "train", "validation", ("accuracy",))
EARLIER = {  # directory names that were on disk before defaults were left out of them
    "tiny-t-did-d100-lr0.1-s0-f2b700bd85": RunSpec(ModelSpec("tiny"), ROWS, SubspaceSpec("did"), 0.1, 100),
    "net_2l-two-said-d500-lr0.01-s3-1bac9666ae": RunSpec(
        ModelSpec("owner/net", revision="main", num_hidden_layers=2),
        replace(ROWS, name="two", text=("a", "b"), labels=("x", "y"), fingerprint="f" * 64),
        SubspaceSpec(
            "said", normalize="tensor", groups="module", exclude=("*.bias",), head="trained"
        ),
        0.01, 500, 3, ProjectionSpec("sorf", cache="store", seed=5),
        TrainSpec(epochs=2, batch_size=16, evals=4, patience=2, keep_weights=True),
        DataSpec(max_train=400, holdout=50),
    ),
    "minilm-t-full-lr0.0001-s0-527d9c13d5": RunSpec(
        ModelSpec("minilm"), ROWS, SubspaceSpec("full"), 1e-4, tracker="wandb"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EARLIER)
def test_names_that_earlier_versions_gave_are_known(name):
    assert EARLIER[name].legacy_ids == (name,)
    assert EARLIER[name].run_id != name


NAMED = {  # directory names on disk, of runs that the names of EARLIER can't have
    "tiny-t-did-lora4-d100-lr0.1-s0-630c1f74cc": RunSpec(
        ModelSpec("tiny"), ROWS, SubspaceSpec("did"), 0.1, 100, adapter=AdapterSpec("lora", r=4)
    ),
    "tiny-t-full-vera-lr0.001-s0-6f04aae71f": RunSpec(
        ModelSpec("tiny"), ROWS, SubspaceSpec("full"), 1e-3, adapter=AdapterSpec("vera", args={"d_initial": 0.2})
    ),
    "tiny-t-said-d100-lr0.1-s0-62a9875ae9": RunSpec(
        ModelSpec("tiny"), replace(ROWS, kind="regression", metrics=("pearson",)), SubspaceSpec("said"), 0.1, 100,
        train=TrainSpec(clip="weights", score_train=True),
    ),
    "lm-t-none-d0-lr0-s0-033bcd9c52": RunSpec(
        ModelSpec("owner/lm", quantize="4bit"),
        replace(
            ROWS, kind="choice", prompt="{text} It was", words=(("0", "bad"), ("1", "good")), per_token=True
        ),
        SubspaceSpec("none"), 0, 0,
    ),
    "tiny-t-did-d100-lr0.1-s0-aad3b9896e": RunSpec(
        ModelSpec("tiny"), replace(ROWS, kind="generation", answer="a", max_new_tokens=5), SubspaceSpec("did"),
        0.1, 100, projection=ProjectionSpec(seed=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_run_keeps_its_name(name):
    assert NAMED[name].run_id == name


def test_the_run_id_is_a_readable_directory_name():
    one = replace(spec(), model=ModelSpec("owner/net v2", num_hidden_layers=3))
    assert re.fullmatch(r"net_v2_3l-t-did-d100-lr0.1-s0-[0-9a-f]{10}", one.run_id)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spec(d=0), "d=0 must be at least 1"),
        (lambda: spec("none", d=5), "subspace=none trains nothing"),
        (lambda: spec("none", d=0), "subspace=none trains nothing"),
        (lambda: spec(d=None), "subspace=did needs d"),
        (lambda: spec("full", 5), "d=5 has no meaning with subspace=full"),
        (lambda: replace(spec(), lr=0.0), "lr=0.0 must be above 0"),
        (lambda: replace(spec(), lr=float("nan")), "lr=nan must be"),
        (lambda: replace(spec(), lr=float("inf")), "lr=inf must be"),
        (lambda: replace(spec(), seed=-1), "seed=-1 must be at least 0"),
        (lambda: SubspaceSpec("dod"), "subspace='dod' is not known; use one of full, did, said"),
        (lambda: SubspaceSpec("said", groups="row"), "groups='row'.* layer, module, tensor"),
        (lambda: TrainSpec(warmup=1.0), r"warmup=1.0 .* use 0 to below 1"),
        (lambda: TrainSpec(precision="fp16"), "precision='fp16' .* fp32, bf16"),
        (lambda: TrainSpec(evals=2, patience=2), "patience=2 can never .* use train.evals=3"),
        (lambda: DataSpec(max_eval=0), "data.max_eval=0 must be at least 1"),
        (lambda: replace(TASK, text=("a", "b", "c")), "one or two text columns"),
        (lambda: replace(TASK, metrics=()), "task.metrics is empty"),
        (lambda: ModelSpec(""), "model.name is empty"),
    ],
)
def test_values_that_can_not_be_used(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
