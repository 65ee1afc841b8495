"""One run on two gloo processes: the same θ as on one, with d numbers a step on the wire."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from support.processes import PATIENCE

from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tiny model without dropout, whose masks depend on who draws them."""
    folder = tmp_path_factory.mktemp("model")
    loaded = pretrained.load(ModelSpec("tiny"), 2)
    loaded.model.config.hidden_dropout_prob = loaded.model.config.attention_probs_dropout_prob = 0.0
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


def together(count, words):
    """Run `idim` in `count` processes, as torchrun starts them; returns the exit statuses and what was said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "intrinsic_cli", *words],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    said = [process.communicate(timeout=PATIENCE) for process in processes]
    return [process.returncode for process in processes], said


# A batch of 17 does not split evenly; one of 1 leaves the second process nothing. Of the weights' gradient two
# processes only know the length nearly, so that they part a little where steps are clipped.
CASES = [(17, "trained", 1e-5), (1, "trained", 1e-5), (17, "weights", 0.1)]


@pytest.mark.parametrize(("batch", "clip", "near"), CASES)
def test_two_processes_train_the_run_of_one(batch, clip, near, model, task_folder, tmp_path):
    words = ["run", f"model.name={model}", "task=custom", f"task.path={task_folder}", "subspace=said",
             "subspace.head=trained", "d=200", "lr=0.1", f"train.batch_size={batch}", "train.max_steps=13",
             f"train.clip={clip}", "train.precision=fp32", "train.evals=2", "data.max_length=32",
             "data.holdout=10"]  # fmt: skip
    runs = []
    for count in (1, 2):
        out = tmp_path / str(count)
        statuses, said = together(count, [*words, f"output_dir={out}"])
        assert statuses == [0] * count, said
        [path] = out.glob("*/result.json")
        runs.append((load_file(path.parent / "theta.safetensors"), json.loads(path.read_text())))
        assert [bool(printed) for printed, _ in said] == [
            True,
            *[False] * (count - 1),
        ]  # the first one speaks
    (one, alone), (two, shared) = runs
    assert alone["run_id"] == shared["run_id"]
    assert (alone["processes"], shared["processes"]) == (1, 2)
    assert one["theta"].abs().max() > 0.1
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=near)
    assert clip == "weights" or shared["metrics"] == alone["metrics"]
    assert shared["holdout_metrics"] == alone["holdout_metrics"]
    assert alone["sent_bytes_per_step"] == 0
    assert shared["sent_bytes_per_step"] == 4 * 200  # d float32 numbers, of the model's 34,850
