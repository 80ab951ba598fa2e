"""The report's section on augmentation: what is used or not, why, and how it looks."""

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
from acclimate.errors import UnreadableImage, count
from acclimate.reporting.page import render
from acclimate.reporting.thumbnails import data_uri

_VIEWS = 6
_ORIGINALS = 2


@dataclass(frozen=True)
class Example:
    """A small example image.

    Attributes:
        image: A data URI.
        caption: Shown below it.
    """

    image: str
    caption: str


def augmentation_section(policy: Policy, dataset: Dataset, contract: InputContract) -> str:
    """The section as HTML.

    Args:
        policy: The one that the model was trained with.
        dataset: Its training images are shown.
        contract: The model's input contract.

    Returns:
        One `section` element, with images embedded.
    """
    return render(
        "augmentation.html",
        summary=_summary(policy),
        evidence=policy.evidence,
        examples=_examples(policy, dataset, contract),
    )


def _summary(policy: Policy) -> str:
    area = f"crops of at least {100 * policy.crop_area:.0f} % of the area"
    parts = [area if policy.crop_area < 1 else "no random crops"]
    flips = {"horizontal flips": policy.horizontal_flip, "vertical flips": policy.vertical_flip}
    parts += [name for name, used in flips.items() if used] or ["no flips"]
    if policy.color:
        parts.append(f"color jitter of up to {100 * 0.9 * policy.color:.0f} %")
    if policy.operations and policy.operations_per_image:
        number = len(policy.operations)
        parts.append(f"{policy.operations_per_image} of {count(number, 'operation')} per image")
    others = {"random erasing": policy.erasing, "MixUp": policy.mixup, "CutMix": policy.cutmix}
    parts += [f"{name} {value:g}" for name, value in others.items() if value]
    return f"Training images get {', '.join(parts)}. Val and test images are not augmented."


def _examples(policy: Policy, dataset: Dataset, contract: InputContract) -> list[Example]:
    """Two training images, each with some augmented views, then one example of what is not used."""
    originals = _some_images(dataset, contract)
    examples = []
    for index, image in enumerate(originals):
        examples.append(Example(_to_uri(contract.fit(image)), "original"))
        for view in range(_VIEWS):
            rng = np.random.default_rng(derive_seed(0, "report", index, view))
            examples.append(Example(_to_uri(policy.apply(image, contract, rng)), "augmented"))
    refused = [e for e in policy.evidence if not e.kept]
    if originals:
        examples += [_refused(line, originals[0], contract) for line in refused]
    return examples


def _refused(line: Evidence, image: Image.Image, contract: InputContract) -> Example:
    rng = np.random.default_rng(derive_seed(0, "report", line.operation))
    pixels = augmented_copy(image, contract, line.operation, line.strength, rng)
    return Example(_to_uri(pixels), f"not used: {line.operation} {line.strength:g}")


def _some_images(dataset: Dataset, contract: InputContract) -> list[Image.Image]:
    """The first readable training image of each of the first classes."""
    rows = dataset.rows("train")
    found: list[Image.Image] = []
    for label in range(len(dataset.classes)):
        members = rows[dataset.labels[rows] == label]
        if not len(members) or len(found) == _ORIGINALS:
            continue
        try:
            place, side = dataset.path(int(members[0])), round(1.5 * contract.image_size)
            found.append(read_image(place, min_side=side, rules=contract.rules))
        except UnreadableImage:
            continue
    return found


def _to_uri(pixels: Pixels) -> str:
    return data_uri(Image.fromarray(pixels))
