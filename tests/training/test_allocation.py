"""Memory that is freed within a training is used again without being fetched anew."""

import ctypes
import resource
import sys

import pytest
import torch

from acclimate.training.allocation import freed_memory_kept

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="other C libraries are left as they are",
)
NUMBERS = 12 * 2**20
WARM = 40  # blocks until there is a place that they fit into; by then it has been used again
PAGES = NUMBERS * 4 // resource.getpagesize()


def fetched(times=4):
    """Pages that the system hands over for blocks of 48 MB, one after another."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(NUMBERS)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_a_block_is_fetched_once_while_it_lasts():
    with freed_memory_kept():
        fetched(WARM)
        assert fetched() < PAGES


@glibc
def test_afterwards_everything_is_given_back_as_usual():
    with freed_memory_kept():
        with freed_memory_kept():
            pass
        fetched(WARM)
        assert fetched() < PAGES  # the outer one lasts
    assert fetched() > 2 * PAGES


def test_it_ends_with_an_error_too():
    with pytest.raises(ValueError, match="stop"), freed_memory_kept():
        raise ValueError("stop")
    with freed_memory_kept():
        pass
