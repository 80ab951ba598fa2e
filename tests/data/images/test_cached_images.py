"""What is kept of an image: the very pixels of decoding it anew, whatever the cache's state."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.cached_images import CachedImages, crop_form, evaluation_form
from acclimate.data.images.contract import InputContract
from acclimate.data.images.decode import read_image
from acclimate.data.sources.read import read
from kit import Recorder

CONTRACT = InputContract(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 0.875)


@pytest.fixture
def here(context, tmp_path):
    """A run with a cache of its own."""
    return replace(context, cache=tmp_path / "cache", progress=Recorder())


@pytest.fixture
def photos(tmp_path):
    """JPEGs larger than the network sees, standing and lying, and a small PNG; cleaned."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index, size in enumerate([(300, 200), (200, 340), (90, 80), (640, 480)]):
            noise = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8))
            smooth = noise.resize(size, Image.Resampling.BICUBIC)
            smooth.save(tmp_path / "photos" / name / f"{index}.jpg", quality=90)
        small = Image.fromarray(rng.integers(0, 256, (20, 25, 3), np.uint8))
        small.save(tmp_path / "photos" / name / "small.png")
    return clean(read(tmp_path / "photos"))


def hidden(dataset):
    """Takes the files away: what can still be read was kept."""
    dataset.root.rename(dataset.root.with_name("hidden"))


def test_evaluation_sees_the_very_pixels_of_decoding_anew_cold_and_warm(photos, here):
    rows = photos.rows(domain=None)
    plain = [CONTRACT.read(photos.path(int(row))) for row in rows]
    for _ in range(2):
        (batch,) = ordered_batches(photos, rows, CONTRACT, context=here)
        assert np.array_equal(batch.images, plain)
    hidden(photos)
    (batch,) = ordered_batches(photos, rows, CONTRACT, context=here)
    assert np.array_equal(batch.images, plain)
    assert here.progress.lines == []


@pytest.mark.parametrize(
    "change", [{"image_size": 33}, {"crop": 0.9}, {"interpolation": "bilinear"}]
)
def test_another_contract_reads_none_of_the_first_ones_pixels(photos, here, change):
    rows = photos.rows()
    list(ordered_batches(photos, rows, CONTRACT, context=here))
    other = replace(CONTRACT, **change)
    (batch,) = ordered_batches(photos, rows, other, context=here)
    assert np.array_equal(batch.images, [other.read(photos.path(int(row))) for row in rows])


def test_statistics_that_change_no_pixel_share_the_kept_ones(photos, here):
    list(ordered_batches(photos, photos.rows(), CONTRACT, context=here))
    hidden(photos)
    other = replace(CONTRACT, mean=(0.1, 0.2, 0.3))
    assert len(list(ordered_batches(photos, photos.rows(), other, context=here))) == 1


def test_crops_are_taken_from_the_whole_image_a_little_larger_than_the_input(photos):
    shapes = [
        CachedImages(photos, crop_form(CONTRACT)).read(int(row)).shape for row in photos.rows()
    ]
    assert sorted(set(shapes)) == [
        (20, 25, 3), (40, 45, 3), (40, 53, 3), (40, 60, 3), (68, 40, 3),
    ]  # fmt: skip


def test_the_smaller_image_shows_the_same_picture(photos):
    pictures = CachedImages(photos, crop_form(CONTRACT))
    for row in photos.rows():
        seen = pictures.read(int(row))
        full = read_image(photos.path(int(row)))
        again = np.asarray(full.resize(seen.shape[1::-1], Image.Resampling.BICUBIC), int)
        assert np.abs(again - seen).mean() < 4


def test_what_training_sees_is_the_same_without_a_cache_cold_and_warm(photos, here):
    def seen(context):
        pictures = CachedImages(photos, crop_form(CONTRACT), context)
        found = [pictures.read(int(row)).copy() for row in photos.rows()]
        pictures.flush()
        return found

    without, cold, warm = seen(None), seen(here), seen(here)
    hidden(photos)
    kept = seen(here)
    for images in zip(without, cold, warm, kept, strict=True):
        assert all(np.array_equal(images[0], image) for image in images)


def test_nothing_is_kept_where_none_is_wanted(photos, here):
    list(ordered_batches(photos, photos.rows(), CONTRACT, context=replace(here, cache_gb=0)))
    assert not here.cache.exists()


def test_a_changed_image_is_another_image(photos, here):
    rows = photos.rows()
    list(ordered_batches(photos, rows, CONTRACT, context=here))
    path = photos.path(int(rows[0]))
    Image.new("RGB", (64, 64), (200, 10, 10)).save(path)
    again = clean(read(photos.root))
    (batch,) = ordered_batches(again, again.rows(domain=None), CONTRACT, context=here)
    plain = [CONTRACT.read(again.path(int(row))) for row in again.rows(domain=None)]
    assert np.array_equal(batch.images, plain)


def test_an_image_changed_behind_the_table_is_not_kept_under_the_old_digest(photos, here):
    row = int(photos.rows()[0])
    before = CONTRACT.read(photos.path(row))
    path = photos.path(row)
    kept = path.read_bytes()
    Image.new("RGB", (64, 64), (200, 10, 10)).save(path)
    list(ordered_batches(photos, photos.rows(), CONTRACT, context=here))
    path.write_bytes(kept)
    assert np.array_equal(CachedImages(photos, evaluation_form(CONTRACT), here).read(row), before)


def test_images_that_were_not_cleaned_are_decoded_each_time(photos, here):
    listing = read(photos.root)
    (batch,) = ordered_batches(listing, listing.rows(), CONTRACT, context=here)
    plain = [CONTRACT.read(listing.path(int(row))) for row in listing.rows()]
    assert np.array_equal(batch.images, plain)
    assert not here.cache.exists()


def test_a_full_cache_is_told_once_and_changes_nothing(photos, here):
    tiny = replace(here, cache_gb=1e-5)  # 10 kB: three images
    pictures = CachedImages(photos, evaluation_form(CONTRACT), tiny)
    for _ in range(2):
        for row in photos.rows(domain=None):
            seen = pictures.read(int(row))
            assert np.array_equal(seen, CONTRACT.read(photos.path(int(row))))
        pictures.flush()
    assert here.progress.lines == [
        f"pixel cache {here.cache / 'pixels'}: 1e-05 GB are full; further images are decoded again"
    ]
