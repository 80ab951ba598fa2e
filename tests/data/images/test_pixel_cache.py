"""Decoded images on disk: found by digest, bounded, shared by runs, safe against a kill."""

import hashlib
import os
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.data.images import pixel_cache as room
from acclimate.data.images.pixel_cache import GB, PixelCache

NAME_BYTES = 36


def digest(image):
    return hashlib.blake2b(str(image).encode(), digest_size=16).digest()


def picture(image):
    """Tells for each image which one it is, and has a size of its own."""
    rng = np.random.default_rng(image)
    return rng.integers(0, 256, (4 + image % 3, 5 + image % 2, 3), np.uint8)


def opened(place, max_bytes=GB, key="kind"):
    return PixelCache(place, key, max_bytes)


def add(place, images, **options):
    cache = opened(place, **options)
    for image in images:
        cache.put(digest(image), picture(image))
    cache.flush()
    return cache


def held(cache, images):
    """Which of the images are there; all that is there must be right."""
    found = []
    for image in images:
        pixels = cache.get(digest(image))
        if pixels is not None:
            assert np.array_equal(pixels, picture(image))
            found.append(image)
    return found


def files(place, key="kind", suffix="names"):
    return sorted((place / key).glob(f"*.{suffix}"))


def long_ago(paths):
    for index, path in enumerate(paths):
        os.utime(path, (1e9 + index, 1e9 + index))


@pytest.fixture
def place(tmp_path):
    return tmp_path / "pixels"


def test_images_of_any_size_are_found_again_by_their_digests(place):
    writer = add(place, range(6))
    for reader in (writer, opened(place)):
        assert held(reader, [5, 0, 3, 3, 1, 2, 4]) == [5, 0, 3, 3, 1, 2, 4]
        assert reader.get(digest("another")) is None
        assert reader.disabled_reason is None


def test_an_empty_place_is_made_only_when_something_is_kept(place):
    cache = opened(place)
    cache.flush()
    assert held(cache, [1]) == []
    assert not place.exists()


def test_kinds_do_not_mix(place):
    add(place, [1], key="a")
    assert held(opened(place, key="b"), [1]) == []


def test_an_image_is_written_once(place):
    add(place, [1, 2])
    size = files(place, suffix="rows")[0].stat().st_size
    cache = opened(place)
    for image in (1, 2, 1):
        cache.put(digest(image), picture(image))
    cache.flush()
    assert files(place, suffix="rows")[0].stat().st_size == size


def test_two_caches_on_one_folder_add_the_same_images_once_and_see_each_others(place):
    ours, theirs = opened(place), opened(place)
    for cache in (ours, theirs):
        for image in (1, 2, 3):
            cache.put(digest(image), picture(image))
    ours.flush()
    theirs.put(digest(4), picture(4))
    theirs.flush()
    assert held(theirs, [1, 2, 3, 4]) == [1, 2, 3, 4]
    assert held(opened(place), [1, 2, 3, 4]) == [1, 2, 3, 4]
    assert sum(p.stat().st_size for p in files(place)) == 4 * NAME_BYTES


WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from test_pixel_cache import add, held, opened
place, first = Path(sys.argv[1]), int(sys.argv[2])
for start in range(first, first + 40, 4):
    add(place, range(start, start + 8))
