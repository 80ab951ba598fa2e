"""The artifacts that stages pass on: how each kind is kept on disk, and how it is recognised."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate.errors import AcclimateError
from acclimate.files import read_json


@dataclass(frozen=True)
class Slot:
    """An artifact on its way between stages: known by its digest, loaded when it is needed.

    Attributes:
        digest: Of its content.
        load: Returns the artifact.
        folder: The folder of the step that made it; None for what was read.
    """

    digest: str
    load: Callable[[], Any]
    folder: Path | None = None


@dataclass(frozen=True)
class ArtifactKind:
    """How one kind of artifact is kept.

    Attributes:
        file: Its name in the folder of a step.
        of: Imports its class, which has `save` and `load`.
        is_at: Whether a path holds such an artifact, by its content and not by its name.
        is_folder: Whether it is a folder and not a file.
    """

    file: str
    of: Callable[[], Any]
    is_at: Callable[[Path], bool]
    is_folder: bool = False

    def save(self, artifact: Any, folder: Path) -> None:  # noqa: ANN401 - of this kind
        """Writes an artifact into the folder of a step."""
        artifact.save(folder / self.file)

    def load(self, folder: Path) -> Any:  # noqa: ANN401 - of this kind
        """Reads what `save` wrote."""
        return self.of().load(folder / self.file)


def _is_dataset(path: Path) -> bool:
    from acclimate.data.dataset import is_saved_dataset

    return is_saved_dataset(path)


def _json_with(key: str, inside: str = "") -> Callable[[Path], bool]:
    """Whether a path, or a file inside it, is a JSON record of acclimate with this key."""

    def is_at(path: Path) -> bool:
        try:
            record = read_json(path / inside)
        except (AcclimateError, OSError):
            return False
        return isinstance(record, dict) and "format" in record and key in record

    return is_at


def _dataset() -> Any:  # noqa: ANN401 - a class
    from acclimate.data.dataset import Dataset

    return Dataset


def _policy() -> Any:  # noqa: ANN401 - a class
    from acclimate.augmentation.policy import Policy

    return Policy


def _classifier() -> Any:  # noqa: ANN401 - a class
    from acclimate.models.classifier import Classifier

    return Classifier


def _evaluation() -> Any:  # noqa: ANN401 - a class
    from acclimate.evaluation.evaluate import Evaluation

    return Evaluation


def _comparison() -> Any:  # noqa: ANN401 - a class
    from acclimate.evaluation.comparison import Comparison

    return Comparison


ARTIFACTS: dict[str, ArtifactKind] = {
    "dataset": ArtifactKind("dataset.parquet", _dataset, _is_dataset),
    "policy": ArtifactKind("policy.json", _policy, _json_with("crop_area")),
    "classifier": ArtifactKind(
        "model", _classifier, _json_with("contract", "model.json"), is_folder=True
    ),
    "evaluation": ArtifactKind(
        "evaluation",
        _evaluation,
        _json_with("classifier_digest", "evaluation.json"),
        is_folder=True,
    ),
    "comparison": ArtifactKind("comparison.json", _comparison, _json_with("differences")),
}
"""The kinds that stages read and write."""
