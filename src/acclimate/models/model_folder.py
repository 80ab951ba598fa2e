"""The files of a model folder: read once, and checked against their digests in `model.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from acclimate.data.images.standalone import PREPROCESS_FILE
from acclimate.errors import DataError, ModelFileError, reason
from acclimate.files import digest_bytes, digest_json
from acclimate.models.class_statistics import ClassStatistics
from acclimate.models.used_images import UsedImages
from acclimate.regular_files import read_regular

FORMAT = 2
MODEL_FILE, WEIGHTS_FILE, ONNX_FILE = "model.json", "model.safetensors", "model.onnx"
CURVES_FILE, STATISTICS_FILE = "curve.csv", "statistics.safetensors"
USED_IMAGES_FILE = "used_images.safetensors"
PARTS = (
    WEIGHTS_FILE, ONNX_FILE, PREPROCESS_FILE, CURVES_FILE, STATISTICS_FILE, USED_IMAGES_FILE,
)  # fmt: skip
"""The files beside `model.json` that a model may have. Others in its folder are never opened."""
MAX_BYTES = 16 << 30
"""Of all files together."""
_MAX_RECORD = 64 << 20


def is_model_folder(path: Path) -> bool:
    """Whether a path is a model folder."""
    return (path / MODEL_FILE).is_file()


@dataclass(frozen=True)
class ModelFolder:
    """The content of a model folder. What was checked is what is loaded: nothing is read twice.

    Attributes:
        path: The folder, for messages.
        files: Name to content.
    """

    path: Path
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the files of a model from its folder.

        Args:
            path: The model folder.

        Returns:
            The content; it is not checked yet.

        Raises:
            ModelFileError: There is no `model.json`, or a file is a link, a pipe or a device, or
                too large.
        """
        if not is_model_folder(path):
            raise ModelFileError(
                "not a model folder: it has no model.json.",
                where=path,
                hint="Give a folder that a stage wrote.",
            )
        files, left = {}, MAX_BYTES
        try:
            for name in (MODEL_FILE, *PARTS):
                limit = min(left, _MAX_RECORD) if name == MODEL_FILE else left
                try:
                    files[name] = read_regular(path / name, limit)
                except FileNotFoundError:
                    continue
                left -= len(files[name])
        except DataError as error:
            raise ModelFileError(error.message, where=error.where, hint=error.hint) from error
        return cls(path, files)

    def record(self) -> dict[str, Any]:
        """The fields of `model.json`, after all files were compared with their digests there.

        Returns:
            The fields; their types are not checked.

        Raises:
            ModelFileError: It is malformed or of another format, or a file was changed.
        """
        where = self.path / MODEL_FILE
        if len(self.files[MODEL_FILE]) > _MAX_RECORD:
            raise ModelFileError(f"file is larger than {_MAX_RECORD:,} bytes.", where=where)
        try:
            record = json.loads(self.files[MODEL_FILE])
        except (ValueError, RecursionError) as error:
            raise ModelFileError(
                f"file is not valid JSON ({reason(error)}).", where=where
            ) from error
        if not isinstance(record, dict) or type(record.get("format")) is not int:
            raise ModelFileError("not a valid model file.", where=where)
        if record["format"] != FORMAT:
            newer = record["format"] > FORMAT
            age = "a newer" if newer else "an older"
            way_out = "Upgrade acclimate." if newer else "Make the model again with this one."
            raise ModelFileError(
                f"model was written by {age} acclimate.", where=where, hint=way_out
            )
        digests = record.get("files")
        if not isinstance(digests, dict) or record.pop("record", None) != digest_json(record):
            self._refuse(MODEL_FILE)
        for name in PARTS:
            content = self.files.get(name)
            if digests.get(name) != (None if content is None else digest_bytes(content)):
                self._refuse(name)
        return record

    def statistics(self, num_classes: int) -> ClassStatistics | None:
        """The statistics of the features of each class; None if the model has none."""
        content = self.files.get(STATISTICS_FILE)
        return None if content is None else ClassStatistics.from_bytes(content, num_classes)

    def used_images(self) -> UsedImages | None:
        """The images that the model was made with; None if they are not known."""
        content = self.files.get(USED_IMAGES_FILE)
        return None if content is None else UsedImages.from_bytes(content)

    def _refuse(self, name: str) -> NoReturn:
        own = "its own digest" if name == MODEL_FILE else "its digest in model.json"
        raise ModelFileError(
            f"{name} does not match {own}: a file was changed or damaged.",
            where=self.path,
            hint="Run the stage again, or copy the model again from its source.",
        )


def model_files(record: Mapping[str, Any], parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a model folder, `model.json` with the digests of all others last.

    Args:
        record: The fields of `model.json`.
        parts: Names in `PARTS` to content.

    Returns:
        Name to content.
    """
    whole = {
        "format": FORMAT,
        **record,
        "files": {name: digest_bytes(content) for name, content in parts.items()},
    }
    # As it will be read: tuples are lists in JSON.
    whole = json.loads(json.dumps(whole))
    whole["record"] = digest_json(whole)
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    return {**parts, MODEL_FILE: text.encode()}


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
    if path.name != ONNX_FILE or not is_model_folder(path.parent):
        return None
    folder = ModelFolder.read(path.parent)
    if folder.files.get(ONNX_FILE) != graph:
        return None
    folder.record()
    return folder.used_images()
