"""Messages: what they give back, and that they name all that a decoder needs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.make_golden import FOLDER

from intrinsic_cli.bounds.coder import delta, packed
from intrinsic_cli.bounds.description import MENUS, Setting, choices, decode, describe
from intrinsic_cli.bounds.quantise import quantise
from intrinsic_cli.errors import DataError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.projections import versions
from intrinsic_cli.spec import ProjectionSpec, SubspaceSpec

KNOWN = FineTune.read(FOLDER / "did-fastfood-v1.safetensors")
SETTING = Setting(
    KNOWN.model, KNOWN.weights_hash, KNOWN.max_length, KNOWN.labels, KNOWN.kind, KNOWN.task, KNOWN.metric,
    head=((2, 8), (2,)),
)  # fmt: skip
LATEST = versions("fastfood")[-1]


def some(kind="did", head="projected", d=40, seed=0, **options):
    draw = np.random.default_rng(d)
    tensors = {"theta": torch.from_numpy(draw.normal(size=d).astype(np.float32))}
    if kind == "said":
        tensors["lam"] = torch.from_numpy(draw.normal(1, 0.1, size=5).astype(np.float32))
    if head == "trained":
        tensors["head.0"] = torch.from_numpy(draw.normal(size=(2, 8)).astype(np.float32))
        tensors["head.1"] = torch.from_numpy(draw.normal(size=2).astype(np.float32))
    return replace(
        KNOWN, subspace=SubspaceSpec(kind, head=head, **options), projection=ProjectionSpec(seed=seed),
        version=LATEST, precision="bf16", head_hash=None, score=None, n_eval=None, tensors=tensors,
    )  # fmt: skip


@settings(deadline=None)
@given(
    st.sampled_from(MENUS["projection"]), st.sampled_from(["did", "said"]),
    st.sampled_from(["projected", "trained"]), st.sampled_from(MENUS["normalize"]),
    st.sampled_from(MENUS["groups"]), st.sampled_from(MENUS["precision"]),
    st.sampled_from([("*",), ("a.*", "ß")]), st.integers(0, 2**63 - 1), st.integers(1, 20), st.booleans(),
    st.data(),
)  # fmt: skip
def test_a_decoder_gets_back_everything_that_was_chosen(
    projection, kind, head, normalize, groups, precision, include, seed, levels, mirrored, data
):
    found = some(kind, head, include=include, normalize=normalize, groups=groups)
    version = data.draw(st.sampled_from(versions(projection)))
    found = replace(
        found, projection=ProjectionSpec(projection, seed=seed), precision=precision, version=version
    )
    back = decode(describe(found, levels, mirrored=mirrored).message, SETTING)
    assert back == found  # but for the tensors, which do not compare
    assert list(back.tensors) == list(found.tensors)
    for name, tensor in found.tensors.items():
        symbols, codebook = quantise(tensor.numpy().ravel(), levels, mirrored=mirrored and name == "theta")
        wanted = codebook[symbols].astype(np.float32).reshape(tensor.shape)
        assert np.array_equal(back.tensors[name].numpy(), wanted)


def test_every_bit_is_counted():
    told = describe(some(d=1000), 2, mirrored=True)
    # Six menus, the version and the seed at 0, and the flag that all tensors move: nine bits. K - 1 = 1 takes 4
    # bits, the mirror 1, its level 15; d - 1 = 999: delta(1000) has 3 + 4 + 9 bits; signs 1 + 1000.
    assert told.bits == {"choices": 9, "codebook": 20, "d": 16, "symbols": 1001}
    assert told.total == 1046
    assert len(told.message) == 131
    assert describe(some(d=1000), 2).bits["codebook"] == 4 + 1 + 32
    with_head = describe(some("said", "trained"), 4)
    assert 0 <= 8 * len(with_head.message) - with_head.total < 8


def test_a_usual_choice_is_cheap_and_an_unusual_one_is_paid_for():
    usual, seeded = (describe(some(seed=seed), 2).bits["choices"] for seed in (0, 2**40))
    assert seeded - usual > 40
    assert describe(some(exclude=("x" * 30,)), 2).bits["choices"] > usual + 30 * 8
    assert choices(some()) == "1" * 8 + "0"
    assert len(choices(replace(some(), version=1))) > 9


def test_an_unknown_choice_is_damage():
    for wrong in range(len(MENUS)):
        picked = [delta(99 if i == wrong else 0) for i in range(len(MENUS) + 2)]
        with pytest.raises(DataError, match="corrupt: choice 99"):
            decode(packed("".join(picked) + "0" * 90), SETTING)


@pytest.mark.parametrize("told", [b"[", b"[1,2]", b"[[],[],[]]", b"\xff"])
def test_tensors_that_are_no_names_are_damage(told):
    bits = "1" * 8 + "1" + delta(len(told)) + "".join(f"{byte:08b}" for byte in told)
    with pytest.raises(DataError, match="names no tensors"):
        decode(packed(bits + "0" * 90), SETTING)


def test_a_head_of_another_shape_is_damage():
    message = describe(some(head="trained"), 4).message
    with pytest.raises(DataError, match=r"16 numbers for a tensor of shape \(3, 8\)"):
        decode(message, replace(SETTING, head=((3, 8), (3,))))
    with pytest.raises(DataError):
        decode(message, replace(SETTING, head=((2, 8),)))
