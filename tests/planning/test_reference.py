"""The reference of keys is whole, and the page in docs is what it says."""

from pathlib import Path

import pytest

from intrinsic_cli.cli import main as cli
from intrinsic_cli.errors import ConfigError
from intrinsic_cli.planning import compose, options
from intrinsic_cli.planning.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"


def test_every_key_has_a_meaning_and_a_default():
    names = {key.name for key in reference()}
    known = compose.keys("sweep")
    leaves = {key for key in known if not any(other.startswith(f"{key}.") for other in known)}
    parts = {"subspace.lr_step.global", "subspace.lr_step.tensor"}
    assert leaves - {key for key in leaves if key.endswith(".kind")} - parts <= names
    assert {*options.GROUPS} <= names
    assert [key.name for key in reference() if not key.meaning or not key.default] == []


def test_a_pattern_chooses_keys():
    assert {key.name for key in reference("train.e")} == {
        "train.epochs",
        "train.eval_batch_size",
        "train.evals",
    }
    assert {key.name for key in reference("*.seed")} == {"data.seed", "projection.seed", "baseline.seed"}
    assert {key.option for key in reference("launcher.retries")} == {
        "launcher=local", "launcher=slurm", "launcher=ray"
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"train\.epoks is no key; did you mean train\.epochs"):
        reference("train.epoks")


def test_the_page_of_keys_is_current(capsys):
    assert cli.main(["keys", "--format", "md"]) == 0
    assert capsys.readouterr().out.strip() in PAGE.read_text(encoding="utf-8")
