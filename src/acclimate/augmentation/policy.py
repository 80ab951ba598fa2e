"""What is done to training images, as a value that travels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from pydantic import ValidationError

from acclimate.augmentation.crops import crop
from acclimate.augmentation.evidence import Evidence, PolicyRecord
from acclimate.augmentation.operations import OPERATIONS, flip_y, side_of
from acclimate.augmentation.parameters import Side
from acclimate.augmentation.sampled import Begun, Chain, Change, Drawn
from acclimate.augmentation.settings import APART_FROM_MIXING, PHOTO_OPERATIONS, Augment
from acclimate.context import Context
from acclimate.data.images.contract import InputContract, Pixels, Resizable
from acclimate.data.images.fast_resize import mirrored
from acclimate.errors import DataError, RecipeError, near_names, reason
from acclimate.files import digest_json, read_json, write_json

FORMAT = 3
_DEFAULT = Augment()
_HERE = Context()
_MOST_LINKS = 3
"""Operations in one of AugMix's chains."""
_JITTER = ("brightness", "contrast", "color")


@dataclass(frozen=True)
class Policy:
    """The augmentations of a training run, and why.

    Attributes:
        crop_area: Smallest part of the area a crop shows, in (0, 1].
        horizontal_flip: Whether half of the images are mirrored.
        color: How far colours wander, in [0, 1].
        operations: What is drawn from for each image.
        operations_per_image: How many are drawn.
        strength: Of each of them, in [0, 1].
        vertical_flip: Whether half of the images are turned upside down.
        strengths: Of operations that have one of their own; above 1 goes beyond the usual range.
        weights: How often an operation is drawn, where not 1; relative.
        vary: Whether each image draws its strength between 0 and the operation's.
        chains: Of AugMix; 0 applies the operations one after another.
        erasing: Part of the images in which a rectangle is erased.
        mixup: Alpha of MixUp; 0 is off.
        cutmix: Alpha of CutMix; 0 is off.
        consistency: Weight of the divergence between the answers to three views of an image; 0
            shows one view.
        evidence: For each operation that was judged; changes no picture.
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
        """Refuses an operation that does not exist, and views that cannot be compared."""
        for name in (*self.operations, *self.strengths, *self.weights):
            if name not in OPERATIONS:
                raise DataError(f"no augmentation {name!r}. {near_names(name, OPERATIONS)}")
        if self.consistency and (self.mixup or self.cutmix):
            raise DataError(f"consistency {APART_FROM_MIXING}.")

    @cached_property
    def digest(self) -> str:
        """Stands for all the fields that change a picture."""
        return digest_json({"format": FORMAT, **self.as_record()})

    def as_record(self) -> dict[str, Any]:
        """The fields that change a picture, as JSON."""
        fields = asdict(replace(self, evidence=()))
        del fields["evidence"]
        return {**fields, "operations": list(self.operations)}

    @property
    def alters(self) -> bool:
        """Whether anything is done beside crops and flips."""
        drawn = bool(self.operations and self.operations_per_image)
        return drawn or self.color > 0 or self.erasing > 0

    @property
    def compares(self) -> bool:
        """Whether several views of each image are shown at once."""
        return self.consistency > 0 and self.alters

    def apply(self, image: Resizable, contract: InputContract, rng: np.random.Generator) -> Pixels:
        """One training view of an image.

        Args:
            image: RGB, any size.
            contract: Gives the size and the interpolation.
            rng: Draws everything random.

        Returns:
            uint8, (S, S, 3).
        """
        pixels = self._placed(image, contract, rng)
        return self.draw(side_of(pixels), rng).apply(pixels)

    def begin(self, image: Resizable, contract: InputContract, rng: np.random.Generator) -> Begun:
        """A picture cropped and flipped, with all that is to be altered drawn.

        Args:
            image: RGB, any size.
            contract: Gives the size and the interpolation.
            rng: Draws everything random.

        Returns:
            One view, or where views are compared the plain one and two that are altered, each in
            another way.
        """
        pixels = self._placed(image, contract, rng)
        side, altered = side_of(pixels), 2 if self.compares else 1
        return Begun(pixels, tuple(self.draw(side, rng) for _ in range(altered)))

    def _placed(
        self, image: Resizable, contract: InputContract, rng: np.random.Generator
    ) -> Pixels:
        """Cropped and flipped."""
        pixels = crop(image, contract, self.crop_area, rng)
        if self.horizontal_flip and rng.random() < 0.5:
            pixels = mirrored(pixels)
        if self.vertical_flip and rng.random() < 0.5:
            pixels = flip_y(pixels)
        return pixels

    def draw(self, side: Side, rng: np.random.Generator) -> Drawn:
        """What is to be done to a picture beside crops and flips.

        Args:
            side: Of the picture.
            rng: Draws everything random.

        Returns:
            Colours, operations, erasing.
        """
        changes = [Change(n, OPERATIONS[n].draw(side, self.color, rng)) for n in self._jittered]
        chains: tuple[Chain, ...] = ()
        share = 1.0
        if self.operations and self.operations_per_image:
            if self.chains:
                mixed = rng.beta(1, 1)
                share, chains = 1 - mixed, self._chains(mixed, side, rng)
            else:
                changes += self._operations(side, rng)
        erased = self.erasing and rng.random() < self.erasing
        last = (Change("erase", OPERATIONS["erase"].draw(side, 1.0, rng)),) if erased else ()
        return Drawn(tuple(changes), chains, share, last)

    @property
    def _jittered(self) -> tuple[str, ...]:
        return _JITTER if self.color else ()

    def _operations(self, side: Side, rng: np.random.Generator) -> list[Change]:
        """As many as each image gets, one after another."""
        changes = []
        for index in rng.choice(len(self.operations), self.operations_per_image, p=self._chances):
            name = self.operations[index]
            strength = self.strengths.get(name, self.strength)
            if self.vary:
                strength *= rng.random()
            changes.append(Change(name, OPERATIONS[name].draw(side, strength, rng)))
        return changes

    def _chains(self, share: float, side: Side, rng: np.random.Generator) -> tuple[Chain, ...]:
        """AugMix (Hendrycks et al. 2019, arXiv 1912.02781): chains blended into the image."""
        chains = []
        for weight in rng.dirichlet(np.ones(self.chains)):
            changes: list[Change] = []
            for _ in range(rng.integers(1, _MOST_LINKS + 1)):
                changes += self._operations(side, rng)
            chains.append(Chain(float(share * weight), tuple(changes)))
        return tuple(chains)

    @cached_property
    def _chances(self) -> list[float] | None:
        if not self.weights:
            return None
        weights = np.asarray([self.weights.get(name, 1.0) for name in self.operations])
        return list(weights / weights.sum())

    def save(self, path: Path) -> None:
        """Writes JSON, atomically."""
        evidence = [line.model_dump() for line in self.evidence]
        write_json(path, {"format": FORMAT, **self.as_record(), "evidence": evidence})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote.

        Args:
            path: The file.

        Returns:
            The policy.

        Raises:
            DataError: There is no file, or it is no policy.
        """
        if not path.is_file():
            raise DataError("no such file.", where=path, hint="`acclimate augment` writes one.")
        record = read_json(path)
        try:
            fields = dict(cast("dict[str, Any]", record))
            if int(fields.pop("format")) > FORMAT:
                raise DataError("policy was written by a newer acclimate.", where=path)
            read = PolicyRecord.model_validate(fields)
            return cls(**{name: getattr(read, name) for name in PolicyRecord.model_fields})
        except ValidationError as error:
            first = error.errors()[0]
            told = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
            raise DataError(f"file is not a policy ({told}).", where=path) from error
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"file is not a policy ({reason(error)}).", where=path) from error


