"""The evaluate stage: predictions for every image, and metrics."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from acclimate.arguments import checked
from acclimate.context import Context
from acclimate.data.dataset import HOME, Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.errors import DataError, ModelFileError, count
from acclimate.evaluation.in_words import ShownEvaluation
from acclimate.evaluation.latency import Latency, measure_latency
from acclimate.evaluation.metrics import METRICS, Interval, Outcomes, confusion, metric_interval
from acclimate.evaluation.settings import Evaluate
from acclimate.evaluation.tta import View, averaged_over_views, safe_views, softmax
from acclimate.files import AnyPath, atomic_folder, digest_json, read_record, write_record
from acclimate.models.classifier import Classifier, plain
from acclimate.models.onnx.int8_check import check_int8
from acclimate.models.runtime import RUNTIMES, Run, best_runtime
from acclimate.models.used_images import TRAIN, VAL, describe

FORMAT = 1
TOP = 5
_JSON, _IMAGES = "evaluation.json", "images.parquet"
_DEFAULT = Evaluate()
_HERE = Context()
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("digest", pa.binary(16)),
        ("domain", pa.string()),
        ("label", pa.int32()),
        ("top_classes", pa.list_(pa.int32())),
        ("top_probabilities", pa.list_(pa.float32())),
        ("loss", pa.float32()),
        ("used_for", pa.string()),  # "train" or "val" if the model was made with the image
    ]
)
_USED_FOR = {TRAIN: "train", VAL: "val"}


@checked
@dataclass(frozen=True, repr=False)
class Evaluation(ShownEvaluation):
    """Predictions and metrics of a classifier on a data set.

    >>> from acclimate import Evaluation, evaluate, probe
    >>> model = probe("efficientnet-lite0", "photos/", image_size=64)
    >>> evaluation = evaluate(model, "photos/", latency=False)
    >>> evaluation.save("leaf.evaluation")
    >>> 0 <= Evaluation.load("leaf.evaluation").metrics["home"]["accuracy"].value <= 1
    True

    Attributes:
        name: Name of the classifier, for tables.
        table: One row per image: path, digest, domain, label, top classes with probabilities, loss,
            and what the model used the image for.
        classes: Class names; ids in the table are indices into them.
        metrics: Domain to metric to figure with interval.
        latency: Latency on this machine; None if not measured.
        size_bytes: Size of the model file.
        precision: "float32" or "int8".
        runtime: The runtime of the network.
        split: The split that was evaluated.
        settings: The settings, including defaults.
        dataset_digest: Digest of the data set.
        classifier_digest: Digest of the classifier.
    """

    name: str
    table: pa.Table
    classes: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, Interval]]
    latency: Latency | None
    size_bytes: int
    precision: str
    runtime: str
    split: str
    settings: Mapping[str, Any]
    dataset_digest: str
    classifier_digest: str

    @cached_property
    def digest(self) -> str:
        """The digest of classifier, data set and settings; the latency is not included."""
        return digest_json(
            [self.classifier_digest, self.dataset_digest, self.split, dict(self.settings)]
        )

    @cached_property
    def roles(self) -> NDArray[np.uint8]:
        """uint8, (N,): what the model used each image for; see `acclimate.models.used_images`."""
        names = np.asarray(self.table["used_for"].fill_null("").to_numpy(zero_copy_only=False))
        roles = np.zeros(len(names), np.uint8)
        for role, name in _USED_FOR.items():
            roles[names == name] = role
        return roles

    @property
    def counted(self) -> NDArray[np.bool_]:
        """bool, (N,): the images that the metrics are computed from."""
        counted: NDArray[np.bool_] = (self.roles == 0) | bool(self.settings.get("include_training"))
        return counted

    def counted_rows(self, domain: str) -> NDArray[np.int64]:
        """int64, (n,): the rows of one domain that the metrics are computed from."""
        in_domain = np.asarray(self.table["domain"].to_numpy(zero_copy_only=False) == domain)
        return np.flatnonzero(in_domain & self.counted)

    @property
    def remark(self) -> str | None:
        """What was done with images that the model was made with; None if there are none."""
        if not self.roles.any():
            return None
        if self.settings.get("include_training"):
            return f"{describe(self.roles)}; they are included, so the figures are too high."
        rest = int(self.counted.sum())
        return (
            f"{describe(self.roles)}; they are left out, and the figures are of the other {rest:,}."
        )

    def outcomes(self, domain: str) -> Outcomes:
        """Labels, predictions and confidences for one domain."""
        chosen = self.counted_rows(domain)
        labels = self.table["label"].to_numpy()[chosen].astype(np.int64)
        top = len(self.table["top_classes"][0].as_py())
        ids = _flat(self.table["top_classes"]).reshape(-1, top)
        probabilities = _flat(self.table["top_probabilities"]).reshape(-1, top)
        return Outcomes(
            labels,
            ids[chosen, 0].astype(np.int64),
            probabilities[chosen, 0].astype(np.float32),
            len(self.classes),
        )

    def confusion(self, domain: str) -> NDArray[np.int64]:
        """The confusion matrix of one domain: int64, (C, C), with the true class in rows."""
        return confusion(self.outcomes(domain))

    def save(self, folder: AnyPath) -> None:
        """Writes `evaluation.json` and `images.parquet`, atomically."""
        record = {
            **{k: v for k, v in self.__dict__.items() if k in _PLAIN},
            "metrics": {
                domain: {name: asdict(figure) for name, figure in figures.items()}
                for domain, figures in self.metrics.items()
            },
            "latency": None if self.latency is None else asdict(self.latency),
        }
        with atomic_folder(Path(folder)) as part:
            pq.write_table(self.table, part / _IMAGES, compression="zstd")
            write_record(part / _JSON, FORMAT, record)

    @classmethod
    def load(cls, folder: AnyPath) -> Self:
        """Reads an evaluation from its folder.

        Args:
            folder: The evaluation's folder.

        Returns:
            The evaluation.

        Raises:
            DataError: The folder is not an evaluation.
        """
        folder = Path(folder)
        if not (folder / _JSON).is_file():
            raise DataError(
                "not an evaluation: the folder has no evaluation.json.",
                where=folder,
                hint="Run `acclimate evaluate` first.",
            )
        record = read_record(folder / _JSON, "evaluation", FORMAT)
        try:
            metrics = {
                domain: {name: Interval(**figure) for name, figure in figures.items()}
                for domain, figures in record["metrics"].items()
            }
            latency = None if record["latency"] is None else Latency(**record["latency"])
            fields = {name: record[name] for name in _PLAIN}
            fields["classes"] = tuple(fields["classes"])
            table = _with_used_for(pq.read_table(folder / _IMAGES)).cast(_SCHEMA)
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            raise DataError(f"the evaluation is damaged ({error!r}).", where=folder) from error
        return cls(table=table, metrics=metrics, latency=latency, **fields)


def _with_used_for(table: pa.Table) -> pa.Table:
    """Adds the column that older evaluations lack."""
    if "used_for" in table.column_names:
        return table
    return table.append_column("used_for", pa.nulls(table.num_rows, pa.string()))


_PLAIN = (
    "name", "classes", "size_bytes", "precision", "runtime", "split", "settings",
    "dataset_digest", "classifier_digest",
)  # fmt: skip


def evaluate(
    classifier: Classifier,
    dataset: Dataset,
    settings: Evaluate = _DEFAULT,
    *,
    context: Context = _HERE,
    name: str | None = None,
) -> Evaluation:
    """Evaluates a classifier on one split of a data set.

    Args:
        classifier: Knows the classes of the data set.
        dataset: Cleaned data set with splits.
        settings: Split, runtime and intervals.
        context: The run.
        name: Name for tables; None for the name of the architecture.

    Returns:
        The evaluation, with metrics for each domain.

    Raises:
        DataError: The split is empty, the model was made with all of its images, or the data set
            has classes that the model does not know.
    """
    digest = dataset.digest
    dataset = dataset.with_classes(classifier.classes, classifier.name)
    rows = _labelled_rows(dataset, settings)
    # A split that the model is made with was asked for by name: its figures are marked.
    included = settings.include_training or settings.split != "test"
    roles = roles_of_images(classifier, dataset, rows, known=digest)
    if not included:
        _check_not_all_used(dataset, rows, roles)
    auto = settings.runtime == "auto"
    runtime = best_runtime(classifier, context.device) if auto else settings.runtime
    run = RUNTIMES[runtime](classifier, context.device)
    try:
        check_int8(classifier)
    except ModelFileError as error:  # no reason not to evaluate, which shows what it costs
        context.progress.info(f"evaluate: {error.message}")
    used = plain(settings) | {"include_training": included}
    if settings.tta:
        views = _views(classifier, context)
        run = averaged_over_views(run, views)
        used["views"] = ["as it is", *views]
    table = _predict(classifier, dataset, rows, run, context)
    used_for = pa.array([_USED_FOR.get(role) for role in roles.tolist()], pa.string())
    table = table.append_column("used_for", used_for).cast(_SCHEMA)
    latency = None
    if settings.latency:
        sizes = {"it": classifier.contract.image_size}
        latency = measure_latency({"it": run}, sizes)["it"]
    found = Evaluation(
        name=name or classifier.name,
        table=table,
        classes=classifier.classes,
        metrics={},
        latency=latency,
        size_bytes=shipped_bytes(classifier),
        precision=classifier.precision,
        runtime=runtime,
        split=settings.split,
        settings=used,
        dataset_digest=digest,
        classifier_digest=classifier.digest,
    )
    if found.remark:
        context.progress.info(f"evaluate: {found.remark}")
    return _with_metrics(found, settings, context)


def _labelled_rows(dataset: Dataset, settings: Evaluate) -> Rows:
    rows = dataset.rows(settings.split, domain=None)
    rows = rows[dataset.labels[rows] >= 0]
    if not len(rows):
        raise DataError(
            f"there are no labelled images in the {settings.split} split.",
            where=dataset.shown_root,
            hint=f"Choose another with --set split={'test' if settings.split == 'val' else 'val'}, "
            "or add some.",
        )
    return rows


def roles_of_images(
    classifier: Classifier, dataset: Dataset, rows: Rows, *, known: str
) -> NDArray[np.uint8]:
    """What a model used images for.

    Args:
        classifier: The model.
        dataset: Cleaned.
        rows: int64, (N,): the images.
        known: Digest of the data set as it was given, before the classes were the model's.

    Returns:
        uint8, (N,): see `acclimate.models.used_images`; all unused if this is not known.
    """
    if classifier.used_images is None:
        return np.zeros(len(rows), np.uint8)
    # In the model's own data, cleaning has looked for copies by more than their hashes.
    own = known == classifier.card.dataset
    return classifier.used_images.roles_of(dataset, rows, by_hash=not own)


def _check_not_all_used(dataset: Dataset, rows: Rows, roles: NDArray[np.uint8]) -> None:
    home = roles[np.isin(rows, dataset.rows())]
    if len(home) and home.all():
        raise DataError(
            f"the model was made with these images: {describe(home)}.",
            where=dataset.shown_root,
            hint="Give other images, such as the test split of the data set that it was trained "
            "with, or add --include-training to get figures that are too high.",
        )


def _views(classifier: Classifier, context: Context) -> dict[str, View]:
    """The views to average over; none if the card has no augmentation policy."""
    try:
        views = safe_views(classifier)
    except ModelFileError as error:
        # In a run, the probe is evaluated too, which was trained without augmentation.
        context.progress.info(f"evaluate: {error.message}")
        return {}
    context.progress.info(f"evaluate: averaging over {1 + len(views)} views of each image")
    return views


def shipped_bytes(classifier: Classifier) -> int:
    """The size of a classifier's ONNX file, or of its float32 weights before export."""
    return len(classifier.graph) if classifier.graph is not None else 4 * classifier.parameters


