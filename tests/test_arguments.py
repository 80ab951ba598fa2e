"""A wrong argument is one sentence that names it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import numpy as np
import pytest

from acclimate.arguments import checked
from acclimate.errors import AcclimateError, WrongType

if TYPE_CHECKING:
    from somewhere import Classifier


class Shown(Protocol):
    def info(self, text: str) -> None: ...


@checked
def everything(
    number: int = 0,
    share: float = 0.0,
    flag: bool = False,
    text: str | None = None,
    path: Path = Path(),
    names: Iterable[str] = (),
    pairs: Sequence[tuple[str, int]] = (),
    facts: Mapping[str, Any] | None = None,
    choice: Literal["a", "b"] = "a",
    call: Callable[[int], int] | None = None,
    shown: Shown | None = None,
    later: "Classifier | None" = None,
    anything: Any = None,
    elsewhere: Annotated[int, "checked elsewhere"] | None = None,
    **more: int,
) -> str:
    """Given back."""
    return "ran"


RIGHT = {
    "number": [3, np.int64(3)],
    "share": [3, 2.5, np.float32(1)],
    "flag": [True],
    "text": ["a", None],
    "path": ["a", Path("a")],
    "names": [["a"], ("a",), {"a"}, (n for n in "ab"), np.array(["a"])],
    "pairs": [[("a", 1)]],
    "facts": [{"a": 1}, None],
    "choice": ["a", "b"],
    "call": [len, None],
    "shown": [type("Own", (), {"info": print})(), None],
    "later": [type("Classifier", (), {})(), None],
    "anything": [object()],
    "elsewhere": ["text"],
    "unknown": ["text"],
}
WRONG = {
    "number": ([1.5, "3", True, None], "a whole number"),
    "share": (["3", None, True], "a number"),
    "flag": ([1, "yes", None], "True or False"),
    "text": ([3, b"a"], "text or None"),
    "path": ([3, None, b"a"], "a path"),
    "names": (["text", 3, [3], None], "a list (text)"),
    "pairs": ([3, "ab", [3]], "a list (a list (text))"),
    "facts": ([[("a", 1)], 3], "a mapping or None"),
    "choice": (["c", 3, ["a"]], "'a' or 'b'"),
    "call": ([3, "len"], "a function or None"),
    "shown": ([3], "a Shown or None"),
    "later": ([3, "text"], "a Classifier or None"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_argument_is_passed_on(name):
    for value in RIGHT[name]:
        assert everything(**{name: value}) == "ran"


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_named(name):
    values, wanted = WRONG[name]
    for value in values:
        with pytest.raises(WrongType) as caught:
            everything(**{name: value})
        assert str(caught.value).startswith(f"{name}: must be {wanted}, not ")
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, AcclimateError)


def test_a_place_is_checked_like_a_keyword():
    assert everything(3, 2.5) == "ran"
    with pytest.raises(WrongType, match=r"^share: must be a number, not a list\.$"):
        everything(3, [])


@checked
@dataclass(frozen=True)
class Value:
    """A value with a constructor, a method and two of the class."""

    size: int

    def grown(self, by: int) -> "Value":
        """A larger one."""
        return Value(self.size + by)

    @classmethod
    def of(cls, text: str) -> "Value":
        """From text."""
        return cls(len(text))


def test_a_class_is_checked_with_its_methods():
    assert Value(2).grown(3) == Value.of("12345")
    for wrong in (lambda: Value("2"), lambda: Value(2).grown("3"), lambda: Value.of(3)):
        with pytest.raises(WrongType):
            wrong()


def test_missing_and_unknown_arguments_are_left_to_python():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'size'"):
        Value()
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        Value(2, other=3)


def test_name_and_signature_stay():
    assert everything.__name__ == "everything"
    assert everything.__doc__ == "Given back."
