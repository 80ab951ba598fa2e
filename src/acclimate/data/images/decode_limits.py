"""Limits on file and image size, separate from the settings.

A worker process that only decodes starts in half the time without pydantic.
"""

from typing import NamedTuple, Protocol


class DecodeLimits(Protocol):
    """Limits on what is decoded, since an image may come from an untrusted source."""

    @property
    def max_megapixels(self) -> float:
        """The largest image, in megapixels. Larger ones are refused before they are decoded."""

    @property
    def max_file_mb(self) -> int:
        """The largest file, in MB. Larger ones are refused unread."""


class PlainDecodeLimits(NamedTuple):
    """The default limits, as plain numbers.

    Attributes:
        max_megapixels: As in `DecodeLimits`.
        max_file_mb: As in `DecodeLimits`.
    """

    max_megapixels: float = 80.0
    max_file_mb: int = 128
