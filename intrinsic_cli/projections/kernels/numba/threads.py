"""Run independent pieces of work on torch's number of threads, in kernels that release the GIL.

Where torch's threads are GNU OpenMP's, they are used: after torch's own work they spin for some milliseconds,
waiting for more, and other threads would have to share the cores with them. OpenMP may give fewer threads than
are asked for.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, lru_cache
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Job = Callable[[Any], None]  # called with something that it has no use for


def run_all(work: Callable[[Item], None], items: list[Item], *, alone: bool = False) -> None:
    """work(item) for every item, each once, in any order; the calling thread takes its share, or with `alone`
    does all.

    Raises what `work` raises, after all threads have stopped.
    """
    queue = iter(items)  # `next` on a list's iterator is atomic under the GIL
    caller = threading.get_ident()
    errors: list[BaseException] = []
    ended = False

    def drain(_: Any = None) -> None:
        nonlocal ended
        try:
            for item in queue:
                work(item)
        except BaseException as error:  # Ctrl-C as well: nothing may leave a thread of OpenMP
            errors.append(error)
        if threading.get_ident() == caller:
            ended = True

    count = 1 if alone else min(torch.get_num_threads(), len(items))
    if count < 2:
        drain()
    elif (gnu := _openmp()) is not None:
        in_openmp(gnu, drain, count)
    else:
        in_pool(drain, count)
    if errors:
        raise errors.pop(0)
    if not ended:  # a signal's exception came before `drain` could catch it, and ctypes drops it
        raise KeyboardInterrupt


def in_openmp(gnu: ctypes.CDLL, job: Job, count: int) -> None:
    """Call `job` in a team of `count` threads, this one included.

    Source: the libgomp manual, "Implementing PARALLEL construct".
    """
    gnu.GOMP_parallel(_REGION(job), None, count, 0)


def in_pool(job: Job, count: int) -> None:
    """Call `job` in `count` threads of Python's, this one included."""
    others = [_pool(count - 1).submit(job, None) for _ in range(count - 1)]
    try:
        job(None)
    finally:
        wait(others)


_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp() -> ctypes.CDLL | None:
    """The GNU OpenMP library that torch has loaded, or None."""
    try:
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except (OSError, AttributeError):  # another library's, or a system that can't be asked
        return None


@lru_cache(maxsize=1)
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="projection")