assert held(opened(place), range(first, first + 40)) == list(range(first, first + 40))
"""


def test_processes_that_write_at_once_lose_and_mix_nothing(place):
    here = os.path.dirname(__file__)
    runs = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(place), str(first), here])
        for first in (0, 20)
    ]
    assert [run.wait() for run in runs] == [0, 0]
    assert held(opened(place), range(60)) == list(range(60))
    assert sum(p.stat().st_size for p in files(place)) == 64 * NAME_BYTES


def test_pixels_without_names_after_a_kill_are_overwritten(place):
    add(place, [1])
    with files(place, suffix="rows")[0].open("ab") as stream:
        stream.write(b"\7" * 11)
    add(place, [2, 3])
    assert held(opened(place), [1, 2, 3]) == [1, 2, 3]


def test_a_name_that_is_half_written_after_a_kill_is_overwritten(place):
    add(place, [1])
    with files(place)[0].open("ab") as stream:
        stream.write(digest(2)[:7])
    add(place, [2, 3])
    assert held(opened(place), [1, 2, 3]) == [1, 2, 3]


def test_names_without_pixels_are_not_believed(place):
    add(place, [1, 2, 3])
    rows = files(place, suffix="rows")[0]
    rows.write_bytes(rows.read_bytes()[: picture(1).nbytes + 5])
    assert held(opened(place), [1, 2, 3]) == [1]
    add(place, [4])
    add(place, [3])
    assert held(opened(place), [1, 2, 3, 4]) == [1, 3, 4]


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), min_size=1, max_size=4),
            st.sampled_from(["rows", "names"]),
            st.integers(0, 200),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_a_crash_cuts_off_no_image_gets_the_pixels_of_another(tmp_path_factory, runs):
    place = tmp_path_factory.mktemp("crashed")
    for images, suffix, cut in runs:
        add(place, images)
        path = files(place, suffix=suffix)[0]
        with path.open("r+b") as stream:
            stream.truncate(max(0, path.stat().st_size - cut))
        held(opened(place), range(10))
    add(place, range(10))
    assert held(opened(place), range(10)) == list(range(10))


def test_garbage_in_the_names_is_not_believed(place):
    add(place, [1, 2])
    files(place)[0].write_bytes(os.urandom(10 * NAME_BYTES))
    assert held(opened(place), [1, 2]) == []
    add(place, [1, 2])
    assert held(opened(place), [1, 2]) == [1, 2]


@pytest.mark.parametrize("spoilt", [b"\0" * 20, b"\xff"], ids=["a page of zeros", "one byte"])
def test_pixels_that_were_spoilt_on_the_disk_are_not_believed_but_kept_anew(place, spoilt):
    add(place, [1, 2, 3])
    with files(place, suffix="rows")[0].open("r+b") as stream:
        stream.seek(picture(1).nbytes + 3)
        stream.write(spoilt)
    cache = opened(place)
    assert held(cache, [1, 2, 3]) == [1, 3]
    cache.put(digest(2), picture(2))
    cache.flush()
    assert held(cache, [1, 2, 3]) == held(opened(place), [1, 2, 3]) == [1, 2, 3]


def test_much_is_written_before_the_flush_so_that_memory_stays_small(place, monkeypatch):
    monkeypatch.setattr(room, "_MAX_PENDING_BYTES", 300)
    cache = opened(place)
    for image in range(9):
        cache.put(digest(image), picture(image))
    assert len(held(opened(place), range(9))) >= 6


def test_maps_are_given_back_and_made_again(place, monkeypatch):
    monkeypatch.setattr(room, "_MAX_MAPPED_BYTES", 200)
    cache = add(place, range(8))
    views = [cache.get(digest(image)) for image in range(8)]
    assert held(cache, range(8)) == list(range(8))
    assert all(np.array_equal(view, picture(image)) for image, view in enumerate(views))


@pytest.fixture
def one_each(monkeypatch):
    """Each image in a file of its own: 4 x 5 px, 60 bytes and a name of 36."""
    monkeypatch.setattr(room, "_SEGMENT_BYTES", 1)


def full(place, max_bytes, images, **options):
    """Adds images one by one."""
    for image in images:
        cache = add(place, [image], max_bytes=max_bytes, **options)
    return cache


IMAGES = range(0, 60, 6)
"""All of one size."""
ONE = 96


def file_of(place, image):
    """The file that came with an image."""
    (found,) = [p for p in files(place) if digest(image) in p.read_bytes()]
    return found


def test_what_was_not_used_for_longest_goes_first(place, one_each):
    a, b, c, d, e, f = IMAGES[:6]
    full(place, 4 * ONE, [a, b, c, d])
    long_ago([file_of(place, image) for image in (c, a, b, d)])
    cache = full(place, 4 * ONE, [e])
    assert cache.disabled_reason is None
    assert {p.name for p in place.iterdir()} == {"kind", "lock"}
    assert len(files(place)) == len(files(place, suffix="rows")) == 4
    assert [i for i in IMAGES if digest(i) in opened(place)._index] == [a, b, d, e]
    full(place, 4 * ONE, [f])
    assert held(opened(place), IMAGES) == [b, d, e, f]


def test_reading_counts_as_use(place, one_each):
    max_bytes = 3 * ONE
    full(place, max_bytes, IMAGES[:3])
    long_ago(files(place))
    assert held(opened(place), IMAGES[:1]) == [IMAGES[0]]
    full(place, max_bytes, IMAGES[3:5])
    assert held(opened(place), IMAGES) == [IMAGES[0], IMAGES[3], IMAGES[4]]
    assert opened(place).disabled_reason is None


def test_the_bound_is_for_all_kinds_together(place, one_each):
    full(place, 3 * ONE, IMAGES[:3], key="old")
    long_ago(files(place, "old"))
    full(place, 3 * ONE, IMAGES[:2], key="new")
    assert len(files(place, "old")) == 1
    assert held(opened(place, key="new"), IMAGES) == list(IMAGES[:2])


def test_what_a_working_run_uses_is_not_taken_from_it(place, one_each):
    cache = full(place, 3 * ONE, IMAGES[:4])
    assert held(opened(place), IMAGES) == list(IMAGES[:3])
    assert cache.disabled_reason == (
        f"pixel cache {place}: 2.88e-07 GB are full; further images are decoded again"
    )
    cache.put(digest(IMAGES[5]), picture(IMAGES[5]))
    cache.flush()
    assert held(opened(place), IMAGES) == list(IMAGES[:3])
    assert held(cache, IMAGES) == list(IMAGES[:3])


def test_a_reader_outlives_the_eviction_of_what_it_reads(place):
    cache = add(place, IMAGES[:2])
    view = cache.get(digest(IMAGES[0]))
    for path in (*files(place), *files(place, suffix="rows")):
        path.unlink()
    assert np.array_equal(view, picture(IMAGES[0]))
    cache._segments[next(iter(cache._segments))].map = None
    assert held(cache, IMAGES[:2]) == []
    cache.put(digest(IMAGES[2]), picture(IMAGES[2]))
    cache.flush()
    assert held(cache, IMAGES) == held(opened(place), IMAGES) == [IMAGES[2]]


def test_a_folder_that_was_deleted_is_made_again(place):
    cache = add(place, [1])
    for path in (*files(place), *files(place, suffix="rows"), place / "lock"):
        path.unlink()
    files_gone = place / "kind"
    files_gone.rmdir()
    place.rmdir()
    cache.put(digest(2), picture(2))
    cache.flush()
    assert cache.disabled_reason is None
    assert held(opened(place), [1, 2]) == [2]


Disk = namedtuple("Disk", "total used free")


def test_the_last_of_a_disk_is_left_to_others(place, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Disk(10 * GB, 9 * GB, GB + 10))
    cache = add(place, [1])
    assert held(cache, [1]) == []
    assert cache.disabled_reason == (
        f"pixel cache {place}: less than 1 GB is free on the disk; further images are decoded again"
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full here")
def test_a_disk_that_is_full_all_the_same_stops_nothing(place):
    add(place, [1])
    rows = files(place, suffix="rows")[0]
    rows.rename(rows.with_suffix(".kept"))
    rows.symlink_to("/dev/full")
    cache = opened(place)
    cache.put(digest(2), picture(2))
    cache.flush()
    assert cache.disabled_reason == (
        f"pixel cache {place}: no space left on device; images are decoded again"
    )
    assert held(cache, [1, 2]) == []


def test_a_place_that_is_a_file_stops_nothing(place):
    place.write_text("mine")
    cache = add(place, [1])
    assert held(cache, [1]) == []
    assert (
        cache.disabled_reason == f"pixel cache {place}: not a directory; images are decoded again"
    )
    assert place.read_text() == "mine"


def test_a_run_that_holds_the_lock_too_long_is_not_waited_for(place, monkeypatch):
    monkeypatch.setattr(room, "_LOCK_TIMEOUT_S", 0.05)
    place.mkdir()
    with FileLock(place / "lock"):
        began = time.monotonic()
        cache = add(place, [1])
        assert time.monotonic() - began < 5
    assert held(cache, [1]) == []
    cache.put(digest(2), picture(2))
    cache.flush()
    assert held(opened(place), [1, 2]) == [2]


def test_a_panorama_beyond_all_measure_is_not_kept(place, monkeypatch):
    monkeypatch.setattr(room, "_MAX_IMAGE_BYTES", 61)
    assert held(add(place, [0, 1]), [0, 1]) == [0]
