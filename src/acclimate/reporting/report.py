"""The report of a run: one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from acclimate.augmentation.policy import Policy
from acclimate.data.dataset import Dataset
from acclimate.evaluation.comparison import Comparison, sentence
from acclimate.evaluation.evaluate import Evaluation
from acclimate.evaluation.metrics import per_class
from acclimate.models.classifier import Classifier
from acclimate.reporting import figures
from acclimate.reporting.augmentation import augmentation_section
from acclimate.reporting.candidates import CompressionResult, candidates_section
from acclimate.reporting.data_page import data_sections
from acclimate.reporting.page import render
from acclimate.reporting.thumbnails import thumbnail

_MOST_MISTAKES = 24


@dataclass(frozen=True)
class Mistake:
    """An image that the model classified wrongly.

    Attributes:
        image: A data URI.
        path: Of the file.
        label: True class.
        predicted: Predicted class.
        confidence: In [0, 1].
    """

    image: str
    path: str
    label: str
    predicted: str
    confidence: float


def report(
    *,
    recipe: str,
    dataset: Dataset,
    classifier: Classifier,
    evaluations: Mapping[str, Evaluation],
    comparisons: Mapping[str, Comparison],
    stages: Sequence[Mapping[str, Any]],
    registered: str | None,
    verdict: Sequence[str] = (),
    policy: Policy | None = None,
    search: CompressionResult | None = None,
) -> str:
    """The report as HTML.

    Args:
        recipe: As YAML.
        dataset: Cleaned and split.
        classifier: The final model.
        evaluations: Label to evaluation; the last is the final model's.
        comparisons: Name to comparison.
        stages: The record of each stage.
        registered: "name/number", or None.
        verdict: Whether the final model is better than the baseline, in sentences.
        policy: The augmentation policy of the training.
        search: What a compression search tried, if there was one.

    Returns:
        HTML without external resources.
    """
    final = list(evaluations.values())[-1]
    domains = list(final.metrics)
    trainings = {s.stage: s.curve for s in classifier.card.steps if s.curve}
    return render(
        "report.html",
        recipe=recipe,
        classifier=classifier,
        dataset=dataset,
        evaluations=evaluations,
        final=final,
        domains=domains,
        sentences=[sentence(c) for c in comparisons.values()],
        comparisons=comparisons,
        figures_by_class={d: per_class(final.outcomes(d), final.classes) for d in domains},
        bars=figures.accuracy_bars(evaluations),
        trade_off=figures.trade_off(evaluations) if final.latency else "",
        curves=figures.curves(trainings) if trainings else "",
        confusion={d: figures.confusion_matrix(final.confusion(d), final.classes) for d in domains},
        data=data_sections(dataset),
        mistakes=mistakes(final, dataset),
        stages=stages,
        machine=stages[-1]["machine"],
        registered=registered,
        verdict=verdict,
        candidates="" if search is None else candidates_section(search),
        augmentation=(
            "" if policy is None else augmentation_section(policy, dataset, classifier.contract)
        ),
    )


def mistakes(evaluation: Evaluation, dataset: Dataset, most: int = _MOST_MISTAKES) -> list[Mistake]:
    """The most confident mistakes in the user's own domain.

    Args:
        evaluation: Of the final model.
        dataset: Its root folder holds the images.
        most: Maximum number.

    Returns:
        The worst first.
    """
    outcomes = evaluation.outcomes("home")
    wrong = np.flatnonzero(outcomes.labels != outcomes.predictions)
    worst = wrong[np.argsort(-outcomes.confidences[wrong], kind="stable")][:most]
    paths = evaluation.table["path"].take(evaluation.counted_rows("home")).to_pylist()
    found = []
    for index in worst.tolist():
        image = thumbnail(dataset.root / paths[index], dataset.bits)
        if image is not None:
            found.append(
                Mistake(
                    image=image,
                    path=paths[index],
                    label=evaluation.classes[outcomes.labels[index]],
                    predicted=evaluation.classes[outcomes.predictions[index]],
                    confidence=float(outcomes.confidences[index]),
                )
            )
    return found
