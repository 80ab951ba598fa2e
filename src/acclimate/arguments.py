"""Checks arguments from Python against their annotations, so that a wrong one is one sentence.

Without it, a path that is a number or a list in place of a text ends in an error of another
library, many calls away from the mistake.
"""

import functools
import inspect
import os
import typing
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar

from acclimate.errors import WrongType

_Checked = TypeVar("_Checked")
_ELSEWHERE: object = Annotated
_Test = Callable[[Any], bool]

_WORDS: dict[object, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    bytes: "bytes",
    Path: "a path",
    os.PathLike: "a path",
    Callable: "a function",
}


def checked(target: _Checked) -> _Checked:
    """Checks the arguments of a function, or of a class and its public methods, at each call.

    What is `Annotated` is not checked: whoever uses it gives a better answer. Missing arguments and
    unknown names are left to Python.

    Args:
        target: A function, or a class; a class is changed in place.

    Returns:
        The checked function, or the class.
    """
    if not isinstance(target, type):
        return typing.cast("_Checked", _checked_function(typing.cast("Any", target)))
    for name, member in list(vars(target).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, (classmethod, staticmethod)):
            setattr(target, name, type(member)(_checked_function(member.__func__)))
        elif inspect.isfunction(member):
            setattr(target, name, _checked_function(member))
    return target


def _checked_function(function: Callable[..., Any]) -> Callable[..., Any]:
    parameters = inspect.signature(function).parameters
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    order = [name for name, p in parameters.items() if p.kind in places]
    tests: dict[str, tuple[_Test, str]] | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the function takes
        nonlocal tests
        if tests is None:  # at the first call: annotations may name what is defined further below
            tests = _tests(function)
        for name, value in (*zip(order, args, strict=False), *kwargs.items()):
            test = tests.get(name)
            if test is not None and not test[0](value):
                raise WrongType(f"must be {test[1]}, not {kind_of(value)}.", where=name)
        return function(*args, **kwargs)

    return call


def kind_of(value: object) -> str:
    """The type of a value with its article, for a message: "an int", "None"."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _tests(function: Callable[..., Any]) -> dict[str, tuple[_Test, str]]:
    """Name of each parameter that can be checked to its test, and what it must be in words."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = _resolved(parameter.annotation, function)
        if annotation is not inspect.Parameter.empty:
            found[name] = (_test(annotation), " or ".join(dict.fromkeys(_words(annotation))))
    return found


class _Named:
    """A class that is imported for type checkers only: known by its name."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def fits(self, value: object) -> bool:
        """Whether a value is of a class of this name."""
        return any(kind.__name__ == self.__name__ for kind in type(value).__mro__)


def _resolved(annotation: object, function: Callable[..., Any]) -> object:
    """An annotation without strings; empty if it names what is only imported for type checkers."""
    if not isinstance(annotation, str):
        return annotation
    known = getattr(function, "__globals__", {})
    try:
        return eval(annotation, known)  # our own source
    except NameError:
        names = annotation.removesuffix(" | None")
        if not names.isidentifier():
            return inspect.Parameter.empty
        return (_Named(names), None) if names != annotation else _Named(names)


def _test(annotation: Any) -> _Test:  # noqa: ANN401 - any annotation
    """A function that tells whether a value fits an annotation."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if members := _members(annotation):
        tests = [_test(member) for member in members]
        return lambda value: any(test(value) for test in tests)
    if isinstance(annotation, _Named):
        return annotation.fits
    if origin is Literal:
        return lambda value: any(type(value) is type(one) and value == one for one in inner)
    if isinstance(origin, type) and origin is not _ELSEWHERE:
        return _test_of_container(origin, inner)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if isinstance(annotation, type) and annotation is not Any:
        return _test_of_class(annotation)
    return lambda value: True


def _members(annotation: object) -> tuple[Any, ...]:
    """The members of a union; empty for other annotations."""
    if isinstance(annotation, tuple):
        return annotation
    union = typing.get_origin(annotation) in (typing.Union, UnionType)
    return typing.get_args(annotation) if union else ()


def _test_of_class(kind: type) -> _Test:
    if getattr(kind, "_is_protocol", False):
        names = [name for name in vars(kind) if not name.startswith("_")]
        names += list(getattr(kind, "__annotations__", {}))
        return lambda value: all(hasattr(value, name) for name in names)
    return lambda value: isinstance(value, kind)


def _test_of_container(origin: type, inner: tuple[Any, ...]) -> _Test:
    if not issubclass(origin, Iterable) or issubclass(origin, Mapping):
        return lambda value: isinstance(value, origin)
    kinds: tuple[type, ...] = (list, tuple) if origin is tuple else (origin,)
    fixed = origin is tuple and Ellipsis not in inner
    tests = [_test(part) for part in inner if part is not Ellipsis]

    def fits(value: Any) -> bool:  # noqa: ANN401 - whatever was given
        if not isinstance(value, kinds) or isinstance(value, (str, bytes)):
            return False  # a text would be taken letter by letter
        if not tests or not isinstance(value, (list, tuple)):
            return True
        if fixed:
            pairs = zip(tests, value, strict=False)
            return len(value) == len(tests) and all(test(part) for test, part in pairs)
        return all(map(tests[0], value))

    return fits


def _number(kind: type) -> _Test:
    return lambda value: isinstance(value, kind) and not isinstance(value, bool)


_SIMPLE: dict[object, _Test] = {
    None: lambda value: value is None,
    NoneType: lambda value: value is None,
    Path: lambda value: isinstance(value, (str, os.PathLike)),
    int: _number(Integral),
    float: _number(Real),
}


def _words(annotation: Any) -> list[str]:  # noqa: ANN401 - any annotation
    """What an annotation takes, in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if members := _members(annotation):
        return [word for member in members for word in _words(member)]
    if origin is Literal:
        return [repr(value) for value in inner]
    if annotation in (None, NoneType):
        return ["None"]
    kind = origin or annotation
    if kind in _WORDS:
        return [_WORDS[kind]]
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return ["a mapping"]
    if isinstance(kind, type) and issubclass(kind, Iterable) and inner:
        return [f"a list ({', '.join(_words(inner[0]))})"]
    name = getattr(kind, "__name__", str(kind))
    return [f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"]
