"""A run that was stopped anywhere ends as one that never was: the same θ, scores and history, bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from safetensors.torch import save as save_file

from intrinsic_cli.errors import Stopped
from intrinsic_cli.rundir import SNAPSHOT, THETA, RunDir
from intrinsic_cli.spec import AdapterSpec
from intrinsic_cli.store import Store
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.run import execute
from intrinsic_cli.training.snapshot import Snapshot
from intrinsic_cli.training.stop import Stop

# 6 steps an epoch: 20 steps end in the middle of the fourth.
OPTIONS = {
    "did": {"max_steps": 20, "evals": 3},
    "said": {"max_steps": 20, "accumulate": 2, "batch_size": 8, "head": "trained"},
    "pure": {"max_steps": 20, "precision": "pure_bf16"},
    "full": {"kind": "full", "lr": 1e-3, "max_steps": 20, "keep_weights": True},
    "lora": {"kind": "full", "lr": 1e-2, "max_steps": 20, "adapter": AdapterSpec("lora", 2)},
    "vera": {"kind": "full", "lr": 1e-2, "max_steps": 20, "adapter": AdapterSpec("vera", 8)},
    "did lora": {"max_steps": 20, "evals": 3, "adapter": AdapterSpec("lora", 2, args={"lora_dropout": 0.1})},
    "patience": {"lr": 1e-9, "max_steps": 40, "evals": 8, "patience": 3},
}


class After(Stop):
    """Asks to leave after so many steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    @property
    def requested(self):
        self.left -= 1
        return self.left < 0


@pytest.fixture(scope="module")
def loader():
    return Loader()


def spec_of(name, make_spec):
    options = {"kind": "said" if name == "said" else "did", "lr": 0.3} | OPTIONS[name]
    return make_spec(options.pop("kind"), **options)


def outcome(store, spec):
    run = store.run(spec)
    result = run.result()
    answers = {name: column.tolist() for name, column in run.outcomes()["validation"].items()}
    return load_file(run.path / THETA), result.metrics, result.steps, run.history(), answers


def same(one, other):
    tensors, others = one[0], other[0]
    return (
        tensors.keys() == others.keys()
        and all(torch.equal(tensors[k], others[k]) for k in tensors)
        and one[1:] == other[1:]
    )


@pytest.mark.long
@pytest.mark.parametrize("name", OPTIONS)
def test_stopped_at_any_step_and_taken_up_again(name, make_spec, loader, tmp_path):
    spec = spec_of(name, make_spec)
    whole = Store(tmp_path / "whole")
    execute(spec, whole, loader)
    expected = outcome(whole, spec)
    for steps in (0, 5, 6, 13):  # in an epoch's middle, before its end, at its start, after an evaluation
        store = Store(tmp_path / str(steps))
        with pytest.raises(Stopped, match="the same command goes on from there"):
            execute(spec, store, loader, stop=After(steps))
        run = store.run(spec)
        assert run.state == "pending"
        torch.manual_seed(1)
        execute(spec, store, loader)
        assert same(outcome(store, spec), expected)
        assert run.result().resumed == (steps + 1,)
        assert not (run.path / SNAPSHOT).exists()


@pytest.mark.long
def test_stopped_again_and_again(make_spec, loader, tmp_path):
    spec = spec_of("did", make_spec)
    whole, store = Store(tmp_path / "whole"), Store(tmp_path / "parts")
    execute(spec, whole, loader)
    for _ in range(9):
        with pytest.raises(Stopped):
            execute(spec, store, loader, stop=After(1))
    execute(spec, store, loader)
    assert same(outcome(store, spec), outcome(whole, spec))
    assert store.run(spec).result().resumed == tuple(range(2, 20, 2))


@pytest.mark.long
def test_what_was_logged_behind_a_snapshot_is_forgotten(make_spec, loader, tmp_path):
    spec = spec_of("did", make_spec)
    whole, store = Store(tmp_path / "whole"), Store(tmp_path / "torn")
    execute(spec, whole, loader)
    with pytest.raises(Stopped):
        execute(spec, store, loader, stop=After(11))
    with (store.run(spec).path / "history.jsonl").open("a") as file:
        file.write('{"step": 13, "loss": 0.5}\n{"step": 14, "lo')  # as a killed process leaves it
    execute(spec, store, loader)
    assert same(outcome(store, spec), outcome(whole, spec))


@pytest.mark.long
@pytest.mark.parametrize("content", [None, "", '{"step": 1'])
@pytest.mark.parametrize("steps", [7, 13])
def test_a_history_that_lost_lines_takes_the_snapshot_along(content, steps, make_spec, loader, tmp_path):
    """A power cut keeps the snapshot, which was flushed, and may lose the history's end."""
    spec = spec_of("did", make_spec)
    store = Store(tmp_path)
    with pytest.raises(Stopped):
        execute(spec, store, loader, stop=After(steps))
    history = store.run(spec).path / "history.jsonl"
    history.unlink()
    if content is not None:
        history.write_text(content)
    execute(spec, store, loader)
    assert store.run(spec).result().resumed == ()
    assert [record["step"] for record in store.run(spec).history()] == [7, 10, 14, 20, 20]


