"""What differs between two registered versions: data, recipe, structure and figures."""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from acclimate.data.dataset import Dataset
from acclimate.errors import ModelFileError

IMAGES_FILE = "images.parquet"
"""Digest, label and split of each image that a version was made with; no image and no path."""
_EXAMPLES = 5
_ABSENT = "-"


def labels_of(dataset: Dataset) -> bytes:
    """What is kept of a data set with a version, so that versions can be compared.

    Args:
        dataset: Cleaned.

    Returns:
        The content of a Parquet file: digest, label and split of each image that was kept.
    """
    table = dataset.table.filter(dataset.table["keep"]).select(["digest", "label", "split"])
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def difference(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> dict[str, Any]:
    """Compares the files of two versions.

    Args:
        before: Name to content, verified.
        after: The same of the other version.

    Returns:
        "data": counts of images added, dropped and relabelled, with examples; "recipe",
        "structure" and "figures": name to the values before and after, of what differs.

    Raises:
        ModelFileError: A file is not what acclimate writes.
    """
    sides = before, after
    try:
        return {
            "data": _data(*(files.get(IMAGES_FILE) for files in sides)),
            "recipe": _changes(*(_json(files, "recipe.json") for files in sides)),
            "structure": _changes(*(_structure(_json(files, "model.json")) for files in sides)),
            "figures": _changes(
                *(_json(files, "version.json").get("facts", {}) for files in sides)
            ),
        }
    except (ValueError, TypeError, AttributeError, KeyError, pa.ArrowException) as error:
        raise ModelFileError(f"the files of a version cannot be compared ({error}).") from error


def _data(before: bytes | None, after: bytes | None) -> dict[str, Any] | None:
    """Images by digest; None if a version does not have them."""
    if before is None or after is None:
        return None
    old, new = (_by_digest(content) for content in (before, after))
    both = old.keys() & new.keys()
    moved = {d: (old[d], new[d]) for d in both if old[d][0] != new[d][0]}
    return {
        "added": len(new.keys() - both),
        "dropped": len(old.keys() - both),
        "relabelled": len(moved),
        "other split": sum(old[d][1] != new[d][1] for d in both),
        "examples": [
            {"digest": digest, "before": was[0], "after": now[0]}
            for digest, (was, now) in sorted(moved.items())[:_EXAMPLES]
        ],
    }


def _by_digest(content: bytes) -> dict[str, tuple[str | None, str | None]]:
    table = pq.read_table(io.BytesIO(content), columns=["digest", "label", "split"])
    columns = [pc.cast(table[name], pa.string()).to_pylist() for name in ("label", "split")]
    digests = [digest.hex() for digest in table["digest"].to_pylist()]
    return dict(zip(digests, zip(*columns, strict=True), strict=True))


def _structure(record: Mapping[str, Any]) -> dict[str, Any]:
    steps = [step["stage"] for step in record["card"]["steps"]]
    names = ("architecture", "classes", "contract", "precision", "counts")
    return {**{name: record[name] for name in names}, "steps": steps}


def _json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    found = json.loads(files.get(name, b"{}"))
    if not isinstance(found, dict):
        raise ValueError(f"{name} is not a JSON object")
    return found


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    old, new = dict(_flat(before)), dict(_flat(after))
    return {
        name: [old.get(name, _ABSENT), new.get(name, _ABSENT)]
        for name in sorted(old.keys() | new.keys())
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as pairs of dotted names and values."""
    for name, one in value.items():
        if isinstance(one, dict) and one:
            yield from _flat(one, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", one
