"""Output of results: tables for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from acclimate.evaluation.comparison import Comparison
    from acclimate.evaluation.evaluate import Evaluation
    from acclimate.evaluation.metrics import Interval
    from acclimate.registry.versions import Version

RUNTIMES = {"torch": "PyTorch", "onnx": "ONNX Runtime"}


def summary(evaluations: "Mapping[str, Evaluation]") -> tuple[list[str], list[list[str]]]:
    """The summary table at the end of a run.

    Args:
        evaluations: Label to Evaluation.

    Returns:
        Column names, and rows of cells.
    """
    last = list(evaluations.values())[-1]
    domains = list(last.metrics)
    names = ["accuracy", *(f"accuracy ({d})" for d in domains[1:])]
    columns = ["model", *names, "file size", "latency", "images/s", "runtime"]
    rows = []
    for label, e in evaluations.items():
        cells = [_interval(e.metrics[d]["accuracy"]) for d in domains]
        times = ["", ""]
        if e.latency:
            note = " (busy machine)" if e.latency.busy else ""
            times = [f"{e.latency.p50_ms:.2f} ms{note}", f"{e.latency.images_per_s:,.0f}"]
        runtime = RUNTIMES[e.runtime]
        rows.append(
            [label, *cells, f"{e.size_bytes / 1e6:.1f} MB", *times, f"{runtime} {e.precision}"]
        )
    return columns, rows


def result(
    kind: str,
    artifact: Any,  # noqa: ANN401 - an Evaluation, a Comparison or a Classifier
    out: Path | None,
    *,
    as_json: bool,
    also: Mapping[str, str] | None = None,
) -> None:
    """Prints the result of a stage.

    Args:
        kind: Of the result.
        artifact: The result: an artifact.
        out: The output path, if the result was written.
        as_json: Whether to print JSON.
        also: Other outputs, name to path.
    """
    from acclimate.terminal import print_lines, print_table

    if as_json:
        print_json({**_record(kind, artifact, out), **(also or {})})
        return
    if kind == "evaluation":
        print_table(f"{artifact.split} images", *summary({artifact.name: artifact}))
        if artifact.remark:
            print_lines([f"{artifact.remark[0].upper()}{artifact.remark[1:]}"])
        names = ["class", "images", "recall", "precision", "F1"]
        print_table("by class", names, _per_class(artifact))
    elif kind == "comparison":
        from acclimate.evaluation.comparison import sentence

        print_lines([sentence(artifact)])
        print_table(f"margin: {artifact.margin:g} points", *_differences(artifact))
    if out is not None:
        print_lines([f"{name}  {place}" for name, place in {kind: out, **(also or {})}.items()])


def _per_class(evaluation: "Evaluation") -> list[list[str]]:
    from acclimate.evaluation.metrics import per_class

    return [
        [name, f"{f.images:,}", f"{f.recall:.3f}", f"{f.precision:.3f}", f"{f.f1:.3f}"]
        for name, f in per_class(evaluation.outcomes("home"), evaluation.classes).items()
    ]


def _differences(comparison: "Comparison") -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            domain,
            f"{d.images:,}",
            _interval(d.accuracy, signed=True),
            f"{d.only_before:,} / {d.only_after:,}",
            f"{d.p_value:.2g}",
            _interval(d.equivalence, signed=True),
            d.verdict,
        ]
        for domain, d in comparison.differences.items()
    ]
    names = ["domain", "images", "difference", "only first / second correct", "McNemar p"]
    return [*names, "equivalence interval", "verdict"], rows


def version_record(version: "Version") -> dict[str, Any]:
    """A registered version as JSON."""
    own = {
        "name": version.name,
        "number": version.number,
        "aliases": list(version.aliases),
        "created": version.created.isoformat(timespec="seconds"),
        "parent": version.parent,
        "folder": str(version.folder),
    }
    return own | {name: fact for name, fact in version.facts.items() if name not in own}


def _record(kind: str, result: Any, out: Path | None) -> dict[str, Any]:  # noqa: ANN401
    place = {"out": None if out is None else str(out), "digest": result.digest}
    if kind == "evaluation":
        return {**place, **figures(result)}
    if kind == "comparison":
        return {**place, **result.as_record()}
    if kind == "classifier":
        return {**place, "classes": result.classes, "card": asdict(result.card)}
    if kind == "dataset":
        from acclimate.cleaning.summary import as_record

        return {**place, **as_record(result)}
    return place


def figures(evaluation: "Evaluation") -> dict[str, Any]:
    """An evaluation's figures as JSON."""
    included = bool(evaluation.settings.get("include_training"))
    return {
        "name": evaluation.name,
        "metrics": {
            domain: {name: asdict(figure) for name, figure in figures.items()}
            for domain, figures in evaluation.metrics.items()
        },
        "images": image_counts(evaluation.roles, int(evaluation.counted.sum()), included=included),
        "latency": None if evaluation.latency is None else asdict(evaluation.latency),
        "size_bytes": evaluation.size_bytes,
        "precision": evaluation.precision,
        "runtime": evaluation.runtime,
    }


def image_counts(
    roles: "NDArray[np.uint8]", counted: int, *, included: bool
) -> dict[str, int | bool]:
    """What a figure is of, as JSON.

    Args:
        roles: uint8, (N,): what the model used each image for.
        counted: Number of images that the figure is of.
        included: Whether images that the model was made with count.

    Returns:
        Name to number.
    """
    from acclimate.models.used_images import TRAIN, VAL

    return {
        "counted": counted,
        "trained_on": int((roles == TRAIN).sum()),
        "chose_epochs": int((roles == VAL).sum()),
        "include_training": included,
    }


def _interval(figure: "Interval", *, signed: bool = False) -> str:
    if signed:
        points = [100 * v for v in (figure.value, figure.low, figure.high)]
        return f"{points[0]:+.2f} [{points[1]:+.2f}, {points[2]:+.2f}]"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def columns(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a long table without borders, for a pager or `grep`.

    Args:
        names: Of the columns.
        rows: Cells; those of a column that begin with a digit are aligned right.

    Returns:
        The head and one line for each row.
    """
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    right = [any(cell[:1].isdigit() for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (names, *rows)
    ]


def print_json(value: object) -> None:
    """Prints indented JSON to standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
