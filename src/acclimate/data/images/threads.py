"""Thread pools for images, without nested threads of PyTorch."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


def image_threads(name: str, count: int) -> ThreadPoolExecutor:
    """A pool of threads.

    Args:
        name: The threads' name.
        count: The largest number of threads.

    Returns:
        The pool; it ends with its `with` block.
    """
    return ThreadPoolExecutor(count, name, one_thread)


def one_thread() -> AbstractContextManager[None]:
    """Limits PyTorch to one thread in the calling thread, from now on or for a `with` block.

    More threads gain little in loops of a millisecond; afterwards they spin for as long on cores
    that other image threads need. Other threads are not affected.

    Returns:
        A context manager that ends the limit.
    """
    torch.get_num_threads()  # PyTorch sets a thread's number at its first call, over any other
    limit: AbstractContextManager[None] = _openmp().limit(limits=1)
    return limit


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")
