"""The words of adapters: which runs they make, what these are called, and which rates they get."""

import pytest

from intrinsic_cli.planning.compose import compose_config
from intrinsic_cli.planning.plan import sweep_plan
from intrinsic_cli.planning.specs import one_run, words_of
from intrinsic_cli.planning.words import parse
from intrinsic_cli.spec import AdapterSpec, RunSpec


def run_spec(*words):
    cfg = compose_config("run", parse(["model=tiny", *words]))
    return one_run(cfg, cfg.d, cfg.seed, cfg.lr)


def specs(*words):
    return sweep_plan(parse(["model=tiny", *words])).specs


def test_a_run_without_adapter_is_called_as_ever():
    plain, told = (
        run_spec("d=100", "train.clip=trained"),
        run_spec("d=100", "train.clip=trained", "adapter=none"),
    )
    assert plain == told
    assert "adapter" not in plain.identity()
    tree = plain.to_dict()
    del tree["adapter"]  # as earlier versions wrote it
    assert RunSpec.from_dict(tree).run_id == plain.run_id
    assert plain.legacy_ids


def test_sizes_of_an_adapter_make_one_study_with_one_baseline():
    full, *others = specs("adapter=lora", "subspace=full", "adapter.r=1,2,4,8", "d=300")
    assert full.is_full
    assert (full.d, full.lr) == (None, 1e-4)
    assert [(s.adapter.kind, s.adapter.r, s.adapter.alpha, s.d) for s in others] == [
        ("lora", r, 8.0, None) for r in (1, 2, 4, 8)
    ]
    assert not any(s.is_full for s in others)
    assert len({s.run_id for s in others}) == 4
    assert {s.study for s in others} == {full.study}
    assert all(f"-full-lora{s.adapter.r}-lr0.001-" in s.run_id for s in others)
    assert not any(s.legacy_ids for s in others)


def test_adapter_and_subspace_are_two_axes():
    found = specs("adapter=none,lora", "subspace=did,full", "d=100,200", "seed=0,1")
    named = [(s.subspace.kind, s.adapter.kind, s.d, s.seed) for s in found]
    assert sorted(named, key=str) == sorted(
        [(kind, "none", None, seed) for kind in ("full",) for seed in (0, 1)]
        + [("full", "lora", None, seed) for seed in (0, 1)]
        + [("did", adapter, d, seed) for adapter in ("none", "lora") for d in (100, 200) for seed in (0, 1)],
        key=str,
    )


def test_rates_are_the_adapters_own_unless_they_are_given():
    assert run_spec("adapter=lora", "subspace=full").lr == 1e-3
    assert run_spec("adapter=lora", "subspace=full", "adapter.default_lr=0.02").lr == 0.02
    assert run_spec("adapter=lora", "d=100", "adapter.lr_sqrt_d.global=7").lr == 0.7
    assert run_spec("adapter=lora", "d=100", "adapter.lr_sqrt_d.global=7", "lr=0.3").lr == 0.3
    assert (
        run_spec("adapter=lora", "d=100", "subspace.lr_step.global=7").lr
        == run_spec("adapter=lora", "d=100").lr
    )


def test_a_rate_that_is_an_estimate_is_announced():
    def notes(*words):
        return " ".join(sweep_plan(parse(["model=tiny", *words])).notes)

    assert "θ over adapter=ia3, vera is an estimate" in notes("adapter=none,lora,ia3,vera", "d=50")
    assert "θ over adapter=lora is an estimate" in notes("adapter=lora", "d=50", "subspace.normalize=tensor")
    calibrated = ["adapter=lora", "d=50"], ["d=50", "subspace.normalize=tensor"]
    for words in (["adapter=ia3", "d=50", "lr=0.1"], ["adapter=ia3", "subspace=full"], *calibrated):
        assert "estimate" not in notes(*words)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["adapter=lora", "adapter.target=query,value"], AdapterSpec("lora", 8, 8.0, ("query", "value"))),
        (["adapter=lora", "adapter.args={use_dora: true, rank_pattern: {query: 4}}"],
         AdapterSpec("lora", 8, 8.0, args={"use_dora": True, "rank_pattern": {"query": 4}})),
        (["adapter=ia3", "adapter.args={feedforward_modules: [dense]}"],
         AdapterSpec("ia3", args={"feedforward_modules": ["dense"]})),
    ],
)  # fmt: skip
def test_a_run_with_an_adapter_can_be_typed_and_written_down(words, wanted):
    spec = run_spec(*words, "d=100")
    assert spec.adapter == wanted
    assert RunSpec.from_dict(spec.to_dict()) == spec
    assert run_spec(*words_of(spec)) == spec
    assert spec.run_id != run_spec(words[0], "d=100").run_id


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("adapter=lore", "adapter=lore is not known; use one of bitfit,"),
        ("adapter=lora adapter.r=0", "adapter.r=0 must be at least 1"),
        ("adapter.r=4", "adapter.r has no meaning with adapter=none"),
        ("adapter.kind=lora", "choose it by adapter="),
        ("adapter=lora adapter.r=big", "adapter.r='big' is not an integer"),
        ("adapter=lora adapter.args=3", "adapter.args"),
        ("adapter=lora adapter.args={x:nan}", "adapter.args"),
        ("adapter=lora adapter.target=[]", "adapter.target=[] leaves nothing to adapt"),
        ("adapter=lora adapter.default_lr=x subspace=full", "adapter.default_lr='x' is not a finite number"),
        ("adapter=lora adapter.lr_sqrt_d=3", "adapter.lr_sqrt_d"),
    ],
)
def test_bad_words_of_adapters_are_answered_in_one_line(words, said, idim, tmp_path):
    status, printed, answer = idim(
        "run", "model=tiny", "d=100", f"output_dir={tmp_path / 'o'}", *words.split()
    )
    assert (status, printed) == (2, "")
    assert said in answer
    assert answer.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_words_of_classes_can_be_typed_again(task_folder):
    spec = run_spec(
        "task=sst2",
        f"task.path={task_folder}",
        "task.config=null",
        "task.kind=choice",
        "task.words={0: bad, 1: good}",
        "d=10",
    )
    assert spec.task.words == (("0", "bad"), ("1", "good"))
