"""The processes that train one run together, as `torchrun` or `accelerate launch` starts them.

Each takes its share of every batch, and only the gradients of what is trained are summed: d numbers a step.
Alone (no WORLD_SIZE, or 1) everything here does nothing.
"""

from __future__ import annotations

import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def start() -> None:
    """Meet the other processes. Called before anything else here."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


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
