"""Blocks cover a sequence once, in order."""

import pytest

from acclimate.data.blocks import blocks


@pytest.mark.parametrize(
    ("count", "size", "bounds"),
    [(0, 3, []), (3, 3, [(0, 3)]), (7, 3, [(0, 3), (3, 6), (6, 7)]), (2, 5, [(0, 2)])],
)
def test_blocks_cover_everything_once(count, size, bounds):
    assert [(block.start, block.stop) for block in blocks(count, size)] == bounds
