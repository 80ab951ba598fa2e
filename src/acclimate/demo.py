"""The demo: the main job on real images and real weights that come with the packages."""

from pathlib import Path

from acclimate.data.sample_data import write_digits, write_shifted
from acclimate.recipe import Recipe

_OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness",
    "contrast", "sharpness", "solarize", "autocontrast", "equalize", "invert", "blur", "noise",
)  # fmt: skip
"""RandAugment's without colour (scans are grey), with what scanners and cameras do to digits."""


def demo_recipe(folder: Path, *, seed: int = 0) -> Recipe:
    """Writes the demo's images and gives the recipe that fits them.

    The images are scikit-learn's handwritten digits; the shifted copy of the test images stands
    for what production would send: inverted, blurred, noisy, on a ground.

    Args:
        folder: Where everything goes.
        seed: Of the run.

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
            # That a mirrored 2 is no 2 is found out; what production does to digits is not in them.
            "augment": {
                "crop_area": 0.6,
                "operations": _OPERATIONS,
                "operations_per_image": 2,
                "strength": 0.5,
            },
            "fine_tune": {"epochs": 8},
            "distill": {"epochs": 4},
            "prune": {"epochs": 6},
            "registry": {"store": folder / "store", "key": folder / "signing-key.pem"},
        }
    )
