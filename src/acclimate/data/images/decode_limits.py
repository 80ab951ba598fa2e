"""What is too large to be decoded, apart from the settings.

A process that does nothing but decode starts in half the time without them.
"""

from typing import NamedTuple, Protocol


class DecodeLimits(Protocol):
    """Bounds on what is decoded: an image may come from a stranger. `Decoding` is one."""

    @property
    def max_megapixels(self) -> float:
        """Larger images are left out before their pixels are unpacked."""

    @property
    def max_file_mb(self) -> int:
        """Larger files are left out unread, in megabytes."""


class PlainDecodeLimits(NamedTuple):
    """Bounds as two numbers; those that hold where nobody says otherwise.

    Attributes:
        max_megapixels: As in `DecodeLimits`.
        max_file_mb: As in `DecodeLimits`.
    """

    max_megapixels: float = 80.0
    max_file_mb: int = 128
