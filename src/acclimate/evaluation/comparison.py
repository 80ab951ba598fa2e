"""Compares two evaluations on the same images, with paired tests."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from acclimate.arguments import checked
from acclimate.context import Context
from acclimate.errors import DataError, NotBetter, count
from acclimate.evaluation.evaluate import Evaluation
from acclimate.evaluation.in_words import ShownComparison
from acclimate.evaluation.metrics import Interval
from acclimate.evaluation.settings import Compare
from acclimate.files import AnyPath, digest_json, read_record, write_json

FORMAT = 1
Verdict = Literal["better", "as good", "worse", "not settled"]
_DEFAULT = Compare()
_HERE = Context()


@dataclass(frozen=True)
class Difference:
    """The difference of challenger and champion on the images of one domain.

    Attributes:
        images: Number of images.
        accuracy: Challenger minus champion, in [-1, 1], with its paired score interval.
        only_before: Number of images that only the champion predicts correctly.
        only_after: Number of images that only the challenger predicts correctly.
        p_value: p-value of McNemar's exact test.
        equivalence: Interval of the two one-sided tests; within the margin means "as good".
        verdict: The result of the tests.
    """

    images: int
    accuracy: Interval
    only_before: int
    only_after: int
    p_value: float
    equivalence: Interval
    verdict: Verdict


@checked
@dataclass(frozen=True, repr=False)
class Comparison(ShownComparison):
    """The comparison of two evaluations.

    >>> from acclimate import compare, evaluate, probe
    >>> model = probe("efficientnet-lite0", "photos/", image_size=64)
    >>> before = evaluate(model, "photos/", name="before", latency=False)
    >>> after = evaluate(model, "photos/", name="after", latency=False)
    >>> compare(before, after, margin=5).differences["home"].accuracy.value
    0.0

    Attributes:
        before: Name of the champion.
        after: Name of the challenger.
        differences: Domain to difference.
        per_class: Domain to class to recall of champion and challenger.
        speedup: Images per second of the challenger over those of the champion; None if unknown.
        size_ratio: Size of the challenger over the size of the champion.
        margin: Equivalence margin in percentage points.
        left_out: Number of images that one of the classifiers was made with, and not compared.
        includes_training: Whether images are compared that one of the classifiers was made with.
        busy: Whether a latency behind the speedup was measured on a busy machine, so that the
            speedup is not reliable.
    """

    before: str
    after: str
    differences: Mapping[str, Difference]
    per_class: Mapping[str, Mapping[str, tuple[float, float]]]
    speedup: float | None
    size_ratio: float
    margin: float
    left_out: int = 0
    includes_training: bool = False
    busy: bool = False

    @property
    def verdict(self) -> Verdict:
        """The verdict on the first domain, which is the user's own."""
        return next(iter(self.differences.values())).verdict

    @property
    def digest(self) -> str:
        """The digest of the comparison."""
        return digest_json(self.as_record())

    def save(self, path: AnyPath) -> None:
        """Writes JSON, atomically."""
        write_json(Path(path), self.as_record())

    def as_record(self) -> dict[str, Any]:
        """The comparison as JSON."""
        return {"format": FORMAT, **asdict(self), "verdict": self.verdict}

    @classmethod
    def load(cls, path: AnyPath) -> Self:
        """Reads a comparison from its file.

        Args:
            path: The file.

        Returns:
            The comparison.

        Raises:
            DataError: The file is not a comparison.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError("no such file.", where=path, hint="Run `acclimate compare` first.")
        record = read_record(path, "comparison", FORMAT)
        try:
            del record["verdict"]
            if not record["differences"]:
                raise KeyError("differences")
            record["differences"] = {
                domain: Difference(
                    **{
                        **d,
                        "accuracy": Interval(**d["accuracy"]),
                        "equivalence": Interval(**d["equivalence"]),
                    }
                )
                for domain, d in record["differences"].items()
            }
            record["per_class"] = {
                domain: {name: (pair[0], pair[1]) for name, pair in recalls.items()}
                for domain, recalls in record["per_class"].items()
            }
            return cls(**record)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise DataError(f"not a valid comparison ({error!r}).", where=path) from error


def compare(
    before: Evaluation,
    after: Evaluation,
    settings: Compare = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Comparison:
    """Compares a challenger with a champion on the same images.

    Args:
        before: Evaluation of the champion.
        after: Evaluation of the challenger.
        settings: Margin and confidence.
        context: The run.

    Returns:
        The comparison.

    Raises:
        DataError: The evaluations are not on the same images.
    """
    pairs, left_out = _paired(before, after)
    differences = {
        domain: difference(found.before, found.after, settings) for domain, found in pairs.items()
    }
    if left_out:
        context.progress.info(
            f"compare: {count(left_out, 'image')} left out, because one of the models was made "
            "with them"
        )
    speedup, busy = None, False
    if before.latency and after.latency:
        speedup = after.latency.images_per_s / before.latency.images_per_s
        busy = before.latency.busy or after.latency.busy
    found = Comparison(
        before=before.name,
        after=after.name,
        differences=differences,
        per_class={domain: found.recalls(before.classes) for domain, found in pairs.items()},
        speedup=speedup,
        size_ratio=after.size_bytes / before.size_bytes,
        margin=settings.margin,
        left_out=left_out,
        includes_training=_includes_training(before) or _includes_training(after),
        busy=busy,
    )
    context.progress.info(f"compare: {sentence(found)}")
    if busy:
        context.progress.info(
            f"compare: the speedup of {speedup:.2f} is not reliable, because a latency was "
            "measured on a busy machine"
        )
    return found


def difference(
    before: NDArray[np.bool_], after: NDArray[np.bool_], settings: Compare = _DEFAULT
) -> Difference:
    """The paired difference in accuracy.

    Args:
        before: bool, (N,): whether the champion's prediction is correct.
        after: bool, (N,): whether the challenger's prediction is correct.
        settings: Margin and confidence.

    Returns:
        The difference, its interval, McNemar's test and the equivalence test.
    """
    only_before = int((before & ~after).sum())
    only_after = int((~before & after).sum())
    total = len(before)
    shown = paired_interval(only_after, only_before, total, settings.confidence)
    # Two one-sided tests at level a are the interval at confidence 1 - 2a (Schuirmann 1987).
    tost = paired_interval(only_after, only_before, total, 2 * settings.confidence - 1)
    margin = settings.margin / 100
    if shown.low > 0:
        verdict: Verdict = "better"
    elif tost.low > -margin and tost.high < margin:
        verdict = "as good"
    elif shown.high < 0:
        verdict = "worse"
    else:
        verdict = "not settled"
    p_value = mcnemar(only_before, only_after)
    return Difference(total, shown, only_before, only_after, p_value, tost, verdict)


def mcnemar(only_before: int, only_after: int) -> float:
    """McNemar's exact test (1947) on the images where exactly one of two classifiers is correct.

    Args:
        only_before: Number of images that only one classifier predicts correctly.
        only_after: Number of images that only the other classifier predicts correctly.

    Returns:
        The two-sided p-value; 1 if both numbers are 0.
    """
    from scipy.stats import binomtest

    total = only_before + only_after
    return 1.0 if total == 0 else float(binomtest(only_after, total).pvalue)


def paired_interval(gained: float, lost: float, total: int, confidence: float) -> Interval:
    """The difference of two paired proportions with its score interval.

    Source: Tango 1998, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", Statistics in Medicine 17. In contrast to Wald and
    bootstrap intervals, it is valid if the two never disagree.

    Args:
        gained: Number of images that only the second classifier predicts correctly.
        lost: Number of images that only the first classifier predicts correctly.
        total: Number of all images, above 0.
        confidence: Confidence level, in (0, 1).

    Returns:
        (gained - lost) / total with its interval.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    value = (gained - lost) / total

    def score(delta: float) -> float:
        """Tango's test statistic for a true difference of delta."""
        a = 2 * total
        b = -gained - lost + (2 * total - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (np.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = total * (2 * q + delta * (1 - delta))
        if variance <= 1e-12:
            return float(np.sign(gained - lost - total * delta) * 1e9)
        return float((gained - lost - total * delta) / np.sqrt(variance))

    low = _root(lambda d: score(d) - z, -1.0, value)
    high = _root(lambda d: score(d) + z, value, 1.0)
    return Interval(value, low, high)


def _root(function: Any, low: float, high: float) -> float:  # noqa: ANN401 - float to float
    """Bisection of a decreasing function. 60 steps reach double precision."""
    for _ in range(60):
        mid = (low + high) / 2
        if function(mid) > 0:
            low = mid
        else:
            high = mid
    return (low + high) / 2


_IMAGE_COLUMNS = ("domain", "path", "digest", "label", "top_classes")


@dataclass(frozen=True)
class _Pairs:
    """Whether both classifiers predict the images of one domain correctly.

    Attributes:
        labels: int64, (N,): class ids of the champion.
        before: bool, (N,): the champion.
        after: bool, (N,): the challenger.
    """

    labels: NDArray[np.int64]
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]

    def recalls(self, classes: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Class to the recall of champion and challenger; classes without images are left out."""
        of_class = {name: self.labels == label for label, name in enumerate(classes)}
        return {
            name: (float(self.before[rows].mean()), float(self.after[rows].mean()))
            for name, rows in of_class.items()
            if rows.any()
        }


def _paired(before: Evaluation, after: Evaluation) -> tuple[dict[str, _Pairs], int]:
    """Domain to pairs, and the number of images that were left out."""
    before_rows, after_rows = (_rows_by_image(e) for e in (before, after))
    if before_rows.keys() != after_rows.keys():
        shared = len(before_rows.keys() & after_rows.keys())
        raise DataError(
            f"the evaluations are not on the same images: {shared:,} of {len(before_rows):,} and "
            f"{len(after_rows):,} are shared.",
            hint="Evaluate both on the same data set.",
        )
    found: dict[str, list[tuple[int, bool, bool]]] = {}
    for key, (label, predicted, counted) in before_rows.items():
        other_label, other_predicted, other_counted = after_rows[key]
        if before.classes[label] != after.classes[other_label]:
            raise DataError("the two evaluations have different labels.", where=key[1])
        if counted and other_counted:
            pair = (label, label == predicted, other_label == other_predicted)
            found.setdefault(key[0], []).append(pair)
    total = sum(map(len, found.values()))
    if not total:
        raise DataError(
            f"one of the two models was made with each of the {len(before_rows):,} images.",
            hint="Evaluate both on other images, or with --include-training.",
        )
    pairs = {
        domain: _Pairs(*map(np.asarray, zip(*rows, strict=True))) for domain, rows in found.items()
    }
    return pairs, len(before_rows) - total


def _rows_by_image(evaluation: Evaluation) -> dict[tuple[str, str, bytes], tuple[int, int, bool]]:
    """(domain, path, digest) to label, prediction, and whether the image counts."""
    columns = [evaluation.table[name].to_pylist() for name in _IMAGE_COLUMNS]
    return {
        (domain, path, digest): (label, top[0], counted)
        for domain, path, digest, label, top, counted in zip(
            *columns, evaluation.counted.tolist(), strict=True
        )
    }


def _includes_training(evaluation: Evaluation) -> bool:
    return bool((evaluation.counted & (evaluation.roles > 0)).any())


def check_required(found: Comparison, settings: Compare) -> None:
    """Checks that the challenger is as good as required.

    Args:
        found: The comparison.
        settings: The setting `require`.

    Raises:
        NotBetter: It is not.
    """
    allowed = {
        "nothing": ("better", "as good", "worse", "not settled"),
        "as-good": ("better", "as good"),
        "better": ("better",),
    }[settings.require]
    if found.verdict not in allowed:
        raise NotBetter(f"{sentence(found)}.")


def sentence(found: Comparison) -> str:
    """The comparison on the first domain as one sentence, without a full stop."""
    d = next(iter(found.differences.values()))
    points = [100 * v for v in (d.accuracy.value, d.accuracy.low, d.accuracy.high)]
    relation = {
        "better": f"{found.after} is better than {found.before}",
        "as good": f"{found.after} is as good as {found.before}",
        "worse": f"{found.after} is worse than {found.before}",
        "not settled": f"too few images to tell {found.after} from {found.before}",
    }[d.verdict]
    trained = ", including images that a model was trained on" if found.includes_training else ""
    return (
        f"{relation}: {points[0]:+.2f} points [{points[1]:+.2f}, {points[2]:+.2f}] "
        f"on {count(d.images, 'image')}{trained}, McNemar p = {d.p_value:.2g}"
    )
