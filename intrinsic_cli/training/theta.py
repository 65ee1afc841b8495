"""What a run has learned, as a file, and the hash by which it is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor

from intrinsic_cli.spec import RunSpec


def to_bytes(
    spec: RunSpec, tensors: Mapping[str, Tensor], projection_version: int | None, *, spared: bool = False
) -> bytes:
    """θ and λ, or the weights that a full fine-tuning keeps, with the spec: the whole fine-tune as a file. `spared`
    as in `finetunes.file.FineTune`."""
    metadata = {"format": "idim-1", "spec": json.dumps(spec.to_dict(), sort_keys=True)}
    if spared:
        metadata["spared"] = "true"
    if projection_version is not None:
        metadata["projection_version"] = str(projection_version)
    return save(dict(tensors), metadata=metadata)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors' names, dtypes, shapes and numbers: equal for equal θ, as that of the file is not,
    whose metadata safetensors writes in an order of chance."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