def jitter(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation, each wandering by up to 90 % of the strength.

    Args:
        pixels: uint8, (S, S, 3).
        strength: In [0, 1].
        rng: Draws how far.

    Returns:
        uint8, (S, S, 3).
    """
    for name in _JITTER:
        pixels = OPERATIONS[name](pixels, strength, rng)
    return pixels


def choose_policy(settings: Augment = _DEFAULT, *, context: Context = _HERE) -> Policy:
    """The policy of some settings, without looking at any data.

    What is left at auto is that of the named policy. The policy "auto", which asks the data
    (`acclimate.augmentation.auto_policy`), is here a gentle one that mirrors nothing.

    Args:
        settings: The section.
        context: The run.

    Returns:
        The policy.

    Raises:
        RecipeError: Views are to be compared, and nothing makes them differ.
    """
    policy = by_hand(POLICIES[settings.policy], settings)
    if policy.consistency and not policy.alters:
        raise RecipeError(
            "consistency compares altered views, and this policy alters none.",
            where="augment.consistency",
            hint="Give operations or color as well, or leave it out.",
        )
    return policy


def by_hand(policy: Policy, settings: Augment) -> Policy:
    """A policy with what was set by hand in place of its own.

    Args:
        policy: What "auto" means.
        settings: Those that were given count, unless as "auto".

    Returns:
        The policy.
    """
    fields = {
        name: getattr(settings, name) for name in _BY_HAND if name in settings.model_fields_set
    }
    given = {name: value for name, value in fields.items() if value != "auto"}
    if "strength" in given:
        given |= {"strengths": {}, "vary": False}
    elif "operations" in given:
        names = given["operations"]
        given["strengths"] = {n: s for n, s in policy.strengths.items() if n in names}
    if given.get("operations") and not policy.operations_per_image:
        # Operations by hand, of a policy that has none: as many and as strong as the gentle one's.
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


_BY_HAND = (
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
    # Where no data can be asked: little of what hardly ever changes a label, and no mirror.
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
    # Three chains of one to three (Hendrycks et al. 2019, arXiv 1912.02781); without what its
    # authors test against: colour, contrast, brightness, sharpness.
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
"""What each name means; "auto" only where there is no data to ask."""
