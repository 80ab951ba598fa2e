"""The augmentation policy of a training run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from acclimate.arguments import checked
from acclimate.augmentation.crops import random_crop
from acclimate.augmentation.evidence import Evidence, PolicyRecord
from acclimate.augmentation.operations import OPERATIONS, size_of, vertical_flip
from acclimate.augmentation.parameters import Size
from acclimate.augmentation.sampled import AppliedOp, Chain, PartialView, SampledTransform
from acclimate.augmentation.settings import APART_FROM_MIXING, PHOTO_OPERATIONS, Augment
from acclimate.context import Context
from acclimate.data.images.contract import InputContract, Pixels, Resizable
from acclimate.data.images.fast_resize import flip_horizontal
from acclimate.errors import DataError, RecipeError, near_names, reason
from acclimate.files import AnyPath, digest_json, read_record, write_record

FORMAT = 4
_DEFAULT = Augment()
_HERE = Context()
_MAX_CHAIN_LENGTH = 3
"""Operations in one of AugMix's chains."""
_JITTER = ("brightness", "contrast", "color")


@checked
@dataclass(frozen=True)
class Policy:
    """The augmentations of a training run, with the evidence for them.

    Attributes:
        crop_area: Smallest part of the image area that a crop shows, in (0, 1].
        horizontal_flip: Whether half of the images are mirrored.
        color: Strength of the color jitter, in [0, 1].
        operations: The operations to sample from for each image.
        operations_per_image: How many operations each image gets.
        strength: Of each operation, in [0, 1].
        vertical_flip: Whether half of the images are flipped vertically.
        strengths: Of operations with a strength of their own; above 1 goes beyond the usual range.
        weights: Relative frequencies of operations; 1 for those without a weight.
        vary: Whether the strength is sampled between 0 and the operation's, for each image.
        chains: Number of AugMix chains; 0 applies the operations one after another.
        erasing: Part of the images that get random erasing.
        mixup: Alpha of MixUp; 0 is off.
        cutmix: Alpha of CutMix; 0 is off.
        consistency: Weight of the divergence between predictions on three views of an image; 0
            trains on one view.
        evidence: For each operation that was tested; not part of the digest.
    """

    crop_area: float
    horizontal_flip: bool
    color: float
    operations: tuple[str, ...]
    operations_per_image: int
    strength: float
    vertical_flip: bool = False
    strengths: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    vary: bool = False
    chains: int = 0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    consistency: float = 0.0
    evidence: tuple[Evidence, ...] = ()

    def __post_init__(self) -> None:
        """Refuses unknown operations, and consistency together with MixUp or CutMix."""
        for name in (*self.operations, *self.strengths, *self.weights):
            if name not in OPERATIONS:
                raise DataError(f"no augmentation {name!r}. {near_names(name, OPERATIONS)}")
        if self.consistency and (self.mixup or self.cutmix):
            raise DataError(f"consistency {APART_FROM_MIXING}.")

    @cached_property
    def digest(self) -> str:
        """Of all fields that change an image."""
        return digest_json({"format": FORMAT, **self.as_record()})

    def as_record(self) -> dict[str, Any]:
        """The fields that change an image, as JSON."""
        fields = asdict(replace(self, evidence=()))
        del fields["evidence"]
        return {**fields, "operations": list(self.operations)}

    @property
    def alters(self) -> bool:
        """Whether anything is done apart from crops and flips."""
        with_operations = bool(self.operations and self.operations_per_image)
        return with_operations or self.color > 0 or self.erasing > 0

    @property
    def compares(self) -> bool:
        """Whether each image is shown in several views at once, for the consistency loss."""
        return self.consistency > 0 and self.alters

    def apply(self, image: Resizable, contract: InputContract, rng: np.random.Generator) -> Pixels:
        """One augmented view of an image.

        Args:
            image: RGB, any size.
            contract: Gives the size and the interpolation.
            rng: Samples everything random.

        Returns:
            uint8, (S, S, 3).
        """
        pixels = self._crop_and_flip(image, contract, rng)
        return self.sample_transform(size_of(pixels), rng).apply(pixels)

    def partial_view(
        self, image: Resizable, contract: InputContract, rng: np.random.Generator
    ) -> PartialView:
        """A cropped and flipped image, with the remaining transforms sampled.

        Args:
            image: RGB, any size.
            contract: Gives the size and the interpolation.
            rng: Samples everything random.

        Returns:
            One altered view; with a consistency loss, the plain view and two altered ones.
        """
        pixels = self._crop_and_flip(image, contract, rng)
        size, altered = size_of(pixels), 2 if self.compares else 1
        transforms = tuple(self.sample_transform(size, rng) for _ in range(altered))
        return PartialView(pixels, transforms)

    def _crop_and_flip(
        self, image: Resizable, contract: InputContract, rng: np.random.Generator
    ) -> Pixels:
        """Crops at random, and flips at random if the policy flips."""
        pixels = random_crop(image, contract, self.crop_area, rng)
        if self.horizontal_flip and rng.random() < 0.5:
            pixels = flip_horizontal(pixels)
        if self.vertical_flip and rng.random() < 0.5:
            pixels = vertical_flip(pixels)
        return pixels

    def sample_transform(self, size: Size, rng: np.random.Generator) -> SampledTransform:
        """Samples everything but crop and flips.

        Args:
            size: Of the image.
            rng: Samples everything random.

        Returns:
            Color jitter, operations and erasing.
        """
        ops = [AppliedOp(n, OPERATIONS[n].sample(size, self.color, rng)) for n in self._jittered]
        chains: tuple[Chain, ...] = ()
        image_weight = 1.0
        if self.operations and self.operations_per_image:
            if self.chains:
                mixed = rng.beta(1, 1)
                image_weight, chains = 1 - mixed, self._sample_chains(mixed, size, rng)
            else:
                ops += self._sample_ops(size, rng)
        erase = self.erasing and rng.random() < self.erasing
        last = (AppliedOp("erase", OPERATIONS["erase"].sample(size, 1.0, rng)),) if erase else ()
        return SampledTransform(tuple(ops), chains, image_weight, last)

    @property
    def _jittered(self) -> tuple[str, ...]:
        return _JITTER if self.color else ()

    def _sample_ops(self, size: Size, rng: np.random.Generator) -> list[AppliedOp]:
        """Samples as many operations as each image gets."""
        ops = []
        number = self.operations_per_image
        for index in rng.choice(len(self.operations), number, p=self._probabilities):
            name = self.operations[index]
            strength = self.strengths.get(name, self.strength)
            if self.vary:
                strength *= rng.random()
            ops.append(AppliedOp(name, OPERATIONS[name].sample(size, strength, rng)))
        return ops

    def _sample_chains(
        self, total: float, size: Size, rng: np.random.Generator
    ) -> tuple[Chain, ...]:
        """Samples AugMix chains (Hendrycks et al. 2019, arXiv 1912.02781)."""
        chains = []
        for weight in rng.dirichlet(np.ones(self.chains)):
            ops: list[AppliedOp] = []
            for _ in range(rng.integers(1, _MAX_CHAIN_LENGTH + 1)):
                ops += self._sample_ops(size, rng)
            chains.append(Chain(float(total * weight), tuple(ops)))
        return tuple(chains)

    @cached_property
    def _probabilities(self) -> list[float] | None:
        if not self.weights:
            return None
        weights = np.asarray([self.weights.get(name, 1.0) for name in self.operations])
        return list(weights / weights.sum())

    def save(self, path: AnyPath) -> None:
        """Writes JSON, atomically."""
        evidence = [line.model_dump() for line in self.evidence]
        write_record(Path(path), FORMAT, {**self.as_record(), "evidence": evidence})

    @classmethod
    def load(cls, path: AnyPath) -> Self:
        """Reads what `save` wrote.

        Args:
            path: The file.

        Returns:
            The policy.

        Raises:
            DataError: The file does not exist, or is not a policy.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError("no such file.", where=path, hint="`acclimate augment` writes one.")
        fields = read_record(path, "policy", FORMAT)
        try:
            read = PolicyRecord.model_validate(fields)
            return cls(**{name: getattr(read, name) for name in PolicyRecord.model_fields})
        except ValidationError as error:
            first = error.errors()[0]
            fault = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
            raise DataError(f"file is not a policy ({fault}).", where=path) from error
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"file is not a policy ({reason(error)}).", where=path) from error


def jitter(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Color jitter: brightness, contrast and saturation change by up to 90 % of the strength.

    Args:
        pixels: uint8, (S, S, 3).
        strength: In [0, 1].
        rng: Samples the changes.

    Returns:
        uint8, (S, S, 3).
    """
    for name in _JITTER:
        pixels = OPERATIONS[name](pixels, strength, rng)
    return pixels


