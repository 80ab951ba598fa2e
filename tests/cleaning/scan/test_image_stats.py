import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter

from acclimate.cleaning.scan.image_stats import THUMBNAIL, ImageStats, measure_image, sharpness
from acclimate.data.sample_data import shift
from acclimate.data.settings import Decoding


def scene(seed=0, width=200, height=150):
    """Smooth shapes with crisp edges, as a photo has them."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).copy()
    for _ in range(12):
        x, y = rng.integers(0, width - 20), rng.integers(0, height - 20)
        image[y : y + rng.integers(5, 40), x : x + rng.integers(5, 40)] = rng.integers(0, 256, 3)
    return Image.fromarray(image)


@pytest.fixture
def seen(tmp_path):
    """Saves an image as a file of some kind and looks at it."""

    def see(image, name="a.png", **options):
        image.save(tmp_path / name, **options)
        return measure_image(tmp_path / name, Decoding())

    return see


def test_the_same_picture_in_lossless_formats_has_the_same_pixels_and_another_file(seen):
    looks = [seen(scene(), f"a.{kind}") for kind in ("png", "bmp", "tiff", "ppm")]
    looks.append(seen(scene(), "a.webp", lossless=True))
    assert len({a.pixels for a in looks}) == 1
    assert len({a.digest for a in looks}) == 5
    assert seen(scene(1)).pixels != looks[0].pixels


def test_pixels_tell_a_picture_from_one_of_another_shape(seen):
    wide, high = (Image.new("RGB", size, (9, 9, 9)) for size in ((20, 10), (10, 20)))
    assert seen(wide).pixels != seen(high).pixels


def test_a_turned_file_has_the_pixels_of_the_upright_one(seen):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = scene().transpose(Image.Transpose.ROTATE_90)
    turned, upright = seen(stored, "turned.png", exif=exif), seen(scene(), "upright.png")
    assert turned.pixels == upright.pixels
    assert turned.thumbnail == upright.thumbnail


def test_a_jpeg_with_other_metadata_is_the_same_picture(seen, tmp_path):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "a rose"
    scene().save(stream, "JPEG")
    plain = seen(scene(), "plain.jpg")
    described = seen(scene(), "described.jpg", exif=exif, comment=b"mine")
    assert plain.digest != described.digest
    assert plain.pixels == described.pixels
    assert seen(scene(), "coarse.jpg", quality=30).pixels != plain.pixels
    exif[0x0112] = 6
    assert seen(scene(), "turned.jpg", exif=exif).pixels != plain.pixels


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_jpeg_of_other_content_is_another_picture(data):
    from acclimate.data.images.preview import _jpeg_pixels

    stream = io.BytesIO()
    scene(width=40, height=30).save(stream, "JPEG")
    content = bytearray(stream.getvalue())
    start = content.index(b"\xff\xda") + 4
    place = data.draw(st.integers(start, len(content) - 1))
    before = _jpeg_pixels(bytes(content), 1)
    content[place] ^= data.draw(st.integers(1, 255))
    assert _jpeg_pixels(bytes(content), 1) != before


@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGB", "a.png"), ("L", "a.png"), ("P", "a.gif"), ("1", "a.png"), ("RGBA", "a.png"),
     ("CMYK", "a.jpg"), ("L", "a.jpg"), ("RGB", "a.jpg")],
)  # fmt: skip
def test_the_mode_is_told_as_it_is_stored(seen, mode, name):
    assert seen(scene().convert(mode), name).mode == mode


def test_brightness_contrast_and_entropy_are_those_of_the_luminance(seen):
    levels = np.repeat([0, 255], 50).astype(np.uint8).reshape(10, 10)
    half = seen(Image.fromarray(levels))
    assert (half.brightness, half.contrast, half.entropy) == pytest.approx((0.5, 0.5, 1.0))
    flat = seen(Image.new("RGB", (10, 10), (51, 51, 51)))
    assert (flat.brightness, flat.contrast, flat.entropy) == pytest.approx((0.2, 0.0, 0.0))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_figures_hardly_depend_on_how_an_image_is_stored(seen, name):
    small, large = seen(scene()), seen(scene().resize((1600, 1200)), name)
    assert (large.width, large.height) == (1600, 1200)
    for figure in ("brightness", "contrast", "color"):
        assert getattr(large, figure) == pytest.approx(getattr(small, figure), abs=0.02)
    near = np.frombuffer(large.thumbnail, np.uint8).astype(int)
    assert np.abs(near - np.frombuffer(small.thumbnail, np.uint8)).max() < 12


def test_grey_is_told_from_colour_however_it_is_stored(seen):
    grey = scene().convert("L")
    for image, name in ((grey, "a.png"), (grey.convert("RGB"), "b.png"), (grey, "c.jpg")):
        assert seen(image, name).color < 0.005
    assert seen(grey.convert("RGB"), "d.jpg").color < 0.005
    assert seen(scene(), "e.jpg").color > 0.05


@pytest.mark.parametrize("seed", range(5))
def test_every_blur_takes_sharpness_and_contrast_does_not(seen, seed):
    image = scene(seed)
    values = [seen(image.filter(ImageFilter.GaussianBlur(s))).sharpness for s in (0, 1.5, 3)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.6
    assert max(values[1:]) < 0.45
    weaker = seen(ImageEnhance.Contrast(image).enhance(0.5)).sharpness
    assert weaker == pytest.approx(values[0], rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (2, 50), (3, 3), (1, 300)])
def test_the_smallest_images_have_figures_too(seen, shape):
    found = seen(Image.fromarray(np.full(shape, 7, np.uint8)))
    assert found.sharpness == 0
    assert len(found.thumbnail) == THUMBNAIL**2


def test_sharpness_of_noise_is_the_filters_ratio():
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    assert sharpness(noise) == pytest.approx(5**0.5, rel=0.02)


def test_a_bad_file_is_an_answer_with_what_is_known_of_it(tmp_path):
    (tmp_path / "a.png").write_bytes(b"mine")
    assert measure_image(tmp_path / "b.png", Decoding()) == ImageStats(
        reason="cannot be read (No such file or directory)"
    )
    found = measure_image(tmp_path / "a.png", Decoding())
    assert found.reason == "file is not an image"
    assert found.digest is not None
    assert found.pixels is None


def test_a_shifted_digit_is_another_picture(seen, digits):
    with Image.open(next((digits / "test" / "3").glob("*.png"))) as image:
        plain = image.convert("RGB")
    moved = Image.fromarray(shift(plain, np.random.default_rng(0)))
    assert seen(moved).pixels != seen(plain).pixels


def test_a_look_for_copies_alone_measures_no_faults_and_sees_the_same_picture(tmp_path):
    scene(width=300, height=200).save(tmp_path / "a.jpg", quality=95)
    whole, less = (
        measure_image(tmp_path / "a.jpg", Decoding(), with_quality=f) for f in (True, False)
    )
    measured = ("brightness", "contrast", "sharpness", "entropy", "color")
    assert [getattr(less, name) for name in measured] == [None] * 5
    assert None not in [getattr(whole, name) for name in measured]
    same = ("digest", "width", "height", "mode", "pixels", "reason")
    assert [getattr(less, name) for name in same] == [getattr(whole, name) for name in same]
    a, b = (np.frombuffer(seen.thumbnail, np.uint8).astype(float) for seen in (whole, less))
    assert np.corrcoef(a, b)[0, 1] > 0.999


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tiff", "a.webp"])
def test_exif_orientation_is_applied_and_kept_as_a_value(seen, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, plain = seen(scene(), f"t{name}", exif=exif), seen(scene(), name)
    assert (turned.orientation, turned.width, turned.height) == (6, 150, 200)
    assert (plain.orientation, plain.width, plain.height) == (1, 200, 150)
