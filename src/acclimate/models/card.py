"""The history of a classifier: where its weights come from, and what each step did."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass(frozen=True)
class StepRecord:
    """One step in the history of a classifier.

    Attributes:
        stage: The name of the stage.
        settings: Its settings, including defaults.
        figures: What the stage measured.
        notes: Remarks for readers, in whole sentences.
        curve: Figures per epoch if the stage trained, starting before the first epoch.
    """

    stage: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curve: tuple[Mapping[str, float | None], ...] = ()


@dataclass(frozen=True)
class Card:
    """The history of a classifier.

    Attributes:
        source: Origin of the pretrained weights.
        licence: Licence of the pretrained weights, or "unknown".
        parent: Digest of the classifier before the last step.
        dataset: Digest of the training data.
        steps: The steps, oldest first.
    """

    source: str
    licence: str
    parent: str | None = None
    dataset: str | None = None
    steps: tuple[StepRecord, ...] = ()


def read_card(record: Mapping[str, Any]) -> Card:
    """Reads a card from the record of a model folder; a KeyError or the like if it is malformed."""
    steps = tuple(
        StepRecord(
            s["stage"],
            dict(s["settings"]),
            dict(s["figures"]),
            tuple(s["notes"]),
            tuple(s["curve"]),
        )
        for s in record["steps"]
    )
    return Card(record["source"], record["licence"], record["parent"], record["dataset"], steps)


def plain(settings: Any) -> dict[str, Any]:  # noqa: ANN401 - any settings class
    """Converts settings to JSON values for a card."""
    return cast("dict[str, Any]", json.loads(settings.model_dump_json()))
