"""The report's section on augmentation: what was kept or refused, why, and how it looks."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from acclimate.augmentation.evidence import Evidence
from acclimate.augmentation.label_probe import augmented_copy
from acclimate.augmentation.policy import Policy
from acclimate.context import derive_seed
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract, Pixels
from acclimate.data.images.decode import read_image
from acclimate.errors import UnreadableImage
from acclimate.reporting.page import render
from acclimate.reporting.thumbnails import data_uri

_VIEWS = 6
_ORIGINALS = 2


@dataclass(frozen=True)
class Shot:
    """A small picture.

    Attributes:
        image: A data URI.
        caption: What it shows.
    """

    image: str
    caption: str


def augmentation_section(policy: Policy, dataset: Dataset, contract: InputContract) -> str:
    """The section as HTML.

    Args:
        policy: That trained the model.
        dataset: Whose training images are shown.
        contract: Of the model.

    Returns:
        One `section` element, its pictures inside.
    """
    return render(
        "augmentation.html",
        kept=_in_words(policy),
        evidence=policy.evidence,
        shots=_shots(policy, dataset, contract),
    )


def _in_words(policy: Policy) -> str:
    flips = [n for n, on in (("mirrored", policy.horizontal_flip),
                             ("turned upside down", policy.vertical_flip)) if on]  # fmt: skip
    told = [f"crops of at least {100 * policy.crop_area:.0f} % of the area"]
    told += [f"half of the images {name}" for name in flips] or ["no flips"]
    if policy.color:
        told.append(f"colors wandering by {100 * 0.9 * policy.color:.0f} %")
    if policy.operations and policy.operations_per_image:
        told.append(f"{policy.operations_per_image} of {len(policy.operations)} operations each")
    told += [f"{name} {alpha:g}" for name, alpha in
             (("erasing", policy.erasing), ("MixUp", policy.mixup), ("CutMix", policy.cutmix))
             if alpha]  # fmt: skip
    return f"Training images: {', '.join(told)}. Never val and test."


def _shots(policy: Policy, dataset: Dataset, contract: InputContract) -> list[Shot]:
    """Two training images with some views each, and what was left out."""
    originals = _some_images(dataset, contract)
    shots = []
    for index, image in enumerate(originals):
        shots.append(Shot(_pictured(contract.fit(image)), "as it is"))
        for view in range(_VIEWS):
            rng = np.random.default_rng(derive_seed(0, "report", index, view))
            shots.append(Shot(_pictured(policy.apply(image, contract, rng)), "as trained on"))
    refused = [e for e in policy.evidence if not e.kept]
    if originals:
        shots += [_refused(line, originals[0], contract) for line in refused]
    return shots


def _refused(line: Evidence, image: Image.Image, contract: InputContract) -> Shot:
    rng = np.random.default_rng(derive_seed(0, "report", line.operation))
    pixels = augmented_copy(image, contract, line.operation, line.strength, rng)
    return Shot(_pictured(pixels), f"left out: {line.operation} at {line.strength:g}")


def _some_images(dataset: Dataset, contract: InputContract) -> list[Image.Image]:
    """The first training image of the first classes that can still be read."""
    rows = dataset.rows("train")
    found: list[Image.Image] = []
    for label in range(len(dataset.classes)):
        members = rows[dataset.labels[rows] == label]
        if not len(members) or len(found) == _ORIGINALS:
            continue
        try:
            place = dataset.path(int(members[0]))
            found.append(read_image(place, at_least=round(1.5 * contract.image_size)))
        except UnreadableImage:
            continue
    return found


def _pictured(pixels: Pixels) -> str:
    return data_uri(Image.fromarray(pixels))
