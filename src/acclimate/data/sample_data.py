"""Sample images: the scanned digits of scikit-learn, written as files.

Source: E. Alpaydin, C. Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, https://doi.org/10.24432/C50P49; 1,797 digits of 8 x 8 px in scikit-learn.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

from acclimate.context import derive_seed
from acclimate.data.images.contract import Pixels
from acclimate.files import atomic_folder

SIZE = 64
"""px. The 8 x 8 scans are enlarged: a convolutional network sees nothing in 8 pixels."""

_SPLITS = {"train": 0.6, "val": 0.15, "test": 0.25}


def write_digits(folder: Path, *, per_class: int | None = None, seed: int = 0) -> None:
    """Writes the digits as `<split>/<digit>/<number>.png`.

    Args:
        folder: The new folder; an existing one is replaced.
        per_class: The largest number of images per digit, over all splits.
        seed: For the assignment to splits.
    """
    images, labels = _digits()
    rng = np.random.default_rng(derive_seed(seed, "digits"))
    with atomic_folder(folder) as part:
        for digit in range(10):
            members = rng.permutation(np.flatnonzero(labels == digit))[:per_class]
            ends = np.cumsum([round(f * len(members)) for f in _SPLITS.values()])
            for split, some in zip(_SPLITS, np.split(members, ends[:-1]), strict=True):
                place = part / split / str(digit)
                place.mkdir(parents=True)
                for index in some:
                    Image.fromarray(_enlarged(images[index])).save(place / f"{index:04d}.png")


def write_shifted(source: Path, folder: Path, *, seed: int = 0) -> None:
    """Writes a copy of `<class>/<image>` with a domain shift, as production data may have.

    Each image is put on a background of another color; half of them are inverted; all are blurred
    and noisy.

    Args:
        source: Folder of class folders.
        folder: The new folder.
        seed: Random seed.
    """
    with atomic_folder(folder) as part:
        for path in sorted(source.glob("*/*.png")):
            rng = np.random.default_rng(derive_seed(seed, "shift", path.parent.name, path.name))
            place = part / path.parent.name
            place.mkdir(exist_ok=True)
            with Image.open(path) as image:
                Image.fromarray(shift(image.convert("RGB"), rng)).save(place / path.name)


def shift(image: Image.Image, rng: np.random.Generator) -> Pixels:
    """Applies the demo's domain shift to one image.

    Args:
        image: RGB.
        rng: Draws background, inversion, blur and noise.

    Returns:
        uint8, (H, W, 3).
    """
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.0)))
    pixels = np.asarray(blurred, np.float32) / 255
    if rng.random() < 0.5:
        pixels = 1 - pixels
    height, width = pixels.shape[:2]
    ramp = np.linspace(-1, 1, width)[None, :, None] * rng.uniform(-0.15, 0.15, 3)
    ground = rng.uniform(0.15, 0.45, 3) + ramp
    pixels = ground + pixels * (rng.uniform(0.75, 0.95) - ground)
    pixels = pixels + rng.normal(0, rng.uniform(0.02, 0.08), (height, width, 3))
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    bunch = load_digits()
    return bunch.images, bunch.target


def _enlarged(scan: np.ndarray) -> Pixels:
    """8 x 8 samples of 0 to 16 to an image of 64 x 64."""
    grey = Image.fromarray((scan * (255 / 16)).astype(np.uint8))
    return np.asarray(grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
