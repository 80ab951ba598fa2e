"""The candidates of a compression search, kept in a folder from which the search resumes."""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from acclimate.compression.accuracy_budget import AccuracyDrop
from acclimate.compression.divergence import Divergence
from acclimate.errors import DataError, OutputError, RecipeError, near_names
from acclimate.evaluation.evaluate import shipped_bytes
from acclimate.evaluation.latency import Latency
from acclimate.files import digest_json, read_record, write_record
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.macs import count_macs

FORMAT = 1
ORIGINAL = "float32"
"""Name of the candidate that is not compressed."""
SEARCH_FILE, CANDIDATE_FILE, MODEL_FOLDER = "search.json", "candidate.json", "model"


@dataclass(frozen=True)
class Candidate:
    """A model that a compression search made, and what was measured.

    Attributes:
        name: Unique in the search, such as "int8-u8s8-p99.99".
        recipe: How it was made from the original, as JSON.
        size_bytes: Size of its ONNX file.
        macs: Multiply-adds of one image.
        latency: On this machine; None if it was not measured.
        speedup: Median latency of the original over its own, measured in turns; None if unknown.
        divergence: From the original on the ranking images; None if it was not ranked.
        drop: Of accuracy on all val images; None if it was not compared.
        looks: How often the val images had a say in it: once, and for each epoch that they chose
            among if it was trained.
    """

    name: str
    recipe: Mapping[str, Any]
    size_bytes: int
    macs: int
    latency: Latency | None = None
    speedup: float | None = None
    divergence: Divergence | None = None
    drop: AccuracyDrop | None = None
    looks: int = 1

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Candidate":
        """Reads what `dataclasses.asdict` wrote."""
        parts = {"latency": Latency, "divergence": Divergence, "drop": AccuracyDrop}
        read = {
            name: parts[name](**value) if name in parts and value is not None else value
            for name, value in record.items()
        }
        return cls(**read)


class CandidateFolder:
    """A folder that holds each candidate as a model folder with its figures.

    Args:
        folder: It exists.
        search: What all candidates depend on, as JSON. A folder of another search is refused.

    Raises:
        OutputError: The folder holds candidates of another model, data set or seed.
    """

    def __init__(self, folder: Path, search: Mapping[str, Any]) -> None:
        self.folder = folder
        path, key = folder / SEARCH_FILE, digest_json(search)
        if not path.exists():
            write_record(path, FORMAT, {"search": key})
        elif _read(path, "search").get("search") != key:
            raise OutputError(
                "the folder holds candidates of another model, data set or seed.",
                where=folder,
                hint="Choose another place with --out, or delete that folder.",
            )

    def get(self, name: str, recipe: Mapping[str, Any]) -> Candidate | None:
        """A candidate that was made before, by the same recipe."""
        path = self._place(name) / CANDIDATE_FILE
        if not path.is_file():
            return None
        found = _candidate(path)
        return found if digest_json(found.recipe) == digest_json(recipe) else None

    def make(
        self, name: str, recipe: Mapping[str, Any], build: Callable[[], Classifier]
    ) -> tuple[Candidate, Classifier]:
        """A candidate and its model: what was made before, or what `build` makes.

        Args:
            name: Of the candidate.
            recipe: How it is made, as JSON.
            build: Makes the model, exported.

        Returns:
            The candidate and its model.
        """
        found = self.get(name, recipe)
        if found is not None:
            return found, self.load(found)
        model = build()
        assert model.graph is not None
        place = self._place(name)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        model.save(place / MODEL_FOLDER)
        made = Candidate(name, recipe, shipped_bytes(model), count_macs(model.graph))
        return self.update(made), model

    def update(self, candidate: Candidate, **figures: Any) -> Candidate:  # noqa: ANN401 - fields
        """Writes new figures of a candidate, atomically.

        Args:
            candidate: Its model is in the folder.
            **figures: Fields of `Candidate`.

        Returns:
            The candidate with them.
        """
        changed = replace(candidate, **figures)
        write_record(self._place(changed.name) / CANDIDATE_FILE, FORMAT, asdict(changed))
        return changed

    def load(self, candidate: Candidate) -> Classifier:
        """The model of a candidate."""
        return Classifier.load(self._place(candidate.name) / MODEL_FOLDER)

    def all(self) -> list[Candidate]:
        """All candidates, by name."""
        return sorted(
            (_candidate(path) for path in self.folder.glob(f"*/{CANDIDATE_FILE}")),
            key=lambda one: one.name,
        )

    def pick(self, name: str) -> Candidate:
        """The candidate of a name.

        Args:
            name: As in the table.

        Returns:
            The candidate.

        Raises:
            RecipeError: There is none.
        """
        found = {one.name: one for one in self.all()}
        if name not in found:
            raise RecipeError(
                f"no candidate {name!r}. {near_names(name, found)}",
                where="compress.pick",
                hint=None if found else "Run the search without it first.",
            )
        return found[name]

    def work(self, name: str) -> Path:
        """The folder for checkpoints while a candidate is trained."""
        place = self._place(name) / "work"
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _place(self, name: str) -> Path:
        slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
        return self.folder / f"{slug}-{digest_json(name)[:6]}"


def _candidate(path: Path) -> Candidate:
    try:
        return Candidate.from_record(_read(path, "candidate"))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError("not a valid candidate.", where=path) from error


def _read(path: Path, kind: str) -> dict[str, Any]:
    return dict(read_record(path, kind, FORMAT))
