"""From stored samples to RGB: transparency and samples of 16 bits."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from acclimate.data.images.decode import decode
from acclimate.data.images.preview import decode_preview
from acclimate.data.images.samples import PixelRules

HERE = Path("icons/a.png")


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def drawing(color, *, mode="RGBA", hidden=(255, 255, 255), opacity=255):
    """A ring of one color on transparent pixels."""
    image = Image.new("RGBA", (64, 64), (*hidden, 0))
    ImageDraw.Draw(image).ellipse([10, 10, 50, 50], outline=(*color, opacity), width=3)
    return image.convert(mode)


def contrast(content, **options):
    return float(np.asarray(decode(content, HERE, **options).convert("L"), float).std())


LIGHT = {
    "white": drawing((255, 255, 255)),
    "white, hidden pixels black": drawing((255, 255, 255), hidden=(0, 0, 0)),
    "light grey": drawing((236, 236, 236)),
    "cream": drawing((255, 250, 235)),
    "half transparent": drawing((255, 255, 255), opacity=128),
    "grey with alpha": drawing((255, 255, 255), mode="LA"),
}


@pytest.mark.parametrize("image", LIGHT.values(), ids=LIGHT.keys())
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_light_drawing_on_transparent_pixels_can_be_seen(image, kind):
    content = encoded(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert contrast(content) > 15
    assert decode_preview(content, HERE).ground == "black"
    assert contrast(content, rules=PixelRules(decoding=1)) < 6


@pytest.mark.parametrize("color", [(0, 0, 0), (200, 30, 30), (255, 255, 0), (215, 215, 215)])
def test_other_drawings_stay_on_white(color):
    content = encoded(drawing(color))
    image = decode(content, HERE)
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((30, 11)) == color
    assert decode_preview(content, HERE).ground == "white"


def test_a_light_palette_image_can_be_seen_too():
    image = Image.new("P", (64, 64), 0)
    image.putpalette([255, 255, 255, 255, 255, 255])
    ImageDraw.Draw(image).rectangle([10, 10, 50, 50], outline=1, width=3)
    assert contrast(encoded(image, transparency=0)) > 15


def test_an_opaque_image_with_alpha_is_the_image_without_it():
    image = Image.new("RGB", (40, 30), (250, 250, 250))
    with_alpha = encoded(image.convert("RGBA"))
    assert decode(with_alpha, HERE).getpixel((0, 0)) == (250, 250, 250)
    assert decode_preview(with_alpha, HERE).ground is None
    assert decode_preview(with_alpha, HERE).pixels == decode_preview(encoded(image), HERE).pixels


def test_an_image_without_a_visible_pixel_is_not_the_same_as_a_white_one():
    nothing = encoded(Image.new("RGBA", (40, 30), (255, 255, 255, 0)))
    white = encoded(Image.new("RGB", (40, 30), (255, 255, 255)))
    assert decode(nothing, HERE).tobytes() == decode(white, HERE).tobytes()
    assert decode_preview(nothing, HERE).ground == "clear"
    assert decode_preview(nothing, HERE).pixels != decode_preview(white, HERE).pixels


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_samples_are_scaled_from_their_own_range(kind, bits):
    largest = 2**bits - 1
    samples = np.linspace(0, largest, 4096).astype(np.uint16).reshape(64, 64)
    content = encoded(Image.fromarray(samples), kind)
    image = np.asarray(decode(content, HERE, rules=PixelRules(bits=bits)))
    assert (image.min(), image.max(), len(np.unique(image))) == (0, 255, 256)
    assert decode_preview(content, HERE).peak == largest


def test_samples_above_the_range_become_white_and_do_not_wrap_around():
    samples = np.full((8, 8), 60_000, np.uint16)
    image = decode(encoded(Image.fromarray(samples)), HERE, rules=PixelRules(bits=12))
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_an_image_of_8_bits_has_no_peak_and_no_ground():
    preview = decode_preview(encoded(Image.new("L", (40, 30), 9)), HERE)
    assert (preview.peak, preview.ground, preview.pages) == (None, None, False)


def test_the_pages_of_a_tiff_are_noticed():
    pages = [Image.new("L", (40, 30), 9)]
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages)
    assert decode_preview(content, HERE).pages
    assert not decode_preview(encoded(pages[0], "TIFF"), HERE).pages
