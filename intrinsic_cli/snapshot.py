"""Where a run stands between two steps: all that the rest of it depends on, as a file.

That is what is trained (d numbers), the optimizer's two more of each, and where the loop and its random
stream are. So a run that is taken up again ends with the same θ as one that was never stopped.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Snapshot:
    """`state` is plain JSON: position, scores, and what the snapshot belongs to. In a file: SHA-256 of what
    follows, then the tensors and the state's text as safetensors."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def to_parts(self) -> tuple[bytes, bytes]:
        """The file's two parts, apart since a full fine-tuning's is large."""
        text = json.dumps(self.state, allow_nan=False).encode()
        content = save(self.tensors | {"state": torch.frombuffer(bytearray(text), dtype=torch.uint8)})
        return hashlib.sha256(content).digest(), content


def read(path: Path) -> Snapshot | None:
    """The snapshot of a file, or None where there is none or any bit of it is damaged: the run starts anew."""
    if not path.exists():
        return None
    with open(path, "rb") as file:
        digest, content = file.read(32), file.read()
    if hashlib.sha256(content).digest() != digest:
        return None
    tensors = load(content)
    return Snapshot(tensors, json.loads(tensors.pop("state").numpy().tobytes()))


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
