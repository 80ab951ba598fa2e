"""Threads that make images, each with no other threads of PyTorch's below it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


def image_threads(name: str, count: int) -> ThreadPoolExecutor:
    """A pool of threads.

    Args:
        name: Of the threads.
        count: How many at most.

    Returns:
        It ends with its `with` block.
    """
    return ThreadPoolExecutor(count, name, one_thread)


def one_thread() -> AbstractContextManager[None]:
    """From now on, or for a `with` block, PyTorch's loops in the calling thread stay in it.

    More threads gain little in a loop of a millisecond, and after it they spin for as long, waiting
    for the next one, on cores that threads making images need. Other threads keep theirs.

    Returns:
        What ends it.
    """
    torch.get_num_threads()  # only asked first does PyTorch set a thread's number, over any other
    limit: AbstractContextManager[None] = _openmp().limit(limits=1)
    return limit


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")
