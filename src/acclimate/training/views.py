"""Which images are trained on, and how they are seen."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from acclimate.augmentation.mixing import mixes
from acclimate.augmentation.policy import Policy
from acclimate.context import Context
from acclimate.data.contract import InputContract, Pixels
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.picture import Picture
from acclimate.data.versions import Pictures, evaluated, roomy


@dataclass(frozen=True)
class Views:
    """Which images are trained on, and how they are seen.

    Attributes:
        dataset: The table.
        policy: What is done to training images.
        contract: What the network expects.
        context: Says where decoded images are kept; None keeps none.
        unlabelled: Whether images without a label are trained on too.
    """

    dataset: Dataset
    policy: Policy
    contract: InputContract
    context: Context | None = None
    unlabelled: bool = False

    @property
    def rows(self) -> Rows:
        """int64, (n,): which images are trained on, those without a label last."""
        labelled = self.dataset.rows("train")
        if not self.unlabelled:
            return labelled
        return np.concatenate([labelled, self.dataset.rows("unlabelled")])

    @property
    def fixed(self) -> bool:
        """Whether an image looks the same in every epoch."""
        policy = self.policy
        drawn = bool(policy.operations and policy.operations_per_image)
        flips = policy.horizontal_flip or policy.vertical_flip
        changed = drawn or flips or policy.color > 0 or policy.erasing > 0
        return not (changed or self._crops or mixes(policy))

    @cached_property
    def evaluated(self) -> Pictures:
        """The images as evaluation sees them."""
        return Pictures(self.dataset, evaluated(self.contract), self.context)

    @cached_property
    def trained(self) -> Pictures:
        """What training views are made of."""
        if self._crops:
            return Pictures(self.dataset, roomy(self.contract), self.context)
        return self.evaluated

    @cached_property
    def _drawn_by(self) -> InputContract:
        """Without random crops the images are at the network's size already, and cropped."""
        return self.contract if self._crops else replace(self.contract, crop=1.0)

    @property
    def _crops(self) -> bool:
        return self.policy.crop_area < 1

    def train(self, row: int, seed: int) -> Pixels:
        """One training view, governed by the seed alone: uint8, (S, S, 3)."""
        image = Picture(self.trained.read(row))
        return self.policy.apply(image, self._drawn_by, np.random.default_rng(seed))
