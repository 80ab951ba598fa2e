"""Memory that is freed within a training stays with the process, and is given back after it."""

import ctypes
import resource
import sys
from pathlib import Path

import pytest
import torch

from acclimate.training.engine.allocator import keep_freed_memory

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="other C libraries are left as they are",
)
NUMBERS = 12 * 2**20
MB = NUMBERS * 4 // 2**20


def resident():
    """MB of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def use(blocks=8):
    """Takes so many blocks of 48 MB at once, and frees them."""
    held = [torch.ones(NUMBERS) for _ in range(blocks)]
    assert all(block[-1] == 1 for block in held)


@glibc
def test_freed_memory_stays_while_it_lasts_and_is_given_back_afterwards():
    with keep_freed_memory():
        pass  # what other tests freed is given back
    before = resident()
    with keep_freed_memory():
        with keep_freed_memory():
            use()
        assert resident() > before + 4 * MB  # the outer one lasts
    assert resident() < before + 2 * MB


def test_it_ends_with_an_error_too():
    with pytest.raises(ValueError, match="stop"), keep_freed_memory():
        raise ValueError("stop")
    with keep_freed_memory():
        pass
