"""Which images are trained on, and how they are seen."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from acclimate.augmentation.mixing import mixes
from acclimate.augmentation.policy import Policy
from acclimate.augmentation.sampled import PartialView
from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.cached_images import CachedImages, crop_form, evaluation_form
from acclimate.data.images.contract import InputContract, Pixels
from acclimate.data.images.fast_resize import ResizableArray
from acclimate.files import digest_json


@dataclass(frozen=True)
class TrainingImages:
    """Which images are trained on, and how they are seen.

    Attributes:
        dataset: The table.
        policy: What is done to training images.
        contract: What the network expects.
        context: Says where decoded images are kept; None keeps none.
        unlabelled: Whether images without a label are trained on too.
        sizes: Side in px of the training images in each epoch; the contract's where empty.
    """

    dataset: Dataset
    policy: Policy
    contract: InputContract
    context: Context | None = None
    unlabelled: bool = False
    sizes: tuple[int, ...] = ()

    @property
    def rows(self) -> Rows:
        """int64, (n,): which images are trained on, those without a label last."""
        labelled = self.dataset.rows("train")
        if not self.unlabelled:
            return labelled
        return np.concatenate([labelled, self.dataset.rows("unlabelled")])

    @property
    def digest(self) -> str:
        """Identifies the images and everything that is done to them."""
        seen = [self.contract.as_record(), self.unlabelled, self.sizes]
        return digest_json([self.dataset.digest, self.policy.digest, *seen])

    @property
    def same_every_epoch(self) -> bool:
        """Whether an image looks the same in every epoch."""
        policy = self.policy
        flips = policy.horizontal_flip or policy.vertical_flip
        changed = policy.alters or flips or bool(self.sizes)
        return not (changed or self._crops or mixes(policy))

    @cached_property
    def eval_pictures(self) -> CachedImages:
        """The images as evaluation sees them."""
        return CachedImages(self.dataset, evaluation_form(self.contract), self.context)

    @cached_property
    def train_pictures(self) -> CachedImages:
        """What training views are made of."""
        if self._crops:
            return CachedImages(self.dataset, crop_form(self.contract), self.context)
        return self.eval_pictures

    @cached_property
    def _drawn_by(self) -> InputContract:
        """Without random crops the images are at the network's size already, and cropped."""
        return self.contract if self._crops else replace(self.contract, crop=1.0)

    @property
    def _crops(self) -> bool:
        return self.policy.crop_area < 1

    def augmented(self, row: int, seed: int, epoch: int = 1) -> Pixels:
        """What an image shows of itself, governed by the seed and the epoch's size.

        Args:
            row: In the table.
            seed: Of everything random.
            epoch: From 1.

        Returns:
            uint8, (S, S, 3); where views are compared (3, S, S, 3), the plain one first.
        """
        return self.partial_view(row, seed, epoch).finish()

    def partial_view(self, row: int, seed: int, epoch: int = 1) -> PartialView:
        """The same image cropped and flipped, with the remaining transforms sampled.

        Args:
            row: In the table.
            seed: Of everything random.
            epoch: From 1.

        Returns:
            The transforms are not applied yet.
        """
        image = ResizableArray(self.train_pictures.read(row))
        drawn_by = self._drawn_by
        if self.sizes:
            drawn_by = replace(drawn_by, image_size=self.sizes[epoch - 1])
        return self.policy.partial_view(image, drawn_by, np.random.default_rng(seed))
