"""The columns of a table of images: which holds the images, and what the labels are called."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from acclimate.data.sources.lists import COLUMNS
from acclimate.errors import DataError, listed

_IMAGES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "bytes", "content")
"""Usual names of a column of images, the most usual first."""
_LABELS = (*COLUMNS["label"], "labels", "cls", "category", "label_name", "class_name", "fine_label")


@dataclass(frozen=True)
class ImageColumns:
    """The columns of a table of images.

    Attributes:
        image: `struct<bytes, path>`, or bytes.
        label: Text, or whole numbers; None if there are no labels.
        split: Names of splits, or None.
        group: Names of groups, or None.
        class_names: The names that the numbers of `label` stand for; None if they are not known.
    """

    image: str
    label: str | None
    split: str | None
    group: str | None
    class_names: tuple[str, ...] | None

    @property
    def names(self) -> list[str]:
        """The columns to read."""
        return [name for name in (self.image, self.label, self.split, self.group) if name]


def image_columns(schema: pa.Schema, where: Path | str) -> ImageColumns | None:
    """Finds the columns of a table of images.

    Args:
        schema: Of the table, with the metadata that Hugging Face writes, if any.
        where: The table, for messages.

    Returns:
        The columns; None if no column holds images.

    Raises:
        DataError: Several columns may be the images or the labels, or an image has several labels.
    """
    holding = [field.name for field in schema if _is_image(field.type)]
    if not holding:
        return None
    named = _class_names(schema.metadata)
    image = _first(holding, _IMAGES) or _only(holding, "images", where)
    known = {name: values for name, values in named.items() if name in schema.names}
    label = _first(schema.names, _LABELS) or (_only([*known], "labels", where) if known else None)
    if label is not None:
        _check_label(schema.field(label), where)
    return ImageColumns(
        image,
        label,
        _first(schema.names, COLUMNS["split"]),
        _first(schema.names, COLUMNS["group"]),
        known.get(label) if label else None,
    )


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _first(names: Sequence[str], usual: Sequence[str]) -> str | None:
    plain = {name.strip().lower(): name for name in names}
    return next((plain[name] for name in usual if name in plain), None)


def _only(names: Sequence[str], what: str, where: Path | str) -> str:
    if len(names) > 1:
        usual = {"images": "image", "labels": "label"}[what]
        raise DataError(
            f"several columns may be the {what}: {listed(names)}.",
            where=where,
            hint=f"Rename the one to use to {usual!r}.",
        )
    return names[0]


def _check_label(column: pa.Field, where: Path | str) -> None:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_struct(kind):
        raise DataError(
            f"column {column.name!r} holds {kind}, and an image has one label.",
            where=where,
            hint="Write one label for each image, as text or as a number.",
        )


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """The names of Hugging Face's ClassLabel columns; none if the metadata has another form."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            str(column): names
            for column, feature in features.items()
            if (names := _names_of(feature)) is not None
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _names_of(feature: Any) -> tuple[str, ...] | None:  # noqa: ANN401 - JSON
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)
