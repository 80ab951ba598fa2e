"""The table and the picture of a compression search."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from acclimate.compression.accuracy_budget import AccuracyDrop
from acclimate.compression.candidates import ORIGINAL, Candidate
from acclimate.compression.choice import Choice
from acclimate.compression.search_job import SearchJob
from acclimate.evaluation.comparison import paired_interval
from acclimate.evaluation.metrics import Interval
from acclimate.files import write_atomic
from acclimate.reporting.candidates import CompressionResult

TABLE, PICTURE = "candidates.csv", "pareto.svg"
COLUMNS = (
    "candidate", "chosen", "pareto", "drop", "drop_low", "drop_high", "flips", "divergence",
    "p50_ms", "p95_ms", "images_per_s", "speedup", "busy", "size_bytes", "macs",
)  # fmt: skip
_CONFIDENCE = 0.95
"""Of the two-sided intervals in the table, each for its candidate alone."""


def write_results(
    folder: Path, candidates: Sequence[Candidate], choice: Choice, job: SearchJob
) -> None:
    """Writes `candidates.csv` and `pareto.svg`.

    Args:
        folder: Of the search.
        candidates: All of them.
        choice: What was chosen.
        job: Holds the budget.
    """
    front = pareto_front(candidates)
    chosen = ORIGINAL if choice.candidate is None else choice.candidate.name
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in sorted(candidates, key=_latency):
        writer.writerow(_row(one, chosen=one.name == chosen, best=one.name in front))
    write_atomic(folder / TABLE, text.getvalue())
    write_atomic(folder / PICTURE, _picture(candidates, front, job))


def read_results(folder: Path, sentence: str) -> CompressionResult:
    """Reads what `write_results` wrote.

    Args:
        folder: Of the search.
        sentence: What was chosen and why, which stands on the model's card.

    Returns:
        The sentence with table and picture.
    """
    lines = (folder / TABLE).read_text().splitlines()
    return CompressionResult(sentence, list(csv.DictReader(lines)), (folder / PICTURE).read_text())


def pareto_front(candidates: Sequence[Candidate]) -> set[str]:
    """The names of the compared candidates that no other one beats in latency and accuracy both.

    Args:
        candidates: With a drop of accuracy, or the original; others are left out.

    Returns:
        Names.
    """
    found = [one for one in candidates if one.latency and (one.drop or one.name == ORIGINAL)]
    return {
        one.name
        for one in found
        if not any(
            _latency(other) <= _latency(one)
            and _drop(other).value <= _drop(one).value
            and (_latency(other), _drop(other).value) != (_latency(one), _drop(one).value)
            for other in found
        )
    }


def _row(one: Candidate, *, chosen: bool, best: bool) -> list[str]:
    drop, latency = _drop(one), one.latency
    compared = one.drop is not None or one.name == ORIGINAL
    interval = [f"{v:.3f}" for v in (drop.value, drop.low, drop.high)] if compared else [""] * 3
    times = [""] * 3
    if latency is not None:
        times = [f"{v:.3f}" for v in (latency.p50_ms, latency.p95_ms, latency.images_per_s)]
    return [
        one.name,
        "yes" if chosen else "",
        "yes" if best else "",
        *interval,
        "" if one.drop is None else f"{one.drop.flips:.4f}",
        "" if one.divergence is None else f"{one.divergence.kl:.3g}",
        *times,
        "" if one.speedup is None else f"{one.speedup:.3f}",
        "yes" if latency is not None and latency.busy else "",
        str(one.size_bytes),
        str(one.macs),
    ]


def _picture(candidates: Sequence[Candidate], front: set[str], job: SearchJob) -> str:
    from acclimate.reporting.figures import Dot, pareto  # matplotlib takes half a second

    baseline = job.baseline.latency
    assert baseline is not None
    dots = []
    for one in candidates:
        if one.speedup and (one.drop is not None or one.name == ORIGINAL):
            drop, place = _drop(one), baseline.p50_ms / one.speedup
            change = (-drop.value, -drop.high, -drop.low)
            dots.append(Dot(one.name, place, *change, one.size_bytes / 1e6, one.name in front))
    return pareto(dots, job.settings.max_accuracy_drop)


def _latency(one: Candidate) -> float:
    """Relative to the original, so that measurements at different times can be compared."""
    return float("inf") if not one.speedup else 1 / one.speedup


def _drop(one: Candidate) -> Interval:
    return Interval(0.0, 0.0, 0.0) if one.drop is None else interval_of(one.drop)


def interval_of(drop: AccuracyDrop) -> Interval:
    """The drop in percentage points with a two-sided interval for this candidate alone."""
    found = paired_interval(drop.gained, drop.lost, drop.images, _CONFIDENCE)
    return Interval(-100 * found.value, -100 * found.high, -100 * found.low)
