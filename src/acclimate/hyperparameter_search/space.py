"""A search space: for each setting a range or some choices."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Between:
    """A range of numbers.

    Attributes:
        low: Lower end, included.
        high: Upper end, included.
        log: Whether to sample on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False

    def holds(self, value: object) -> bool:
        """Whether a value lies in the range."""
        return isinstance(value, (int, float)) and self.low <= value <= self.high


@dataclass(frozen=True)
class OneOf:
    """A set of choices.

    Attributes:
        choices: Names or numbers.
    """

    choices: tuple[str | float, ...]

    def holds(self, value: object) -> bool:
        """Whether a value is one of the choices."""
        return value in self.choices


Range = Between | OneOf


@dataclass(frozen=True)
class Space:
    """The search space.

    Attributes:
        ranges: Name of each searched setting and its range.
        default: Value of each of them without a search; it may lie outside of the range.
        fixed: Settings that were given, with their values.
    """

    ranges: Mapping[str, Range]
    default: Mapping[str, Any]
    fixed: Mapping[str, Any]

    def part(self, names: tuple[str, ...]) -> "Space":
        """The space of some of the settings."""
        ranges = {name: kind for name, kind in self.ranges.items() if name in names}
        return Space(ranges, {name: self.default[name] for name in ranges}, self.fixed)

    def with_heads(self, heads: tuple[str, ...]) -> "Space":
        """The space with these kinds of heads only."""
        return Space({**self.ranges, "head": OneOf(heads)}, self.default, self.fixed)

    def as_record(self) -> dict[str, Any]:
        """The ranges and defaults as JSON."""
        return {
            name: [self.default[name], *asdict(kind).values()] for name, kind in self.ranges.items()
        }
