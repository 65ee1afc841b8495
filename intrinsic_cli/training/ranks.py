"""The processes that train one run together, as `torchrun` or `accelerate launch` starts them.

Each takes its share of every batch, and only the gradients of what is trained are summed: d numbers a step.
Alone (no WORLD_SIZE, or 1) everything here does nothing.
"""

from __future__ import annotations

import os
import re
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from intrinsic_cli.errors import ConfigError

T = TypeVar("T")
HOW = "start the run by torchrun, or unset WORLD_SIZE"


def start() -> None:
    """Meet the other processes. Called before anything else here. Raises ConfigError where the environment is not
    what `torchrun` makes."""
    if wanted() and not dist.is_initialized():
        names = ["RANK", "MASTER_ADDR", "MASTER_PORT", *(["LOCAL_RANK"] if torch.cuda.is_available() else [])]
        if lacking := [name for name in names if not os.environ.get(name)]:
            raise ConfigError(f"WORLD_SIZE={os.environ['WORLD_SIZE']} without {', '.join(lacking)}; {HOW}")
        try:
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        except (ValueError, RuntimeError) as error:  # dist.DistError among them
            raise ConfigError(f"the processes of WORLD_SIZE can't meet ({error}); {HOW}") from error


def wanted() -> bool:
    """Whether this is one of several processes, by its environment. Raises ConfigError."""
    stated = os.environ.get("WORLD_SIZE", "1").strip()
    if not re.fullmatch("[0-9]{1,6}", stated):
        raise ConfigError(f"WORLD_SIZE={stated} is no number of processes; {HOW}")
    return int(stated) > 1


def count() -> int:
    """How many processes train the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0. The first alone writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(rows: list[T]) -> list[T]:
    """This process's part of a list that all know. The parts are disjoint and make up the whole."""
    return rows[rank() :: count()]


def total(tensor: Tensor) -> Tensor:
    """`tensor` summed over the processes, in place."""
    if count() > 1:
        dist.all_reduce(tensor)
    return tensor


def total_gradients(parameters: list[nn.Parameter]) -> int:
    """Sum the gradients over the processes, in place. Returns the bytes that this process handed over."""
    if count() == 1:
        return 0
    grads = [p.grad for p in parameters if p.grad is not None]
    for grad in grads:
        dist.all_reduce(grad)
    return sum(grad.numel() * grad.element_size() for grad in grads)


def told(value: T) -> T:
    """What the first process calls this with, in all of them."""
    if count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
