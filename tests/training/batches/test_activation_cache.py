"""Activations that are kept while a training lasts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from acclimate.training.batches.activation_cache import Activations, bytes_of

ROWS = np.array([3, 5, 8, 13])


def values(rows, view):
    return np.array([[[row + view / 8, -row]] for row in rows], np.float32)


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([3, 5, 8, 13]))))
def test_what_was_put_is_there_and_nothing_else(tmp_path_factory, steps):
    store = Activations(tmp_path_factory.mktemp("kept"), ROWS, 2, (1, 2))
    for view, row in steps:
        store.put(view, np.array([row]), values([row], view))
    for view in (0, 1):
        there = [row for row in ROWS if (view, row) in steps]
        assert list(store.missing(view, ROWS)) == [row for row in ROWS if row not in there]
        if there:
            found = store.get(view, np.array(there))
            assert found.dtype == np.float16
            assert np.array_equal(found, values(there, view))


def test_what_was_flushed_is_there_after_a_kill(tmp_path):
    store = Activations(tmp_path, ROWS, 1, (1, 2))
    store.put(0, ROWS[:2], values(ROWS[:2], 0))
    store.flush()
    store.put(0, ROWS[2:], values(ROWS[2:], 0))
    again = Activations(tmp_path, ROWS, 1, (1, 2))
    assert list(again.missing(0, ROWS)) == [8, 13]
    assert np.array_equal(again.get(0, ROWS[:2]), values(ROWS[:2], 0))


def test_large_values_stay_numbers(tmp_path):
    store = Activations(tmp_path, ROWS, 1, (1,))
    store.put(0, ROWS, np.array([[1e9], [-1e9], [1], [0]]))
    assert np.isfinite(store.get(0, ROWS)).all()


def test_a_store_takes_what_was_said(tmp_path):
    Activations(tmp_path, ROWS, 3, (2, 5))
    size = (tmp_path / "activations.f16").stat().st_size
    assert size == bytes_of(4, 3, (2, 5)) == 240
