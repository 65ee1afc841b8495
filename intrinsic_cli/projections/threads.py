"""Run independent pieces of work on torch's number of threads, in kernels that release the GIL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="projection")


def run_all(work: Callable[[Item], None], items: list[Item]) -> None:
    """work(item) for every item, each once, in any order; the calling thread takes its share.

    Raises what `work` raises, after all threads have stopped.
    """
    others = torch.get_num_threads() - 1
    queue = iter(items)  # `next` on a list's iterator is atomic under the GIL
    futures = [_pool(others).submit(_drain, work, queue) for _ in range(min(others, len(items) - 1))]
    try:
        _drain(work, queue)
    finally:
        wait(futures)
    for future in futures:
        future.result()


def _drain(work: Callable[[Item], None], queue: Iterator[Item]) -> None:
    for item in queue:
        work(item)
