"""Draws docs/faults.png: one photo, and beside it each fault just past its threshold.

The photo is scikit-learn's flower.jpg (by dany13, CC BY 2.0, flickr.com/photos/dany13). Run:

    python docs/draw_faults.py
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from sklearn.datasets import load_sample_image

from acclimate.cleaning.scan.image_stats import ImageStats, measure_image
from acclimate.cleaning.settings import Clean

PLACE = Path(__file__).parent / "faults.png"
SHOWN, TEXT = (160, 107), 16
LIMITS = Clean()

FAULTS: dict[
    str, tuple[Callable[[Image.Image, float], Image.Image], Callable[[ImageStats], bool]]
] = {
    "dark": (
        lambda image, amount: ImageEnhance.Brightness(image).enhance(1 - amount),
        lambda stats: stats.brightness + 2 * stats.contrast < LIMITS.dark,
    ),
    "bright": (
        lambda image, amount: Image.blend(image, Image.new("RGB", image.size, "white"), amount),
        lambda stats: stats.brightness - 2 * stats.contrast > LIMITS.bright,
    ),
    "low contrast": (
        lambda image, amount: ImageEnhance.Contrast(image).enhance(1 - amount),
        lambda stats: stats.contrast < LIMITS.low_contrast,
    ),
    "blurred": (
        lambda image, amount: image.filter(ImageFilter.GaussianBlur(20 * amount)),
        lambda stats: stats.sharpness < LIMITS.blurred,
    ),
    "grey": (
        lambda image, amount: ImageEnhance.Color(image).enhance(1 - amount),
        lambda stats: stats.color < LIMITS.grey,
    ),
}
"""For each fault: how to apply an amount of it, and whether it is flagged."""


def measured(image: Image.Image) -> ImageStats:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.png"
        image.save(path)
        return measure_image(path, LIMITS)


def just_faulty(image: Image.Image, name: str) -> Image.Image:
    """The smallest amount that is flagged, by bisection."""
    change, is_fault = FAULTS[name]
    low, high = 0.0, 1.0
    for _ in range(8):
        middle = (low + high) / 2
        if is_fault(measured(change(image, middle))):
            high = middle
        else:
            low = middle
    return change(image, high)


def main() -> None:
    photo = Image.fromarray(load_sample_image("flower.jpg")).resize((480, 320))
    tiles = {"as it is": photo} | {name: just_faulty(photo, name) for name in FAULTS}
    page = Image.new("RGB", (len(tiles) * (SHOWN[0] + 4), SHOWN[1] + TEXT), "white")
    for place, (name, image) in enumerate(tiles.items()):
        page.paste(image.resize(SHOWN), (place * (SHOWN[0] + 4), 0))
        text = place * (SHOWN[0] + 4) + 2, SHOWN[1] + 2
        ImageDraw.Draw(page).text(text, name, fill="black")
    page.quantize(128).save(PLACE, optimize=True)


if __name__ == "__main__":
    main()
