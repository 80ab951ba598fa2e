"""The training images and their augmentation."""

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
    """The training images and their augmentation.

    Attributes:
        dataset: The table.
        policy: Augmentation of training images.
        contract: Input contract of the network.
        context: Cache of decoded images; None uses no cache.
        unlabelled: Whether to train on images without a label too.
        sizes: Image size of each epoch in px; if empty, the size of the contract.
    """

    dataset: Dataset
    policy: Policy
    contract: InputContract
    context: Context | None = None
    unlabelled: bool = False
    sizes: tuple[int, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits to train on."""
        return ("train", "unlabelled") if self.unlabelled else ("train",)

    @property
    def rows(self) -> Rows:
        """int64, (n,): rows of the training images, those without a label last."""
        return np.concatenate([self.dataset.rows(split) for split in self.splits])

    @property
    def digest(self) -> str:
        """Identifies the images and everything that is done to them."""
        seen = [self.contract.as_record(), self.unlabelled, self.sizes]
        return digest_json([self.dataset.digest, self.policy.digest, *seen])

    @property
    def same_every_epoch(self) -> bool:
        """Whether an image is the same in every epoch."""
        policy = self.policy
        flips = policy.horizontal_flip or policy.vertical_flip
        changed = policy.alters or flips or bool(self.sizes)
        return not (changed or self._crops or mixes(policy))

    @cached_property
    def eval_pictures(self) -> CachedImages:
        """The images without augmentation, as evaluation uses them."""
        return CachedImages(self.dataset, evaluation_form(self.contract), self.context)

    @cached_property
    def train_pictures(self) -> CachedImages:
        """The decoded images that are augmented."""
        if self._crops:
            return CachedImages(self.dataset, crop_form(self.contract), self.context)
        return self.eval_pictures

    @cached_property
    def _drawn_by(self) -> InputContract:
        """The contract for augmentation; without random crops the images are cropped already."""
        return self.contract if self._crops else replace(self.contract, crop=1.0)

    @property
    def _crops(self) -> bool:
        return self.policy.crop_area < 1

    def augmented(self, row: int, seed: int, epoch: int = 1) -> Pixels:
        """An augmented view of an image.

        Args:
            row: Row in the table.
            seed: Random seed.
            epoch: Number of the epoch, from 1.

        Returns:
            uint8, (S, S, 3); (3, S, S, 3) if views are compared, the plain one first.
        """
        return self.partial_view(row, seed, epoch).finish()

    def partial_view(self, row: int, seed: int, epoch: int = 1) -> PartialView:
        """The same image cropped and flipped, with the remaining transforms sampled.

        Args:
            row: Row in the table.
            seed: Random seed.
            epoch: Number of the epoch, from 1.

        Returns:
            The transforms are not applied yet.
        """
        image = ResizableArray(self.train_pictures.read(row))
        drawn_by = self._drawn_by
        if self.sizes:
            drawn_by = replace(drawn_by, image_size=self.sizes[epoch - 1])
        return self.policy.partial_view(image, drawn_by, np.random.default_rng(seed))
