"""The command that classifies images."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli import output
from acclimate.cli.command import AcclimateCommand
from acclimate.cli.completion import ModelName
from acclimate.cli.flags import device_flag, make_context, reading
from acclimate.cli.models import register_settings, store_flags
from acclimate.errors import count
from acclimate.files import as_text, claim, write_atomic

if TYPE_CHECKING:
    from acclimate.models.predictions import Prediction
    from acclimate.serving.labelled import LabelledAccuracy

_COLUMNS = ["path", "label", "probability", "error"]
_TRUE_LABEL = "true_label"


@click.command(cls=AcclimateCommand, example="acclimate predict leaf.model photo.jpg")
@click.argument("model", type=ModelName())
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--top",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of classes per image, the most probable first.",
)
@click.option(
    "--tta", is_flag=True, help="Average over views that keep the label (test-time augmentation)."
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="The true labels (a folder with one folder per class, or a list): adds a column, and the "
    "accuracy on images that the model was not made with.",
)
@click.option(
    "--include-training", is_flag=True, help="With --labels: count images the model was made with."
)
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Write a CSV file.")
@device_flag
@store_flags
def predict(
    model: str,
    images: tuple[Path, ...],
    top: int,
    tta: bool,
    labels: Path | None,
    include_training: bool,
    out: Path | None,
    **flags: Any,  # noqa: ANN401 - click's
) -> None:
    """Classify the images in files and folders."""
    if include_training and labels is None:
        raise click.UsageError("--include-training needs --labels.")
    if out is not None:
        claim(out, is_ours=_is_predictions, replace=True)
    context = make_context(flags)
    context.progress.info(reading("predict", model))
    from acclimate.data.images.given import find_images
    from acclimate.registry.resolve import as_classifier
    from acclimate.serving.labelled import TrueClasses
    from acclimate.serving.predict import predict as predictions

    paths = [path for place in images for path in find_images(place)]
    classifier = as_classifier(model, registry=register_settings(flags))
    known = None if labels is None else TrueClasses(classifier, labels, context)
    table = _Table(out, as_json=flags["as_json"], labelled=known is not None)
    for prediction in predictions(classifier, paths, top=top, tta=tta, context=context):
        table.add(prediction, None if known is None else known.compare(prediction))
    table.end()
    if table.failed:
        problems = f"{count(table.failed, 'file')} could not be read; see the error column."
        context.progress.info(problems)
    if known is not None:
        _print_accuracy(known.accuracy(include_training=include_training), flags["as_json"])


class _Table:
    """Writes predictions as they come: CSV to the screen or, in the end, to a file; JSON lines.

    Args:
        out: The CSV file; None for the screen.
        as_json: Whether to print JSON.
        labelled: Whether there is a column of true labels.
    """

    def __init__(self, out: Path | None, *, as_json: bool, labelled: bool) -> None:
        self._out, self._as_json, self._labelled = out, as_json, labelled
        self._buffer = io.StringIO()
        self._writer = csv.writer(self._buffer)
        self._writer.writerow([*_COLUMNS, _TRUE_LABEL] if labelled else _COLUMNS)
        self.failed = 0

    def add(self, prediction: "Prediction", true_label: str | None) -> None:
        """Writes one prediction."""
        self.failed += prediction.error is not None
        path, known = as_text(str(prediction.path)), {_TRUE_LABEL: true_label}
        if self._as_json:
            record = {**asdict(prediction), "path": path} | (known if self._labelled else {})
            click.echo(json.dumps(record, ensure_ascii=False))
            return
        last = [true_label or ""] if self._labelled else []
        if prediction.error is not None:
            self._writer.writerow([path, "", "", prediction.error, *last])
        for label, p in zip(prediction.classes, prediction.probabilities, strict=True):
            self._writer.writerow([path, label, f"{p:.4f}", "", *last])
        if self._out is None:
            click.echo(self._buffer.getvalue(), nl=False)
            self._buffer.seek(0)
            self._buffer.truncate()

    def end(self) -> None:
        """Writes the file."""
        if self._out is not None:
            write_atomic(self._out, self._buffer.getvalue())
            click.echo(f"predictions  {self._out}")


def _print_accuracy(found: "LabelledAccuracy", as_json: bool) -> None:
    """To standard error, after the table; with `--json` as the last line of the output."""
    if not as_json:
        for line in found.lines():
            click.echo(line, err=True)
        return
    images = output.image_counts(found.roles, found.images, included=found.included)
    images["unlabelled"] = found.unlabelled
    accuracy = None if found.accuracy is None else asdict(found.accuracy)
    click.echo(json.dumps({"accuracy": accuracy, "images": images}))


def _is_predictions(out: Path) -> bool:
    """Whether a file is a list of predictions."""
    if not out.is_file():
        return False
    with out.open("rb") as stream:
        return stream.readline(200).strip().startswith(",".join(_COLUMNS).encode())
