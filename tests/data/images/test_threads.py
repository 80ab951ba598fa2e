"""Threads that make images keep PyTorch's loops to themselves, and take none from others."""

import pytest
import torch

from acclimate.data.images.threads import image_threads, one_thread


@pytest.fixture(autouse=True)
def four():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


def test_a_thread_that_makes_images_has_none_below_it():
    with image_threads("decode", 2) as pool:
        assert set(pool.map(lambda _: torch.get_num_threads(), range(50))) == {1}


def test_other_threads_keep_theirs():
    with image_threads("decode", 2) as pool:
        list(pool.map(lambda _: torch.get_num_threads(), range(50)))
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == 4


def test_a_block_ends_with_what_there_was_before():
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


def test_a_block_that_fails_ends_so_too():
    with pytest.raises(ValueError, match="broken"), one_thread():
        raise ValueError("broken")
    assert torch.get_num_threads() == 4
