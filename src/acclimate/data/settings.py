"""Settings of the data room."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from acclimate.context import CACHE_GB
from acclimate.data.images.decode_limits import PlainDecodeLimits
from acclimate.settings import Settings

_LIMITS = PlainDecodeLimits()
SplitName = Literal["train", "val", "test", "unlabelled"]


class Source(Settings):
    """Where the images are."""

    path: Path | None = None
    """Folder of class or of train/val/test folders, archive of one, list, or saved data set."""
    fix_list: Path | None = None
    """CSV of what a person decided about images: drop, relabel or keep."""
    test_domains: Mapping[str, Path] = Field(default_factory=dict)
    """More labelled images, name to place, tested on their own and never trained on."""
    leave_out_classes: tuple[str, ...] = ()
    """Names of class folders to ignore."""
    allow_outside: bool = False
    """Follow links and listed paths that lead out of the folder."""
    cache_gb: NonNegativeFloat = CACHE_GB
    """Disk that decoded images may take in the cache folder, in GB; 0 decodes them each epoch."""
    max_unpacked_gb: PositiveFloat = 50.0
    """An archive that unpacks to more is refused, in gigabytes."""


class Decoding(Settings):
    """Bounds on what is decoded: an image may come from a stranger."""

    max_megapixels: PositiveFloat = _LIMITS.max_megapixels
    """Larger images are left out before their pixels are unpacked."""
    max_file_mb: PositiveInt = _LIMITS.max_file_mb
    """Larger files are left out unread, in megabytes."""
