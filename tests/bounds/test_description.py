"""Messages: what they give back, and that they name all that a decoder needs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.make_golden import FOLDER

from intrinsic_cli.bounds import coder
from intrinsic_cli.bounds.description import MENUS, choices, decode, describe
from intrinsic_cli.bounds.quantise import quantise
from intrinsic_cli.errors import DataError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.spec import ProjectionSpec, SubspaceSpec

KNOWN = FineTune.read(FOLDER / "did-fastfood-v1.safetensors")


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
        tensors=tensors,
    )  # fmt: skip


def forgetful(found):
    """The same where everything that a message must name is something else."""
    zeros = {name: torch.zeros_like(t) for name, t in found.tensors.items()}
    return replace(
        found, projection=ProjectionSpec("sparse", seed=99), version=7, precision="pure_bf16",
        subspace=replace(found.subspace, normalize="tensor", groups="module"), tensors=zeros,
    )  # fmt: skip


@given(
    st.integers(0, len(MENUS[0]) - 1), st.sampled_from(["did", "said"]), st.sampled_from(["projected", "trained"]),
    st.sampled_from([("*",), ("a.*", "ß")]), st.integers(0, 2**63 - 1),
    st.integers(1, 20),
)  # fmt: skip
def test_a_decoder_gets_back_everything_that_was_chosen(kind, subspace, head, include, seed, levels):
    found = some(subspace, head, include=include)
    found = replace(found, projection=ProjectionSpec(MENUS[0][kind], seed=seed), precision="bf16")
    told = describe(found, levels)
    back = decode(told.messages, forgetful(found))
    assert (back.subspace, back.projection) == (found.subspace, found.projection)
    assert (back.version, back.precision) == (1, "bf16")
    assert list(back.tensors) == list(found.tensors)
    for name, tensor in found.tensors.items():
        symbols, codebook = quantise(tensor.numpy().ravel(), levels)
        wanted = codebook[symbols].astype(np.float32).reshape(tensor.shape)
        assert np.array_equal(back.tensors[name].numpy(), wanted)


def test_every_bit_is_counted():
    found = some(d=1000)
    told = describe(found, 2)
    # 2 for the form; 8 choices of 0 and their number, 8: delta(9) has 3 + 2 + 3 bits; K - 1 = 1 takes 4 bits, two
    # levels 32; d - 1 = 999: delta(1000) has 3 + 4 + 9 bits.
    assert {k: told.bits[k] for k in ("form", "choices", "codebook", "d")} == {
        "form": 2, "choices": 8 + 8, "codebook": 4 + 32, "d": 16,
    }  # fmt: skip
    assert len(told.messages) == 1
    assert 0 <= 8 * len(told.messages[0]) - told.total < 8
    # About one bit for each of 1000 symbols of two nearly equal halves.
    assert 990 <= told.bits["symbols"] <= 1080
    assert len(describe(some("said", "trained"), 4).messages) == 4


def test_a_usual_choice_is_cheap_and_an_unusual_one_is_paid_for():
    usual, seeded = (describe(some(seed=seed), 2).bits["choices"] for seed in (0, 2**40))
    assert seeded - usual > 40
    assert describe(some(exclude=("x" * 30,)), 2).bits["choices"] > usual + 30 * 8
    assert choices(some()) == (0,) * 8


def test_an_unknown_choice_is_damage():
    found = some()
    symbols, codebook = quantise(found.tensors["theta"].numpy(), 2)
    for named in ((0,) * 7, (9,) + (0,) * 7):
        with pytest.raises(DataError, match="corrupt"):
            decode([coder.encode(symbols, codebook, named)], found)
