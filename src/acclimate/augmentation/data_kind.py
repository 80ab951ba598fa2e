"""What kind of data these are, by the pixels and the names of the classes.

Whether a mirror image keeps its label is known for most data before any test: photographs keep
it; digits, letters, and classes that are named for sides do not. A few dozen images cannot show it,
and the answer would change with the split.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from acclimate.data.images.contract import Pixels

_SIDE = 64
"""px. Images are judged at this size."""
_MIN_CHROMA = 5.0
"""Mean difference between the largest and the smallest of R, G and B, in levels of 255, from which
an image has color. Scans have 0, faintly tinted ones up to about 3, the least colorful of 500
photographs 5 to 10."""
_MIN_TONES = 40.0
"""Effective number of grey levels from which an image is not drawn. Shapes of one color have 2 to
5, 95 of 100 photographs more than 58."""
_MIN_GLYPHS = 5
"""Classes named for characters, from which they count as such: 0 and 1 may mean no and yes."""
_DIGIT_NAMES = frozenset(
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
)
_CHARACTER_WORDS = frozenset(("digit", "number", "letter", "character", "char", "glyph"))
_SIDES = (
    ("left", "right"), ("l", "r"), ("lhs", "rhs"), ("od", "os"), ("east", "west"),
    ("leftward", "rightward"), ("leftwards", "rightwards"),
)  # fmt: skip
_TURNS = (("clockwise", "counterclockwise"), ("clockwise", "anticlockwise"), ("cw", "ccw"))
_HEIGHTS = (("up", "down"), ("upper", "lower"), ("top", "bottom"), ("north", "south"))
OPPOSITES = {"horizontal_flip": (*_SIDES, *_TURNS), "vertical_flip": (*_HEIGHTS, *_TURNS)}
"""For each flip, the pairs of words that it exchanges."""


@dataclass(frozen=True)
class DataKind:
    """What is known of a data set before any test.

    Attributes:
        color: Whether most images have color.
        photographs: Whether most images have color and continuous tones, as photographs and
            paintings have, in contrast to scans, X-rays and drawings.
        characters: Whether the classes are named for digits or letters.
        exchanged: For each flip, two classes that it would exchange by their names, if any.
    """

    color: bool
    photographs: bool
    characters: bool
    exchanged: dict[str, tuple[str, str]]

    @property
    def mirrors(self) -> bool:
        """Whether mirror images are expected to keep their labels."""
        return self.photographs and not self.characters and "horizontal_flip" not in self.exchanged


def kind_of(images: Sequence[Pixels], classes: Sequence[str]) -> DataKind:
    """The kind of a data set.

    Args:
        images: uint8, (S, S, 3) each; at least one.
        classes: The names of the classes.

    Returns:
        The kind, by the majority of the images.
    """
    chroma, tones = np.array([_chroma_and_tones(image) for image in images]).T
    colorful = chroma >= _MIN_CHROMA
    exchanged = {name: exchanged_classes(classes, name) for name in OPPOSITES}
    return DataKind(
        color=bool(colorful.mean() > 0.5),
        photographs=bool((colorful & (tones >= _MIN_TONES)).mean() > 0.5),
        characters=are_characters(classes),
        exchanged={name: pair for name, pair in exchanged.items() if pair},
    )


def are_characters(classes: Sequence[str]) -> bool:
    """Whether classes are named for digits or letters: "7", "seven", "digit_7" or "letter A".

    Args:
        classes: The names.

    Returns:
        True if at least five names are, and all of them. Other numbers, such as "102", are taken
        for identifiers.
    """
    return len(classes) >= _MIN_GLYPHS and all(_is_character(name) for name in classes)


def exchanged_classes(classes: Sequence[str], flip: str) -> tuple[str, str] | None:
    """Two classes whose names differ only by words that a flip exchanges, such as left and right.

    Args:
        classes: The names.
        flip: "horizontal_flip" or "vertical_flip".

    Returns:
        The first such pair, or None.
    """
    by_words = {_words(name): name for name in classes}
    for one, other in OPPOSITES[flip]:
        swap = {one: other, other: one}
        for words, name in by_words.items():
            swapped = tuple(swap.get(word, word) for word in words)
            if swapped != words and swapped in by_words:
                return name, by_words[swapped]
    return None


def _is_character(name: str) -> bool:
    words = _words(name)
    if len(words) == 2 and words[0] in _CHARACTER_WORDS:
        words = words[1:]
    return len(words) == 1 and (len(words[0]) == 1 or words[0] in _DIGIT_NAMES)


def _words(name: str) -> tuple[str, ...]:
    """The words of a name: "TurnLeft", "turn_left" and "turn left" have the same."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    split = re.sub(r"(?i)\b(counter|anti)[-_ ]clockwise", r"\1clockwise", split)
    return tuple(re.findall(r"[^\W_]+", split.casefold()))


def _chroma_and_tones(image: Pixels) -> tuple[float, float]:
    """Mean chroma in levels of 255, and the effective number of grey levels: exp(entropy)."""
    small = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    pixels = np.asarray(small)
    chroma = float((pixels.max(2) - pixels.min(2)).mean())
    share = np.bincount(np.asarray(small.convert("L")).ravel(), minlength=256) / _SIDE**2
    share = share[share > 0]
    return chroma, float(np.exp(-(share * np.log(share)).sum()))
