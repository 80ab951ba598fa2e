"""What cleaning says of 16-bit samples, transparency and pages, and the range that it finds."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.data.dataset import Dataset
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from kit import Recorder, paint


@pytest.fixture
def here(context):
    return replace(context, progress=Recorder())


def scans(folder, largest, *, images=6, bright=None):
    """Two classes of 16-bit gradients with some noise; one sample of one image is brighter."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, largest, 64)
    for label in (0, 1):
        for number in range(images):
            ramps = ramp[None, :] if label else ramp[:, None]
            samples = ramps - rng.integers(0, largest // 60, (64, 64))
            samples = np.clip(samples, 0, largest).astype(np.uint16)
            samples[-1, -1] = largest
            if bright is not None and not number and not label:
                samples[0, 0] = bright
            path = folder / "ab"[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(samples).save(path)
    return folder


def said(context, word):
    return [line for line in context.progress.lines if word in line]


def test_the_bits_of_16_bit_images_are_found_and_said(tmp_path, here):
    dataset = clean(read(scans(tmp_path, 4095)), context=here)
    assert dataset.bits == 12
    assert said(here, "bits") == [
        "clean: the samples of 12 16-bit images use 1/16 of their range (largest 4,095) and are "
        "read as 12 bits: data.bits sets another number"
    ]
    assert min(dataset.table["contrast"].to_pylist()) > 0.2
    assert dataset.keep.all()


def test_a_full_range_is_not_mentioned(tmp_path, here):
    dataset = clean(read(scans(tmp_path, 65_535)), context=here)
    assert dataset.bits == 16
    assert said(here, "bits") == []


def test_one_bright_sample_is_not_silently_the_range_of_all(tmp_path, here):
    dataset = clean(read(scans(tmp_path, 4095, bright=65_535)), context=here)
    assert dataset.bits == 16
    assert said(here, "bits") == [
        "clean: half of 12 16-bit images use at most 1/16 of the range of 16 bits (the largest "
        "sample of all is 65,535): --set data.bits=12 reads them as 12 bits"
    ]


def test_given_bits_are_taken_and_clipped_samples_counted(tmp_path, here):
    folder = scans(tmp_path, 4095, bright=65_535)
    dataset = clean(read(folder, Source(bits=12)), context=here)
    assert dataset.bits == 12
    assert said(here, "bits") == [
        "clean: 1 of 12 16-bit images have samples above 4,095, the largest of 12 bits "
        "(data.bits): these become white"
    ]


def test_images_of_8_bits_have_no_range_to_choose(tmp_path, here):
    for label in "ab":
        for number in range(3):
            paint(tmp_path / label / f"{number}.png", number + 10 * ord(label), (40, 30))
    dataset = clean(read(tmp_path), context=here)
    assert dataset.bits is None
    assert said(here, "bits") == []


def test_the_range_is_saved_with_the_table_and_part_of_its_digest(tmp_path, here):
    dataset = clean(read(scans(tmp_path / "scans", 4095)), context=here)
    dataset.save(tmp_path / "scans.parquet")
    back = Dataset.load(tmp_path / "scans.parquet")
    assert (back.bits, back.digest) == (12, dataset.digest)
    assert replace(dataset, bits=16).digest != dataset.digest


def test_white_icons_are_kept_and_said_to_be_laid_on_black(tmp_path, here):
    for label in ("disc", "frame"):
        for number in range(6):
            image = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
            draw = ImageDraw.Draw(image)
            box = [4 + 2 * number, 15 - 2 * number, 34 + 3 * number, 45 - number]
            shape = draw.ellipse if label == "disc" else draw.rectangle
            shape(box, outline=(255, 255, 255, 255), width=3)
            path = tmp_path / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            image.save(path)
    settings = Clean(drop=("duplicate", "leak", "label_conflict"))
    dataset = clean(read(tmp_path), settings, context=here)
    assert dataset.keep.all()
    assert said(here, "black") == [
        "clean: 12 transparent images are laid on black: what they show is too light to be seen "
        "on white"
    ]


def test_blank_images_and_pages_are_counted(tmp_path, here):
    for label in "ab":
        for number in range(3):
            paint(tmp_path / label / f"{number}.png", number + 10 * ord(label), (40, 30))
    Image.new("RGBA", (40, 30), (9, 9, 9, 0)).save(tmp_path / "a" / "clear.png")
    pages = [Image.new("L", (40, 30), n) for n in (9, 99)]
    pages[0].save(tmp_path / "b" / "pages.tif", save_all=True, append_images=pages[1:])
    clean(read(tmp_path), context=here)
    assert said(here, "blank") == ["clean: 1 image is blank: every pixel is transparent"]
    assert said(here, "several pages") == [
        "clean: 1 TIFF has several pages, of which the first is used: save the others as files of "
        "their own to use them"
    ]
