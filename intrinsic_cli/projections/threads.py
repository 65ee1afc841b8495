"""Run independent pieces of work on torch's number of threads, in kernels that release the GIL.

Where torch's threads are GNU OpenMP's, they are used: after torch's own work they look for more without a rest
for some milliseconds, and other threads would have to share the cores with them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, lru_cache
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Job = Callable[[Any], None]  # called with something that it has no use for


def run_all(work: Callable[[Item], None], items: list[Item]) -> None:
    """work(item) for every item, each once, in any order; the calling thread takes its share.

    Raises what `work` raises, after all threads have stopped.
    """
    queue = iter(items)  # `next` on a list's iterator is atomic under the GIL
    errors: list[BaseException] = []

    def drain(_: Any = None) -> None:
        try:
            for item in queue:
                work(item)
        except BaseException as error:  # Ctrl-C as well: nothing may leave a thread of OpenMP
            errors.append(error)

    threads = min(torch.get_num_threads(), len(items))
    if threads < 2:
        drain()
    elif (gnu := _openmp()) is not None:
        in_openmp(gnu, drain, threads)
    else:
        in_pool(drain, threads)
    if errors:
        raise errors[0]


def in_openmp(gnu: ctypes.CDLL, job: Job, threads: int) -> None:
    """Call `job` in a team of `threads`, this one included (libgomp manual, "Implementing PARALLEL construct")."""
    gnu.GOMP_parallel(_REGION(job), None, threads, 0)


def in_pool(job: Job, threads: int) -> None:
    """Call `job` in so many threads of Python's, this one included."""
    others = [_pool(threads - 1).submit(job, None) for _ in range(threads - 1)]
    job(None)
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
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="projection")
