import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from acclimate.data.images.contract import MAX_IMAGE_SIZE, InputContract
from acclimate.errors import ModelFileError

CONTRACT = InputContract(
    image_size=32,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    crop=0.875,
)


def picture(width, height, seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def test_a_contract_has_no_defaults():
    with pytest.raises(TypeError, match="missing 5 required"):
        InputContract()


@settings(max_examples=50, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    size=st.integers(8, 64),
    crop=st.floats(0.05, 1),
    interpolation=st.sampled_from(["bilinear", "bicubic", "lanczos"]),
)
def test_any_image_fits_the_network(width, height, size, crop, interpolation):
    contract = replace(CONTRACT, image_size=size, crop=crop, interpolation=interpolation)
    pixels = contract.fit(Image.new("RGB", (width, height), (200, 100, 50)))
    assert (pixels.shape, pixels.dtype) == ((size, size, 3), np.uint8)
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= 1


@pytest.mark.parametrize("size", [(80, 60), (60, 80), (64, 64), (61, 97)])
def test_the_centre_is_seen_so_a_mirrored_image_gives_mirrored_pixels(size):
    image = picture(*size)
    mirrored = CONTRACT.fit(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert np.abs(mirrored[:, ::-1].astype(int) - CONTRACT.fit(image)).max() <= 2


def test_the_crop_decides_how_much_of_the_shorter_side_is_seen():
    image = Image.new("RGB", (100, 100), (255, 255, 255))
    image.paste((0, 0, 0), (10, 10, 90, 90))
    bilinear = replace(CONTRACT, interpolation="bilinear")
    assert replace(bilinear, crop=1.0).fit(image)[0, 0].min() == 255
    assert replace(bilinear, crop=0.75).fit(image).max() == 0


def test_the_ends_of_the_longer_side_are_not_seen():
    image = Image.new("RGB", (300, 100), (255, 0, 0))
    image.paste((0, 0, 255), (100, 0, 200, 100))
    pixels = replace(CONTRACT, interpolation="bilinear", crop=1.0).fit(image)
    assert np.abs(pixels[:, 1:-1].astype(int) - (0, 0, 255)).max() == 0


def test_interpolations_differ():
    image = picture(200, 150)
    views = [
        replace(CONTRACT, interpolation=n).fit(image) for n in ("bilinear", "bicubic", "lanczos")
    ]
    assert not np.array_equal(views[0], views[1])
    assert not np.array_equal(views[1], views[2])


def test_a_file_is_read_as_its_image_fits(tmp_path):
    path = tmp_path / "a.png"
    picture(200, 150).save(path)
    assert np.array_equal(CONTRACT.read(path), CONTRACT.fit(picture(200, 150)))


def test_a_large_photo_gives_the_very_pixels_that_pillow_alone_gives(tmp_path):
    path = tmp_path / "a.jpg"
    picture(1600, 1200).save(path, quality=95)
    with Image.open(path) as image:
        side = 0.875 * 1200
        left, top = (1600 - side) / 2, (1200 - side) / 2
        box = (left, top, left + side, top + side)
        plain = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC, box=box))
    assert np.array_equal(CONTRACT.read(path), plain)


def test_a_model_from_before_decoding_was_recorded_reads_a_large_photo_as_it_learnt_to(tmp_path):
    path = tmp_path / "a.jpg"
    picture(1600, 1200).save(path, quality=95)
    with Image.open(path) as image:
        image.draft("RGB", (50, 37))
        assert image.size == (200, 150)
        old = CONTRACT.fit(image)
    assert np.array_equal(replace(CONTRACT, decoding=1).read(path), old)


