"""The end of a run: the finished model, its registration, the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from acclimate.files import atomic_folder, read_json, write_atomic
from acclimate.pipeline.job import CANDIDATES, RunJob

if TYPE_CHECKING:
    from acclimate.models.classifier import Classifier
    from acclimate.reporting.candidates import CompressionResult


@dataclass(frozen=True)
class RunResult:
    """What the main job writes and measures.

    Attributes:
        folder: The folder of the run.
        model: The folder of the finished model.
        report: The HTML report.
        evaluations: Label to Evaluation, in order.
        comparisons: Name to Comparison.
        registered: "name/number" in the model store, or None.
        verdict: Whether the final model is better than the probe, and how it was compressed, in
            sentences.
        ran: The steps that ran now; the others were done before.
    """

    folder: Path
    model: Path
    report: Path
    evaluations: Mapping[str, Any]
    comparisons: Mapping[str, Any]
    registered: str | None
    verdict: tuple[str, ...]
    ran: tuple[str, ...]


def finish(job: RunJob) -> RunResult:
    """Writes the finished model, registers it, and writes the report.

    Args:
        job: With all steps done.

    Returns:
        What the run wrote and measured.
    """
    from acclimate.evaluation.verdict import verdict
    from acclimate.reporting.report import report

    model = job.folder / "model"
    classifier = job.slots["classifier"].load()
    with atomic_folder(model) as part:
        classifier.write_into(part)
    job.slots["dataset"].load().save(job.folder / "dataset.parquet")
    evaluations = {
        label: job.slots[name].load()
        for label, name in (
            ("probe", "start_evaluation"),
            ("fine-tuned", "tuned_evaluation"),
            ("final", "evaluation"),
        )
        if name in job.slots
    }  # fmt: skip
    comparisons: dict[str, Any] = {
        n: job.slots[n].load() for n in ("gain", "cost") if n in job.slots
    }
    search = _search(job, classifier)
    sentences = verdict(evaluations, comparisons)
    if search is not None:
        sentences += (f"Compression: {search.sentence}",)
    registered = _register(job, classifier, evaluations["final"], comparisons["gain"])
    page = report(
        recipe=job.recipe.to_yaml(),
        dataset=job.slots["dataset"].load(),
        classifier=classifier,
        evaluations=evaluations,
        comparisons=comparisons,
        stages=_records(job),
        registered=registered,
        verdict=sentences,
        policy=job.slots["policy"].load(),
        search=search,
    )
    place = job.folder / "report.html"
    write_atomic(place, page)
    return RunResult(
        job.folder, model, place, evaluations, comparisons, registered, sentences, tuple(job.ran)
    )


def _records(job: RunJob) -> list[dict[str, Any]]:
    """What the steps of a run recorded, in order."""
    return [cast("dict[str, Any]", read_json(folder / "stage.json")) for folder in job.done]


def _search(job: RunJob, classifier: "Classifier") -> "CompressionResult | None":
    """What the compression search of this run found, if there was one."""
    from acclimate.compression.pareto import read_results

    places = [folder / CANDIDATES for folder in job.done]
    found = [place for place in places if place.is_dir()]
    return read_results(found[0], classifier.card.steps[-1].notes[0]) if found else None


def _register(job: RunJob, classifier: Any, evaluation: Any, gain: Any) -> str | None:  # noqa: ANN401
    settings = job.recipe.registry
    if settings is None:
        return None
    from acclimate.registry.diff import IMAGES_FILE, labels_of
    from acclimate.registry.tracking import track
    from acclimate.registry.versions import Registry

    registry = Registry(settings)
    home = evaluation.metrics["home"]["accuracy"]
    version = registry.publish(
        settings.name or job.recipe.name,
        classifier,
        facts={
            "accuracy": f"{home.value:.4f}",
            "accuracy_low": f"{home.low:.4f}",
            "accuracy_high": f"{home.high:.4f}",
            "against_probe": gain.verdict,
            "dataset": evaluation.dataset_digest,
            "precision": classifier.precision,
            "bytes": str(evaluation.size_bytes),
            "source": classifier.card.source,
        },
        documents={
            "recipe": job.recipe.model_dump(mode="json"),
            "lineage": _records(job),
        },
        files={IMAGES_FILE: labels_of(job.slots["dataset"].load())},
        ancestors={digest for record in _records(job) for digest in record["reads"].values()},
    )
    unproven = "" if gain.verdict == "better" else ", although it is not shown to beat the probe"
    job.context.progress.info(f"registered and signed: {version.name}/{version.number}{unproven}")
    if settings.tracking_uri:
        track(settings.tracking_uri, job.recipe.name, classifier, job.context.progress)
    return f"{version.name}/{version.number}"
