"""Settings of the data room."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from acclimate.context import CACHE_GB
from acclimate.data.images.decode_limits import PlainDecodeLimits
from acclimate.settings import Auto, Settings

_LIMITS = PlainDecodeLimits()


_LONGEST_PATTERN = 500


def _regular_expression(text: str) -> str:
    if len(text) > _LONGEST_PATTERN:
        raise ValueError(f"is longer than {_LONGEST_PATTERN} characters")
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression ({error})") from error
    return text


class Source(Settings):
    """Where the images are."""

    path: Path | None = None
    """Folder of class folders or splits, archive, list, Hugging Face tables, or saved data set."""
    fix_list: Path | None = None
    """CSV file of a person's decisions about images: drop, relabel or keep."""
    test_domains: Mapping[str, Path] = Field(default_factory=dict)
    """More labelled images (name to path), tested separately and never used for training."""
    group_from: Annotated[str, AfterValidator(_regular_expression)] | None = None
    """Regular expression for the group in each path; its first (…), or else the whole match."""
    leave_out_classes: tuple[str, ...] = ()
    """Names of classes to leave out."""
    allow_outside: bool = False
    """Whether to follow links and listed paths that lead out of the folder."""
    cache_gb: NonNegativeFloat = CACHE_GB
    """Disk space for decoded images, in GB. With 0, images are decoded again in each epoch."""
    max_unpacked_gb: PositiveFloat = 50.0
    """Largest size of an unpacked archive, in GB."""
    bits: Annotated[int, Field(ge=8, le=16)] | Auto = "auto"
    """Bits of samples in 16-bit grey images; auto is 8, 10, 12, 14 or 16, by the largest sample."""


class Decoding(Settings):
    """Limits on what is decoded, since an image may come from an untrusted source."""

    max_megapixels: PositiveFloat = _LIMITS.max_megapixels
    """Largest image, in megapixels. Larger ones are left out before they are decoded."""
    max_file_mb: PositiveInt = _LIMITS.max_file_mb
    """Largest file, in MB. Larger ones are left out unread."""
