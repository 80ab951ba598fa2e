"""A search space: for each setting a range or some choices."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Between:
    """A range of numbers.

    Attributes:
        low: Belongs to it.
        high: Belongs to it.
        log: Whether factors count, and not differences.
    """

    low: float
    high: float
    log: bool = False

    def holds(self, value: object) -> bool:
        """Whether a value is in it."""
        return isinstance(value, (int, float)) and self.low <= value <= self.high


@dataclass(frozen=True)
class OneOf:
    """Some choices.

    Attributes:
        choices: Names or numbers.
    """

    choices: tuple[str | float, ...]

    def holds(self, value: object) -> bool:
        """Whether a value is among them."""
        return value in self.choices


Range = Between | OneOf


@dataclass(frozen=True)
class Space:
    """What a search tries.

    Attributes:
        ranges: Setting to range.
        default: What each of them is without a search, in numbers; it need not be in the range.
        fixed: Settings that stay as they were given, with their values.
    """

    ranges: Mapping[str, Range]
    default: Mapping[str, Any]
    fixed: Mapping[str, Any]

    def part(self, names: tuple[str, ...]) -> "Space":
        """The same for some of the settings."""
        ranges = {name: kind for name, kind in self.ranges.items() if name in names}
        return Space(ranges, {name: self.default[name] for name in ranges}, self.fixed)

    def with_heads(self, heads: tuple[str, ...]) -> "Space":
        """The same with these heads alone."""
        return Space({**self.ranges, "head": OneOf(heads)}, self.default, self.fixed)

    def as_record(self) -> dict[str, Any]:
        """The ranges and defaults as JSON."""
        return {
            name: [self.default[name], *asdict(kind).values()] for name, kind in self.ranges.items()
        }
