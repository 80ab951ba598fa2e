"""The files of a model folder, each checked against its digest in `model.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acclimate.errors import DataError, ModelFileError
from acclimate.files import digest_bytes, read_record
from acclimate.models.class_statistics import ClassStatistics
from acclimate.models.used_images import UsedImages

FORMAT = 1
MODEL_FILE, WEIGHTS_FILE, ONNX_FILE = "model.json", "model.safetensors", "model.onnx"
CURVES_FILE, STATISTICS_FILE = "curve.csv", "statistics.safetensors"
USED_IMAGES_FILE = "used_images.safetensors"


def is_model_folder(path: Path) -> bool:
    """Whether a path is a model folder."""
    return (path / MODEL_FILE).is_file()


def read_model_record(folder: Path) -> dict[str, Any]:
    """The content of `model.json`.

    Args:
        folder: The model folder.

    Returns:
        The record; its fields are not checked yet.

    Raises:
        ModelFileError: There is none, or it is of a newer format.
    """
    if not is_model_folder(folder):
        raise ModelFileError(
            "not a model folder: it has no model.json.",
            where=folder,
            hint="Give a folder that a stage wrote.",
        )
    try:
        return read_record(folder / MODEL_FILE, "model", FORMAT)
    except DataError as error:
        raise ModelFileError(error.message, where=error.where, hint=error.hint) from error


def read_statistics(
    folder: Path, record: Mapping[str, Any], num_classes: int
) -> ClassStatistics | None:
    """The statistics of the features of each class; None if the model has none."""
    content = _read_part(folder, STATISTICS_FILE, record.get("statistics"))
    return None if content is None else ClassStatistics.from_bytes(content, num_classes)


def read_used_images(folder: Path, record: Mapping[str, Any]) -> UsedImages | None:
    """The images that a model was made with; None if they are not known."""
    content = _read_part(folder, USED_IMAGES_FILE, record.get("used_images"))
    return None if content is None else UsedImages.from_bytes(content)


def used_images_beside(path: Path, graph: bytes) -> UsedImages | None:
    """The images that an ONNX file was made with, if it lies in its model folder.

    Args:
        path: The file.
        graph: Its content.

    Returns:
        The images; None if they are not known.

    Raises:
        ModelFileError: The model folder is damaged.
    """
    folder = path.parent
    if path.name != ONNX_FILE or not is_model_folder(folder):
        return None
    record = read_model_record(folder)
    own = record.get("graph") == digest_bytes(graph)
    return read_used_images(folder, record) if own else None


def _read_part(folder: Path, name: str, expected: str | None) -> bytes | None:
    """The content of a file of the model folder; None if the model has no such file."""
    if expected is None:
        return None
    path = folder / name
    content = path.read_bytes() if path.is_file() else b""
    if digest_bytes(content) != expected:
        raise ModelFileError(
            f"{name} does not match its digest in model.json: it was changed or lost.",
            where=folder,
            hint="Run the stage again, or copy the model again from its source.",
        )
    return content
