import hashlib
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from acclimate.data.images.batches import batches, ordered_batches
from acclimate.data.images.contract import InputContract
from acclimate.data.sources.read import read
from acclimate.errors import UnreadableImage

CONTRACT = InputContract(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 0.875)


def decoders():
    own = "decode", "read"
    return [thread for thread in threading.enumerate() if thread.name.startswith(own)]


def busy(seconds):
    """Works for so long, and leaves the interpreter to other threads."""
    end = time.thread_time() + seconds
    block = bytes(100_000)
    while time.thread_time() < end:
        hashlib.sha256(block)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_batches_hold_every_row_once_in_order(dataset, size):
    rows = dataset.rows("val")
    found = list(ordered_batches(dataset, rows, CONTRACT, size))
    assert [len(batch.rows) for batch in found[:-1]] == [size] * (len(found) - 1)
    assert 1 <= len(found[-1].rows) <= size
    assert np.array_equal(np.concatenate([batch.rows for batch in found]), rows)
    for batch in found:
        assert batch.images.shape == (len(batch.rows), 32, 32, 3)
        assert batch.images.dtype == np.uint8
        assert np.array_equal(batch.targets, dataset.labels[batch.rows])


def test_an_image_in_a_batch_is_what_the_contract_reads(dataset):
    rows = dataset.rows("val")[::-7]
    (batch,) = ordered_batches(dataset, rows, CONTRACT)
    assert np.array_equal(batch.targets, dataset.labels[rows])
    for image, row in zip(batch.images, rows, strict=True):
        assert np.array_equal(image, CONTRACT.read(dataset.path(int(row))))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away here")
def test_one_core_gives_the_same_batches_as_all(dataset):
    rows = dataset.rows("test")
    whole = [batch.images for batch in ordered_batches(dataset, rows, CONTRACT, 16)]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        single = [batch.images for batch in ordered_batches(dataset, rows, CONTRACT, 16)]
    finally:
        os.sched_setaffinity(0, cores)
    assert len(single) == len(whole) == 5
    assert all(np.array_equal(a, b) for a, b in zip(single, whole, strict=True))


def test_no_rows_give_no_batches(dataset):
    assert list(ordered_batches(dataset, dataset.rows("unlabelled"), CONTRACT)) == []


def test_groups_need_not_have_one_size(dataset):
    groups = [dataset.rows("train")[i:j] for i, j in ((0, 3), (3, 4), (10, 20))]
    found = list(batches(dataset, groups, lambda row: CONTRACT.read(dataset.path(row))))
    assert [batch.rows.tolist() for batch in found] == [group.tolist() for group in groups]


def test_only_a_few_batches_are_decoded_ahead(dataset):
    loaded = []

    def load(row):
        loaded.append(row)
        return np.zeros((4, 4, 3), np.uint8)

    groups = [np.arange(i, i + 5) for i in range(0, 150, 5)]
    stream = batches(dataset, groups, load)
    next(stream)
    threading.Event().wait(0.2)
    assert 5 <= len(loaded) <= 25
    assert len(list(stream)) == 29
    assert sorted(loaded) == list(range(150))


def test_stopping_early_stops_the_work(dataset):
    loaded = []

    def load(row):
        loaded.append(row)
        return np.zeros((4, 4, 3), np.uint8)

    stream = batches(dataset, [np.arange(i, i + 5) for i in range(0, 150, 5)], load)
    next(stream)
    stream.close()
    seen = len(loaded)
    threading.Event().wait(0.1)
    assert len(loaded) == seen <= 25
    assert decoders() == []


@pytest.mark.parametrize(("seconds", "threads"), [(0.0, 2), (0.002, 4)])
def test_images_that_take_little_are_loaded_by_half_of_the_threads(
    dataset, monkeypatch, seconds, threads
):
    monkeypatch.setattr("acclimate.data.images.batches.usable_cores", lambda: 4)
    late = set()

    def load(row):
        busy(seconds)
        if row >= 100:  # what an image takes is known by then
            late.add(threading.current_thread().name)
            threading.Event().wait(0.002)  # leaves work for all the others
        return np.full((4, 4, 3), row, np.uint8)

    groups = [np.arange(i, i + 16) for i in range(0, 192, 16)]
    found = list(batches(dataset, groups, load))
    assert [batch.rows.tolist() for batch in found] == [group.tolist() for group in groups]
    assert all((batch.images[:, 0, 0, 0] == batch.rows).all() for batch in found)
    assert len(late) == threads


def test_a_file_that_broke_after_cleaning_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (16, 16), (i * 50, 0, 0)).save(tmp_path / name / f"{i}.png")
    dataset = read(tmp_path)
    broken = dataset.path(4)
    broken.write_bytes(broken.read_bytes()[:50])
    stream = ordered_batches(dataset, dataset.rows(), CONTRACT, 2)
    assert next(stream).rows.tolist() == [0, 1]
    assert next(stream).rows.tolist() == [2, 3]
    with pytest.raises(UnreadableImage) as caught:
        next(stream)
    assert str(caught.value) == f"{broken}: image is truncated or broken."
    assert decoders() == []


def test_an_image_without_a_label_has_the_target_minus_one(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    dataset = read(tmp_path)
    (batch,) = ordered_batches(dataset, dataset.rows("unlabelled"), CONTRACT)
    assert batch.targets.tolist() == [-1]
