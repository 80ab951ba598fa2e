"""Reads and writes YAML 1.2, with the line of each key.

PyYAML follows YAML 1.1, in which `1e-4` is a string and a class called `no` is false.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from acclimate.errors import DataError, RecipeError
from acclimate.files import read_bounded

MAX_BYTES = 1 << 20
_MOST_DEPTH = 20
_OPENS = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSES = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


class SafeLoader12(yaml.SafeLoader):
    """YAML 1.2's core schema for plain scalars."""


SafeLoader12.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    SafeLoader12.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(str(node.value).lower().replace(".inf", "inf").replace(".nan", "nan"))


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, Any]:
    """Keys stay text: `1: x` is an unknown setting and not a number."""
    found: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
        found[str(key.value)] = loader.construct_object(value, deep=True)
    return found


SafeLoader12.add_constructor("tag:yaml.org,2002:int", _int)
SafeLoader12.add_constructor("tag:yaml.org,2002:float", _float)
SafeLoader12.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(
    path: Path, what: str = "recipe"
) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """A YAML file's values, and the line of each key.

    Args:
        path: The file.
        what: What the file should be, for messages.

    Returns:
        Nested values, and "file:line" of each path of keys.

    Raises:
        RecipeError: The file is missing, too large, not a YAML mapping, or uses aliases or tags.
    """
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError(f"no such {what}.", where=path) from error
    except (OSError, UnicodeDecodeError, DataError) as error:
        raise RecipeError(f"{what} cannot be read as text.", where=path) from error
    try:
        depth = 0
        for token in yaml.scan(text):
            depth += isinstance(token, _OPENS) - isinstance(token, _CLOSES)
            if depth > _MOST_DEPTH:
                line = token.start_mark.line + 1
                raise RecipeError(f"{what} is nested too deeply.", where=f"{path}:{line}")
            # An alias can expand to gigabytes and a tag can name any type: a recipe needs neither.
            if isinstance(token, (yaml.AliasToken, yaml.AnchorToken, yaml.TagToken)):
                line = token.start_mark.line + 1
                raise RecipeError(
                    "anchors, aliases and tags are not allowed.", where=f"{path}:{line}"
                )
        node = yaml.compose(text, SafeLoader12)
        values = yaml.load(text, SafeLoader12)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(f"not valid YAML ({error.problem}).", where=where) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"not valid YAML ({error}).", where=path) from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict):
        raise RecipeError(f"a {what} is a mapping (key: value).", where=path)
    places: dict[tuple[str, ...], str] = {}
    _find_places(node, (), path, places)
    return values, places


def read_value(text: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """One value, as `--set key=value` gives it.

    Args:
        text: YAML.

    Returns:
        The value.

    Raises:
        ValueError: The text is not YAML.
    """
    try:
        return yaml.load(text, SafeLoader12)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _find_places(
    node: yaml.Node | None, keys: tuple[str, ...], path: Path, places: dict[tuple[str, ...], str]
) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        inner = (*keys, str(key.value))
        where = f"{path}:{key.start_mark.line + 1}"
        if inner in places:
            raise RecipeError(f"{'.'.join(inner)} is set twice.", where=where)
        places[inner] = where
        _find_places(value, inner, path, places)


def write_scalar(value: object) -> str:
    """One value in YAML 1.2, on one line."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(write_scalar(v) for v in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{write_scalar(str(k))}: {write_scalar(v)}" for k, v in value.items())
        return f"{{{inner}}}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    # Absolute: the recipe is written to another folder than the one it was read in.
    text = str(value.absolute()) if isinstance(value, Path) else str(value)
    if re.fullmatch(r"[A-Za-z_/][\w./-]*", text, re.ASCII) and text.lower() not in _WORDS:
        return text
    # JSON strings are YAML strings, except for a few characters that YAML takes for a line end.
    return re.sub(
        r"[\x7f-\xa0\u2028\u2029\ufeff]",
        lambda match: f"\\u{ord(match[0]):04x}",
        json.dumps(text, ensure_ascii=False),
    )


_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