def test_pixels_become_the_networks_numbers():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    numbers = CONTRACT.normalize(images)
    assert (numbers.shape, numbers.dtype) == ((3, 3, 32, 32), np.float32)
    assert numbers.flags.c_contiguous
    expected = (images / 255 - CONTRACT.mean) / CONTRACT.std
    assert np.allclose(numbers, expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_no_images_become_no_numbers():
    assert CONTRACT.normalize(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 3, 32, 32)


@settings(max_examples=50, deadline=None)
@given(
    size=st.integers(8, MAX_IMAGE_SIZE),
    mean=st.tuples(*[st.floats(-2, 2)] * 3),
    std=st.tuples(*[st.floats(0.01, 2)] * 3),
    interpolation=st.sampled_from(["bilinear", "bicubic", "lanczos"]),
    crop=st.floats(0, 1, exclude_min=True),
)
def test_a_contract_comes_back_from_json(size, mean, std, interpolation, crop):
    contract = InputContract(size, mean, std, interpolation, crop)
    assert InputContract.from_record(json.loads(json.dumps(contract.as_record()))) == contract


GREY = replace(CONTRACT, mean=(0.449,), std=(0.226,))


def test_a_grey_image_reaches_a_network_of_one_channel_as_it_is():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    images = np.repeat(levels[None, :, :, None], 3, axis=3)
    numbers = GREY.normalize(images)
    assert (GREY.channels, numbers.shape, numbers.flags.c_contiguous) == (1, (1, 1, 16, 16), True)
    assert np.allclose(numbers[0, 0], (levels / 255 - 0.449) / 0.226, atol=1e-5)


def test_colors_reach_a_network_of_one_channel_as_the_grey_that_pillow_computes():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    plain = replace(GREY, mean=(0.0,), std=(1 / 255,))
    found = plain.normalize(image[None])[0, 0]
    assert np.allclose(found, np.asarray(Image.fromarray(image).convert("L")), atol=1e-3)


def test_a_record_from_before_decoding_had_a_version_keeps_its_old_meaning():
    old = {
        "image_size": 32, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic", "crop": 0.9,
    }  # fmt: skip
    contract = InputContract.from_record(old)
    assert (contract.decoding, contract.bits) == (1, 16)
    assert json.loads(json.dumps(contract.as_record())) == old  # digests of old models stay


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"decoding": 3},
            "images are decoded by rules of version 3, and this acclimate knows up to 2. "
            "Upgrade acclimate.",
        ),
        ({"bits": 7}, "bits must be from 8 to 16. Got 7."),
        ({"bits": 17}, "bits must be from 8 to 16. Got 17."),
    ],
)
def test_rules_that_are_not_known_are_refused(change, message):
    with pytest.raises(ModelFileError) as caught:
        InputContract.from_record({**CONTRACT.as_record(), **change})
    assert str(caught.value) == message


NAN, INF = float("nan"), float("inf")
STATISTICS = "mean and std must be three numbers each, or one for grey images, std above 0."
WRONG = [
    ("image_size", 7, "image_size must be from 8 to 2048 px. Got 7."),
    ("image_size", 2049, "image_size must be from 8 to 2048 px. Got 2049."),
    (
        "interpolation",
        "area",
        "interpolation must be one of bilinear, bicubic, lanczos. Got 'area'.",
    ),
    ("crop", 0.0, "crop must be in (0, 1]. Got 0.0."),
    ("crop", 1.01, "crop must be in (0, 1]. Got 1.01."),
    ("crop", NAN, "crop must be in (0, 1]. Got nan."),
    ("std", (0.2, 0.0, 0.2), STATISTICS),
    ("std", (0.2, -1.0, 0.2), STATISTICS),
    ("std", (0.2, NAN, 0.2), STATISTICS),
    ("std", (INF, 0.2, 0.2), STATISTICS),
    ("mean", (NAN, 0.5, 0.5), STATISTICS),
    ("mean", (0.5, 0.5, -INF), STATISTICS),
    ("mean", (0.5, 0.5), STATISTICS),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_contract_that_cannot_be_applied_is_refused(name, value, message):
    with pytest.raises(ModelFileError) as caught:
        replace(CONTRACT, **{name: value})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["image_size", "mean", "std", "interpolation", "crop"])
def test_a_record_without_a_field_is_refused(name):
    record = CONTRACT.as_record()
    del record[name]
    with pytest.raises(ModelFileError) as caught:
        InputContract.from_record(record)
    assert str(caught.value) == f"input contract is incomplete or malformed ('{name}')."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", "large"),
        ("image_size", None),
        ("image_size", INF),
        ("image_size", 10**12),
        ("mean", [0.5, 0.5]),
        ("mean", [0.5, 0.5, 0.5, 0.5]),
        ("mean", "abc"),
        ("mean", 0.5),
        ("std", [0.5, 0.5, None]),
        ("std", [0.5, 0.5, [1]]),
        ("crop", {}),
        ("interpolation", ["bicubic"]),
    ],
)
def test_a_malformed_record_from_a_stranger_is_refused(name, value):
    with pytest.raises(ModelFileError):
        InputContract.from_record({**CONTRACT.as_record(), name: value})


@pytest.mark.parametrize("record", [None, [], "contract", 5])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(ModelFileError, match="input contract is incomplete or malformed"):
        InputContract.from_record(record)