def choose_policy(settings: Augment = _DEFAULT, *, context: Context = _HERE) -> Policy:
    """The policy of some settings, without any data.

    Settings left at auto are those of the named policy. The policy "auto", which otherwise tests
    augmentations on the data (`acclimate.augmentation.auto_policy`), is here a gentle one that does
    not flip.

    Args:
        settings: The augment section.
        context: The run.

    Returns:
        The policy.

    Raises:
        RecipeError: Consistency is set, and the policy does not alter the views.
    """
    policy = with_overrides(POLICIES[settings.policy], settings)
    if policy.consistency and not policy.alters:
        raise RecipeError(
            "consistency needs altered views, and this policy only crops and flips.",
            where="augment.consistency",
            hint="Set operations or color as well, or leave consistency out.",
        )
    return policy


def with_overrides(policy: Policy, settings: Augment) -> Policy:
    """A policy with its fields replaced by explicit settings.

    Args:
        policy: Gives the fields that are left at "auto".
        settings: The fields that were set and are not "auto" replace the policy's.

    Returns:
        The policy.
    """
    fields = {
        name: getattr(settings, name) for name in _OVERRIDES if name in settings.model_fields_set
    }
    given = {name: value for name, value in fields.items() if value != "auto"}
    if "strength" in given:
        given |= {"strengths": {}, "vary": False}
    elif "operations" in given:
        names = given["operations"]
        given["strengths"] = {n: s for n, s in policy.strengths.items() if n in names}
    if given.get("operations") and not policy.operations_per_image:
        # Operations set on a policy without any: as many and as strong as the gentle policy's.
        gentle = POLICIES["auto"]
        given.setdefault("operations_per_image", gentle.operations_per_image)
        given.setdefault("strength", gentle.strength)
    if "operations" in given:
        names = given["operations"]
        given["weights"] = {n: w for n, w in policy.weights.items() if n in names}
    made = replace(policy, **{"consistency": 0.0, **given})
    if "consistency" in given or made.mixup or made.cutmix or not made.alters:
        return made
    return replace(made, consistency=policy.consistency)


