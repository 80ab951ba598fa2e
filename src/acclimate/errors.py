"""Every error that a user may meet.

    AcclimateError                  exit code 1
      RecipeError                   2   a setting or a recipe file is wrong
      DataError                     2   the images or their list are wrong
        UnreadableImage             2   one file could not be decoded
      ModelFileError                2   a model's name, file or folder is wrong
      OutputError                   2   the output path cannot be written
      UsageFault                    2   the command was mistyped
      WrongType                     2   a Python argument is of a wrong type; also a TypeError
      NotTrusted                    3   a signature or a digest does not match
      NotBetter                     3   the challenger is not better
      BudgetMissed                  3   a compressed model may exceed its budget
      NotClean                      3   the data has flags that --fail-on names
      Interrupted                 130   Ctrl-C; the message says how to resume

Exit code 2: the user can fix it. 3: the answer is no. 1: a bug of acclimate.
A message says what is wrong, where, and what to do.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

_LONGEST_REASON = 160  # characters: about two lines of a terminal
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\].*?(?:\x07|\x1b\\)|[@-Z\\-_])")


class AcclimateError(Exception):
    """An error with the place of the fault and a hint.

    Args:
        message: What is wrong, with the wrong value.
        where: The file, line or setting at fault.
        hint: What to do about it, as a whole sentence.
    """

    code: ClassVar[str] = "acclimate-error"
    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str, *, where: str | Path | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = None if where is None else str(where)
        self.hint = hint

    def __str__(self) -> str:
        """One sentence: where, what, what to do."""
        place = f"{self.where}: " if self.where else ""
        way_out = f" {self.hint}" if self.hint else ""
        return f"{place}{self.message}{way_out}"

    def as_record(self) -> dict[str, str | None]:
        """The error as `--json` prints it."""
        return {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
        }


class RecipeError(AcclimateError):
    """A setting or a recipe file is wrong."""

    code = "recipe-error"
    exit_code = 2


class DataError(AcclimateError):
    """The images or their list are wrong."""

    code = "data-error"
    exit_code = 2


class UnreadableImage(DataError):
    """One file could not be decoded."""

    code = "unreadable-image"


class ModelFileError(AcclimateError):
    """A model's name, file or folder is wrong."""

    code = "model-file-error"
    exit_code = 2


class OutputError(AcclimateError):
    """The output path cannot be written."""

    code = "output-error"
    exit_code = 2


class UsageFault(AcclimateError):
    """The command was mistyped."""

    code = "usage-fault"
    exit_code = 2


class WrongType(AcclimateError, TypeError):
    """A Python argument is of a wrong type."""

    code = "wrong-type"
    exit_code = 2


class NotTrusted(AcclimateError):
    """A signature or a digest does not match."""

    code = "not-trusted"
    exit_code = 3


class NotBetter(AcclimateError):
    """The challenger is not better."""

    code = "not-better"
    exit_code = 3


class BudgetMissed(AcclimateError):
    """The compressed model is not known to be within its budget."""

    code = "budget-missed"
    exit_code = 3


class NotClean(AcclimateError):
    """The data has flags that the user wants to know of."""

    code = "not-clean"
    exit_code = 3


class Interrupted(AcclimateError):
    """The user stopped the work."""

    code = "interrupted"
    exit_code = 130


def near_names(name: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known names, or with all of them.

    Args:
        name: What the user wrote.
        known: All known names.

    Returns:
        "Did you mean 'epochs'?" or "Known: a, b, c."
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"Known: {shown}."


def listed(names: Sequence[str], most: int = 5) -> str:
    """A few names in quotes, with an ellipsis if there are more: "'a', 'b', …"."""
    return ", ".join(map(repr, names[:most])) + (", …" if len(names) > most else "")


def count(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: "1 image", "12 images"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def reason(error: BaseException, *, line: int = 0) -> str:
    """One line of what another library's error says, to be quoted in a message.

    Args:
        error: Any exception.
        line: Which line of its message to take. PyTorch names the weights that do not fit in
            the last one, -1.

    Returns:
        The line without its final period and without terminal colors, cut between two words if
        it is long; the exception's type if it has no message.
    """
    lines = _ANSI.sub("", str(error)).strip().splitlines()
    if not lines:
        return type(error).__name__
    text = " ".join(lines[line].split()).rstrip(".")
    if len(text) <= _LONGEST_REASON:
        return text
    text = text[: _LONGEST_REASON + 1]
    return f"{text.rpartition(' ')[0] or text[:_LONGEST_REASON]} …"
