"""A run from words to θ by each kernel: one name, one score, and the same θ to the last bits of its sums."""

import pytest
from safetensors.torch import load_file

from intrinsic_cli.projections import KINDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subspace", ["did", "said"])
def test_a_run_is_the_same_by_every_kernel(idim, task_folder, tmp_path, kind, subspace):
    runs = []
    for kernel in ("numba", "torch"):
        status, _, said = idim(
            "run", "model=tiny", "task=custom", f"task.path={task_folder}", "task.text=[text]", "d=60", "lr=0.1",
            f"subspace={subspace}", f"projection={kind}", f"projection.kernel={kernel}", "train.max_steps=6",
            "train.precision=fp32", "data.max_length=32", f"output_dir={tmp_path / kernel}",
        )  # fmt: skip
        assert status == 0, said
        (theta,) = (tmp_path / kernel).rglob("theta.safetensors")
        runs.append((theta.parent.name, load_file(theta)))
    (name, numba), (other, torch) = runs
    assert name == other
    assert numba["theta"].abs().max() > 0.1
    for part, values in numba.items():
        assert values.shape == torch[part].shape
        assert (values - torch[part]).abs().max() < 1e-3
