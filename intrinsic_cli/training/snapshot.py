"""Where a run stands between two steps: all that the rest of it depends on, as a file.

That is what is trained (d numbers), the optimizer's two more of each, and where the loop and its random
stream are. So a run that is taken up again ends with the same θ as one that was never stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from intrinsic_cli import __version__
from intrinsic_cli.errors import DamagedError
from intrinsic_cli.files import parse_json
from intrinsic_cli.projections import versions
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.training import ranks
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.inputs import Inputs


def resume_key(spec: RunSpec, inputs: Inputs) -> dict[str, Any]:
    """What must be the same where a run stopped and where it goes on, or its numbers would be of two kinds."""
    compute = Compute.here(spec.train.precision)
    adapted = {"peft": version("peft")} if spec.adapter.kind not in ("none", "bitfit") else {}
    return adapted | {
        "precision": compute.precision,
        "trained": "float32",
        "device": compute.device.type,
        "processes": ranks.count(),
        "torch": torch.__version__,
        "transformers": version("transformers"),  # which draws the head
        "idim": __version__,
        "draw": versions(spec.projection.kind)[-1],
        "weights": inputs.base.weights_hash,
        "settings": inputs.base.settings_hash,
        "data": inputs.data_hash,
    }


@dataclass(frozen=True)
class Snapshot:
    """`state` is plain JSON: position, scores, and what the snapshot belongs to."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The tensors, with the state's text among them, as safetensors."""
        text = json.dumps(self.state, allow_nan=False).encode()
        return save(self.tensors | {"state": torch.frombuffer(bytearray(text), dtype=torch.uint8)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Snapshot:
        """The inverse of `to_bytes`. Raises DamagedError at what `to_bytes` does not write."""
        try:
            tensors = load(content)
            state = parse_json(tensors.pop("state").numpy().tobytes())
        except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise DamagedError(f"it is none: {error}") from error
        history = state.get("history") if isinstance(state, dict) else None
        if type(history) is not int or history < 0:
            raise DamagedError("it does not say how long its history is")
        return cls(tensors, state)


def collect(trained: list[nn.Parameter], optimizer: Optimizer) -> dict[str, Tensor]:
    """Values and optimizer state of the trained tensors, and the random state that dropout draws from."""
    tensors = {f"trained.{i}": p.detach() for i, p in enumerate(trained)}
    for i, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in values.items()}
    tensors["rng.cpu"] = torch.get_rng_state()
    if trained[0].is_cuda:
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


@torch.no_grad()
def restore(tensors: dict[str, Tensor], trained: list[nn.Parameter], optimizer: Optimizer) -> None:
    """Put back what `collect` took, but for the random state: `restore_rng` does that inside an epoch."""
    for i, p in enumerate(trained):
        p.copy_(tensors[f"trained.{i}"])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def restore_rng(tensors: dict[str, Tensor]) -> None:
    """Go on in the middle of a random stream."""
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"])