def test_what_was_logged_before_the_first_snapshot_has_any_history_is_forgotten_too(
    make_spec, loader, tmp_path
):
    spec = make_spec("did", lr=0.3, max_steps=30)
    store = Store(tmp_path)
    with pytest.raises(Stopped):
        execute(spec, store, loader, stop=After(3))  # before the first line of the history
    with (store.run(spec).path / "history.jsonl").open("a") as file:
        file.write('{"step": 10, "loss": 0.5}\n{"step": 20, "lo')
    execute(spec, store, loader)
    assert [record["step"] for record in store.run(spec).history()] == [10, 20, 30, 30]


def test_what_an_interrupted_run_has_left_says_where_it_goes_on(make_spec, loader, tmp_path):
    """The history ends at a look at the loss, the snapshot where the run stopped."""
    spec = make_spec("did", lr=0.3, max_steps=30)
    run = Store(tmp_path).run(spec)
    with pytest.raises(Stopped):
        execute(spec, Store(tmp_path), loader, stop=After(13))
    assert (run.progress(), run.resumes_at()) == ((10, 30), (14, 30))
    execute(spec, Store(tmp_path), loader)
    assert (run.progress(), run.resumes_at()) == ((30, 30), None)
    assert run.result().resumed == (14,)


@pytest.mark.long
@given(cut=st.integers(0, 99), flip=st.booleans())
@settings(max_examples=10, derandomize=True)
def test_a_damaged_snapshot_is_no_snapshot(cut, flip, make_spec, loader, tmp_path_factory):
    spec = spec_of("did", make_spec)
    store = Store(tmp_path_factory.mktemp("damaged"))
    with pytest.raises(Stopped):
        execute(spec, store, loader, stop=After(7))
    path = store.run(spec).path / SNAPSHOT
    content = bytearray(path.read_bytes())
    at = cut * len(content) // 100
    if flip:
        content[at] ^= 0xFF
    path.write_bytes(content if flip else content[:at])
    assert RunDir(path.parent).snapshot() is None
    execute(spec, store, loader)
    assert store.run(spec).result().resumed == ()


@pytest.mark.parametrize(("key", "ours", "other"), [("precision", "fp32", "bf16"), ("draw", 3, 2)])
def test_a_snapshot_of_another_resume_key_is_passed_over(
    key, ours, other, make_spec, loader, tmp_path, caplog
):
    spec = spec_of("did", make_spec)
    store = Store(tmp_path)
    with pytest.raises(Stopped):
        execute(spec, store, loader, stop=After(7))
    run = store.run(spec)
    saved = Snapshot.from_bytes(run.snapshot())
    assert saved.state["resume_key"][key] == ours
    saved.state["resume_key"][key] = other
    run.save(saved.to_bytes())
    execute(spec, store, loader)
    assert run.result().resumed == ()
    assert [record["step"] for record in run.history()] == [7, 10, 14, 20, 20]
    told = f"the snapshot is of {key} {other!s:.20}, not {ours!s:.20}; the run begins anew"
    assert told in caplog.text


def without(saved, key):
    return Snapshot(saved.tensors, {k: v for k, v in saved.state.items() if k != key})


WRONG = {  # whole by their hash, and yet nothing that this run has saved
    "no tensors": lambda saved: b"theta",
    "no state": lambda saved: save_file({"theta": torch.zeros(3)}),
    "no history": lambda saved: without(saved, "history").to_bytes(),
    "no position": lambda saved: without(saved, "position").to_bytes(),
    "no optimizer": lambda saved: Snapshot(
        {k: t for k, t in saved.tensors.items() if not k.startswith("trained")}, saved.state
    ).to_bytes(),
    "another d": lambda saved: Snapshot(
        saved.tensors | {"trained.0": torch.zeros(7)}, saved.state
    ).to_bytes(),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", WRONG)
def test_a_snapshot_that_can_not_be_used_is_passed_over_with_a_word(
    kind, make_spec, loader, tmp_path, caplog
):
    spec = spec_of("did", make_spec)
    store = Store(tmp_path / "a")
    with pytest.raises(Stopped):
        execute(spec, store, loader, stop=After(7))
    run = store.run(spec)
    run.save(WRONG[kind](Snapshot.from_bytes(run.snapshot())))
    execute(spec, store, loader)
    assert "the run begins anew" in caplog.text
    execute(spec, Store(tmp_path / "b"), loader)
    assert same(outcome(store, spec), outcome(Store(tmp_path / "b"), spec))
    assert run.result().resumed == ()


def test_a_snapshot_of_a_subspace_is_a_few_numbers(make_spec, loader, tmp_path):
    """θ and Adam's two moments of it, beside the random state (5 KB): nothing of the model's D weights."""
    spec = make_spec("did", d=1000, max_steps=20)
    with pytest.raises(Stopped):
        execute(spec, Store(tmp_path), loader, stop=After(7))
    size = (Store(tmp_path).run(spec).path / SNAPSHOT).stat().st_size
    assert 3 * 4 * 1000 < size < 3 * 4 * 1000 + 10_000
