"""Sizes of models that a plan knows."""

import json

import numpy as np
import yaml
from safetensors.numpy import save_file

from intrinsic_cli.planning import options
from intrinsic_cli.planning.sizes import MILLIONS, UNKNOWN, parameters
from intrinsic_cli.spec import ModelSpec


def test_every_model_that_has_a_config_is_known():
    names = {yaml.safe_load(p.read_text())["name"] for p in (options.config_dir() / "model").glob("*.yaml")}
    assert names == MILLIONS.keys()


def test_sizes_that_a_name_tells_are_those():
    """A slip by a factor of ten in the table would show in names that say their size."""
    for name, millions in MILLIONS.items():
        said = name.rpartition("-")[2].lower().removesuffix("-base")
        if said.endswith(("m", "b")) and said[:-1].replace(".", "").isdigit():
            assert 0.7 < millions / (float(said[:-1]) * (1000 if said.endswith("b") else 1)) < 1.4, name


def test_of_a_folder_its_files_are_counted(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    for part, shape in (("1-of-2", (30, 40)), ("2-of-2", (7,))):
        save_file({"weight": np.zeros(shape, np.float16)}, folder / f"model-0000{part}.safetensors")
    assert parameters(ModelSpec(str(folder), fingerprint="a")) == 30 * 40 + 7
    (folder / "model-00003-of-2.safetensors").write_bytes(b"torn")
    assert parameters(ModelSpec(str(folder), fingerprint="b")) == UNKNOWN * 1e6
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text(json.dumps({}))
    assert parameters(ModelSpec(str(bare), fingerprint="c")) == UNKNOWN * 1e6


def test_of_a_hub_model_that_is_not_known_a_usual_size_is_taken():
    assert parameters(ModelSpec("somebody/something")) == UNKNOWN * 1e6
