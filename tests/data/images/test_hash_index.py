import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.data.images import hash_index
from acclimate.data.images.hash_index import HashIndex

BITS = st.integers(0, 2**64 - 1)


def search(index, queries, **options):
    found = [pairs for pairs in index.search(queries, **options)]
    return {tuple(pair) for pairs in found for pair in pairs.tolist()}


@settings(max_examples=60, deadline=None)
@given(st.lists(BITS, min_size=1, max_size=20), st.lists(st.integers(0, 63), max_size=30))
def test_every_pair_within_reach_is_found_and_none_beyond(values, flips):
    queries = list(values)
    for place, bit in enumerate(flips):
        queries[place % len(queries)] ^= 1 << bit
    index = HashIndex(np.asarray(values, np.uint64))
    for flipped_bits, reach in ((0, 3), (1, 7), (2, 11)):
        found = search(
            index, np.asarray(queries, np.uint64), flipped_bits=flipped_bits, radius=reach
        )
        truth = {
            (q, i)
            for q, query in enumerate(queries)
            for i, value in enumerate(values)
            if (query ^ value).bit_count() <= reach
        }
        assert found == truth


def test_a_smaller_radius_leaves_pairs_out():
    index = HashIndex(np.asarray([0], np.uint64))
    queries = np.asarray([0b1, 0b111, 0b11111], np.uint64)
    assert search(index, queries, flipped_bits=1, radius=3) == {(0, 0), (1, 0)}


def test_blocks_hold_what_one_go_would(monkeypatch):
    values = np.random.default_rng(0).integers(0, 2**20, 500).astype(np.uint64)
    index = HashIndex(values)
    whole = search(index, values, flipped_bits=1, radius=7)
    monkeypatch.setattr(hash_index, "_BLOCK", 100)
    sizes = [len(pairs) for pairs in index.search(values, flipped_bits=1, radius=64)]
    assert search(index, values, flipped_bits=1, radius=7) == whole
    assert len(sizes) > 100


def test_a_cell_that_holds_everything_is_not_compared_as_a_whole():
    values = np.zeros(5_000, np.uint64)
    found = sum(len(pairs) for pairs in HashIndex(values).search(values, flipped_bits=0, radius=0))
    assert found == 4 * 5_000 * hash_index.MAX_BUCKET


@pytest.mark.parametrize("count", [0, 1])
def test_an_index_may_be_empty(count):
    empty = np.empty(0, np.uint64)
    one = np.zeros(count, np.uint64)
    assert search(HashIndex(empty), one, flipped_bits=1, radius=7) == set()
    assert search(HashIndex(one), empty, flipped_bits=1, radius=7) == set()
