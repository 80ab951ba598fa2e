"""Feature rows on disk: found by digest, safe against a kill, shared by runs."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from filelock import FileLock, Timeout
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.errors import OutputError
from acclimate.features.store import FeatureStore

DIMENSION = 3


def digest(image):
    return hashlib.blake2b(str(image).encode(), digest_size=16).digest()


def features(images):
    """Tell for each image which one it is."""
    return np.asarray([[i, i + 0.25, -i] for i in images], np.float32).reshape(-1, DIMENSION)


def add(store, images):
    """Adds what is missing, as a run does."""
    with store.lock():
        wanted = [images[p] for p in store.missing([digest(i) for i in images])]
        store.add([digest(i) for i in wanted], features(wanted))
    return wanted


def held(store, images):
    return store.rows([digest(i) for i in images])[np.arange(len(images))]


@pytest.fixture
def place(tmp_path):
    return tmp_path / "features"


def reopened(place):
    return FeatureStore(place, DIMENSION)


def test_rows_are_found_again_by_their_digests_in_any_order(place):
    store = reopened(place)
    add(store, [1, 2, 3])
    add(store, [4])
    for wanted in ([4, 2], [1, 1, 3], [3, 2, 1, 4], []):
        for reader in (store, reopened(place)):
            found = held(reader, wanted)
            assert found.dtype == np.float32
            assert np.array_equal(found, features(wanted))


def test_only_what_is_missing_is_asked_for_and_each_image_once(place):
    store = reopened(place)
    add(store, [1, 2])
    assert store.missing([digest(i) for i in (5, 1, 6, 5, 2, 6)]) == [0, 2]
    assert store.missing([]) == []


def test_what_was_read_does_not_change_with_the_file(place):
    store = reopened(place)
    add(store, [1])
    found = held(store, [1])
    (place / "rows.f32").write_bytes(b"\0" * 12)
    assert np.array_equal(found, features([1]))


def test_rows_that_stay_on_disk_are_read_as_they_are_asked_for(place):
    store = reopened(place)
    add(store, [1, 2, 3])
    rows = store.rows([digest(i) for i in (3, 1, 1, 2)])
    add(store, [4])
    assert len(rows) == 4
    for wanted in ([0, 3], [2, 2, 1], []):
        found = rows[np.asarray(wanted, np.int64)]
        assert np.array_equal(found, features([(3, 1, 1, 2)[w] for w in wanted]))
        assert found.dtype == np.float32
    assert len(store.rows([])) == 0


def test_rows_that_something_else_cut_off_are_an_error_and_no_features(place):
    store = reopened(place)
    add(store, [1, 2])
    rows, path = store.rows([digest(i) for i in (1, 2)]), place / "rows.f32"
    path.write_bytes(path.read_bytes()[:-1])
    assert np.array_equal(rows[np.array([0])], features([1]))
    with pytest.raises(OutputError) as caught:
        rows[np.array([0, 1])]
    assert str(caught.value) == (
        f"{path}: stored features are missing. "
        "Run again, and let no other program change this folder."
    )


def test_two_stores_on_one_folder_see_each_others_rows(place):
    ours, theirs = reopened(place), reopened(place)
    assert add(ours, [1, 2]) == [1, 2]
    assert add(theirs, [2, 3]) == [3]
    assert add(ours, [1, 2, 3]) == []
    assert add(ours, [4]) == [4]
    assert add(theirs, [4, 5]) == [5]
    for store in (ours, theirs, reopened(place)):
        store.missing([])
        assert np.array_equal(held(store, [1, 2, 3, 4, 5]), features([1, 2, 3, 4, 5]))


def test_only_one_run_adds_at_a_time(place):
    with reopened(place).lock(), pytest.raises(Timeout):
        FileLock(reopened(place).lock().lock_file).acquire(timeout=0.01)


def test_rows_without_names_after_a_kill_are_overwritten(place):
    add(reopened(place), [1])
    with (place / "rows.f32").open("ab") as stream:
        stream.write(features([7, 8]).tobytes()[:-5])
    store = reopened(place)
    assert add(store, [1, 2]) == [2]
    add(store, [3])
    assert np.array_equal(held(reopened(place), [1, 2, 3]), features([1, 2, 3]))


def test_a_name_that_is_half_written_after_a_kill_is_overwritten(place):
    add(reopened(place), [1])
    with (place / "rows.f32").open("ab") as stream:
        stream.write(features([2]).tobytes())
    with (place / "digests.bin").open("ab") as stream:
        stream.write(digest(2)[:7])
    assert add(reopened(place), [1, 2, 3]) == [2, 3]
    again = reopened(place)
    assert add(again, [1, 2, 3]) == []
    assert np.array_equal(held(again, [1, 2, 3]), features([1, 2, 3]))


class Killed(Sequence):
    """Digests that are asked for when the rows are written: there the run dies."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise KeyboardInterrupt


def test_a_second_kill_between_rows_and_names_gives_no_image_the_rows_of_another(place):
    add(reopened(place), [1, 2, 3])
    rows = place / "rows.f32"
    rows.write_bytes(rows.read_bytes()[: 2 * DIMENSION * 4])  # the first one lost the row of 3
    killed = reopened(place)
    with killed.lock(), pytest.raises(KeyboardInterrupt):
        killed.add(Killed(), features([4]))
    again = reopened(place)
    assert add(again, [1, 2, 3, 4]) == [3, 4]
    assert np.array_equal(held(again, [1, 2, 3, 4]), features([1, 2, 3, 4]))


def test_names_whose_rows_were_lost_never_get_the_rows_of_others(place):
    add(reopened(place), [1, 2, 3])
    rows = place / "rows.f32"
    rows.write_bytes(rows.read_bytes()[: 2 * DIMENSION * 4])
    assert add(reopened(place), [4]) == [4]
    again = reopened(place)
    add(again, [3])
    assert np.array_equal(held(again, [1, 2, 3, 4]), features([1, 2, 3, 4]))


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), min_size=1, max_size=4),
            st.sampled_from(["rows.f32", "digests.bin"]),
            st.integers(0, 50),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_a_crash_cuts_off_no_image_gets_the_features_of_another(tmp_path_factory, runs):
    place = tmp_path_factory.mktemp("store") / "features"
    for images, cut, lost in runs:
        store = reopened(place)
        add(store, images)
        assert np.array_equal(held(store, images), features(images))
        content = (place / cut).read_bytes()
        (place / cut).write_bytes(content[: max(0, len(content) - lost)])
    store = reopened(place)
    add(store, list(range(10)))
    for reader in (store, reopened(place)):
        assert reader.missing([digest(i) for i in range(10)]) == []
        assert np.array_equal(held(reader, range(10)), features(range(10)))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError) as caught:
        FeatureStore(tmp_path / "file" / "features", DIMENSION)
    assert str(caught.value) == (
        f"{tmp_path}/file/features: cannot write here (not a directory). "
        "Choose another place with --out."
    )
