"""The demo: all stages on real images and weights that come with the packages."""

from pathlib import Path

from acclimate.data.sample_data import write_digits, write_shifted
from acclimate.recipe import Recipe

_OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness",
    "contrast", "sharpness", "solarize", "autocontrast", "equalize", "invert", "blur", "noise",
)  # fmt: skip
"""RandAugment's operations without colour (scans are grey), and invert, blur and noise."""


def demo_recipe(folder: Path, *, seed: int = 0) -> Recipe:
    """Writes the images of the demo and returns a recipe for them.

    The images are scikit-learn's handwritten digits. The shifted copy of the test images stands
    for images in production: inverted, blurred, noisy, on a textured background.

    Args:
        folder: Where images and results are written.
        seed: Random seed.

    Returns:
        The recipe.
    """
    digits, shifted = folder / "digits", folder / "digits-shifted"
    if not (digits.exists() and shifted.exists()):
        write_digits(digits)
        write_shifted(digits / "test", shifted)
    return Recipe.model_validate(
        {
            "name": "digits",
            "seed": seed,
            "data": {"path": digits, "test_domains": {"shifted": shifted}},
            "model": {"image_size": 64},
            # Flips are tested on the data; the changes that production makes are not in it.
            "augment": {
                "crop_area": 0.6,
                "operations": _OPERATIONS,
                "operations_per_image": 2,
                "strength": 0.5,
            },
            "fine_tune": {"epochs": 8},
            "compress": {"epochs": 4},
            "registry": {"store": folder / "store", "key": folder / "signing-key.pem"},
        }
    )