def _with_metrics(found: Evaluation, settings: Evaluate, context: Context) -> Evaluation:
    metrics: dict[str, dict[str, Interval]] = {}
    counted = found.table["domain"].filter(pa.array(found.counted))
    domains = sorted(set(counted.to_pylist()), key=lambda d: (d != HOME, d))
    for domain in domains:
        outcomes = found.outcomes(domain)
        metrics[domain] = {
            metric: metric_interval(metric, outcomes, domain, settings, context)
            for metric in METRICS
        }
        shown = metrics[domain]["accuracy"]
        context.progress.info(
            f"evaluate: {found.name} on {count(len(outcomes.labels), f'{found.split} image')}"
            f"{'' if domain == HOME else f' of {domain}'}: accuracy {shown.value:.3f} "
            f"[{shown.low:.3f}, {shown.high:.3f}]"
        )
    return Evaluation(**{**_fields(found), "metrics": metrics})


def _fields(found: Evaluation) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def _predict(
    classifier: Classifier, dataset: Dataset, rows: Rows, run: Run, context: Context
) -> pa.Table:
    """Predicts the images; memory grows by a few numbers per image."""
    top = min(TOP, len(classifier.classes))
    ids, probabilities, losses = [], [], []
    with context.progress.task("evaluate", len(rows)) as task:
        for batch in ordered_batches(dataset, rows, classifier.contract, context=context):
            p = softmax(run(batch.images))
            order = np.argsort(-p, axis=1, kind="stable")[:, :top]
            ids.append(order)
            probabilities.append(np.take_along_axis(p, order, 1))
            true_probability = p[np.arange(len(p)), batch.targets]
            losses.append(-np.log(np.maximum(true_probability, 1e-12)))
            task.advance(len(p))
    domains = dataset.table["domain"].cast(pa.string()).take(rows)
    return pa.table(
        {
            "path": [dataset.paths[row] for row in rows],
            "digest": dataset.table["digest"].take(rows),
            "domain": domains,
            "label": dataset.labels[rows],
            "top_classes": list(np.concatenate(ids)),
            "top_probabilities": list(np.concatenate(probabilities)),
            "loss": np.concatenate(losses),
        }
    )


def _flat(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(column.combine_chunks().flatten().to_numpy(zero_copy_only=False))