_OVERRIDES = (
    "crop_area", "horizontal_flip", "vertical_flip", "color", "operations",
    "operations_per_image", "strength", "erasing", "mixup", "cutmix", "consistency",
)  # fmt: skip

_NOTHING = Policy(
    crop_area=1.0,
    horizontal_flip=False,
    color=0.0,
    operations=(),
    operations_per_image=0,
    strength=0.0,
)
_PHOTOS = replace(_NOTHING, crop_area=0.5, horizontal_flip=True)

POLICIES: dict[str, Policy] = {
    # Without data: weak operations that hardly ever change a label, and no flips.
    "auto": replace(
        _NOTHING,
        crop_area=0.6,
        color=0.3,
        operations=PHOTO_OPERATIONS,
        operations_per_image=1,
        strength=0.3,
    ),
    "none": _NOTHING,
    "basic": replace(_PHOTOS, color=0.3),
    # Two operations at 9 of 30 (Cubuk et al. 2019, arXiv 1909.13719).
    "randaugment": replace(
        _PHOTOS, operations=PHOTO_OPERATIONS, operations_per_image=2, strength=0.3
    ),
    # One operation, any strength up to a wide range (Müller and Hutter 2021, arXiv 2103.10158).
    "trivialaugment": replace(
        _PHOTOS,
        operations=PHOTO_OPERATIONS,
        operations_per_image=1,
        strength=1.0,
        vary=True,
        strengths={
            "shear_x": 2.6,
            "shear_y": 2.6,  # 45 degrees
            "rotate": 4.5,  # 135 degrees
            "brightness": 1.1,
            "color": 1.1,
            "contrast": 1.1,
            "sharpness": 1.1,  # 99 %
            "posterize": 1.5,  # 2 bits
        },
    ),
    # Three chains of one to three operations (Hendrycks et al. 2019, arXiv 1912.02781), without
    # those that its authors test against: color, contrast, brightness, sharpness.
    "augmix": replace(
        _PHOTOS,
        operations=(
            "autocontrast",
            "equalize",
            "posterize",
            "rotate",
            "solarize",
            "shear_x",
            "shear_y",
            "translate_x",
            "translate_y",
        ),
        operations_per_image=1,
        strength=0.3,
        chains=3,
        consistency=12.0,
    ),
}
"""The named policies; "auto" is the one for lack of data."""
