"""Chooses among the compared candidates: the best one that is shown to be within the budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from acclimate.compression.acceptance import FASTER, SMALLER
from acclimate.compression.candidates import Candidate
from acclimate.compression.search_job import SearchJob
from acclimate.compression.settings import Compress


@dataclass(frozen=True)
class Choice:
    """The chosen candidate and what is known of it.

    Attributes:
        candidate: None if the original stays.
        bound: Upper confidence bound of its drop of accuracy in percentage points.
        comparisons: How often the val images had a say, over all candidates.
        within_budget: Whether the bound is within the accuracy budget.
        limits_met: Whether the limits of latency and size are met.
        size_ratio: Size over that of the original.
        sentence: What was chosen and why.
    """

    candidate: Candidate | None
    bound: float
    comparisons: int
    within_budget: bool
    limits_met: bool
    size_ratio: float
    sentence: str

    def figures(self, accuracy: float) -> dict[str, float]:
        """The figures for the model's card.

        Args:
            accuracy: Val accuracy of the original.

        Returns:
            Name to figure; yes and no are 1 and 0.
        """
        found: dict[str, float] = {
            "val_accuracy_before": accuracy,
            "accuracy_drop_bound": self.bound,
            "comparisons": self.comparisons,
            "within_budget": float(self.within_budget),
            "limits_met": float(self.limits_met),
            "size_ratio": self.size_ratio,
        }
        one = self.candidate
        if one is None or one.drop is None:
            return found
        found |= {
            "val_accuracy": accuracy - one.drop.estimate / 100,
            "accuracy_drop": one.drop.estimate,
            "flips": one.drop.flips,
            "val_images": one.drop.images,
            "macs": one.macs,
        }
        if one.latency is not None and one.speedup is not None:
            found |= {"speedup": one.speedup, "p50_ms": one.latency.p50_ms}
        return found


def choose(compared: Sequence[Candidate], job: SearchJob, *, picked: bool = False) -> Choice:
    """Chooses the best candidate for the target.

    Candidates whose drop is shown to be within the budget come first, then those whose estimate
    is; if there are neither, the original stays.

    Args:
        compared: Candidates with a drop of accuracy.
        job: Holds the original and the budget.
        picked: Whether the user has chosen the only candidate, whatever its figures.

    Returns:
        The choice.
    """
    settings, baseline = job.settings, job.baseline
    comparisons = sum(one.looks for one in compared) or 1
    bounds = {one.name: _bound(one, settings, comparisons) for one in compared}
    better = [one for one in compared if picked or _is_better(one, baseline, settings)]
    fit = [one for one in better if _meets_limits(one, settings)]
    shown = [one for one in fit if bounds[one.name] <= settings.max_accuracy_drop]
    hoped = [one for one in fit if _estimate(one) <= settings.max_accuracy_drop]
    pool = compared if picked else shown or _most_faithful(hoped)
    if not pool:
        return _original(baseline, settings, comparisons)
    best = min(pool, key=lambda one: _cost(one, settings))
    within = bounds[best.name] <= settings.max_accuracy_drop
    limits = _meets_limits(best, settings)
    ratio = best.size_bytes / baseline.size_bytes
    sentence = _sentence(best, bounds[best.name], ratio, settings, within=within, limits=limits)
    return Choice(best, bounds[best.name], comparisons, within, limits, ratio, sentence)


def _most_faithful(hoped: Sequence[Candidate]) -> list[Candidate]:
    """Those that may change as few predictions as the best one.

    If no bound is within the budget, an estimate on few labels is mostly luck. How many predictions
    change varies much less, and limits the drop. Numbers that differ by less than two standard
    errors of a count are alike.
    """
    changed = {one.name: one.drop.flips * one.drop.images for one in hoped if one.drop is not None}
    least = min(changed.values(), default=0.0)
    return [one for one in hoped if changed[one.name] <= least + 2 * math.sqrt(least + 1)]


def _original(baseline: Candidate, settings: Compress, comparisons: int) -> Choice:
    """The original stays, since no candidate is better, within the budget and the limits."""
    limited = settings.max_latency_ms is not None or settings.max_size_mb is not None
    unmet = "within the limits" if limited else f"{_adjective(settings)} than the original"
    return Choice(
        None,
        0.0,
        comparisons,
        within_budget=True,
        limits_met=_meets_limits(baseline, settings),
        size_ratio=1.0,
        sentence=f"no candidate is {unmet} and within {settings.max_accuracy_drop:g} points of its "
        "accuracy: the float model stays.",
    )


def _bound(candidate: Candidate, settings: Compress, comparisons: int) -> float:
    assert candidate.drop is not None
    return candidate.drop.upper_bound(settings.confidence, comparisons)


def _estimate(candidate: Candidate) -> float:
    assert candidate.drop is not None
    return candidate.drop.estimate


def _is_better(candidate: Candidate, baseline: Candidate, settings: Compress) -> bool:
    """Whether it is worth its drop of accuracy, for the target."""
    if settings.target == "latency":
        return (candidate.speedup or 0.0) >= FASTER
    if settings.target == "size":
        return candidate.size_bytes <= SMALLER * baseline.size_bytes
    return candidate.macs <= SMALLER * baseline.macs


def _meets_limits(candidate: Candidate, settings: Compress) -> bool:
    latency, size = settings.max_latency_ms, settings.max_size_mb
    quick = latency is None or (
        candidate.latency is not None and candidate.latency.p50_ms <= latency
    )
    return quick and (size is None or candidate.size_bytes <= 1e6 * size)


def _cost(candidate: Candidate, settings: Compress) -> tuple[float, float]:
    """The figure to minimize, and the one that decides between equals."""
    slowness = 1 / (candidate.speedup or 1e-9)
    return {
        "latency": (slowness, candidate.size_bytes),
        "size": (candidate.size_bytes, slowness),
        "macs": (candidate.macs, slowness),
    }[settings.target]


def _adjective(settings: Compress) -> str:
    return {"latency": "faster", "size": "smaller", "macs": "cheaper"}[settings.target]


def _sentence(
    best: Candidate, bound: float, size: float, settings: Compress, *, within: bool, limits: bool
) -> str:
    assert best.drop is not None
    speed = "" if best.speedup is None else f"{best.speedup:.2f}x the speed, "
    busy = " (measured on a busy machine)" if best.latency and best.latency.busy else ""
    facts = (
        f"{best.name}: {speed}{size:.2f}x the size{busy}; {best.drop}, and does not drop by more "
        f"than {bound:.2g} with {100 * settings.confidence:g} % confidence"
    )
    if not limits:
        return f"{facts}. It does not meet the limits of latency or size."
    if within:
        return f"{facts}, which is within the budget of {settings.max_accuracy_drop:g}."
    if best.drop.estimate <= settings.max_accuracy_drop:
        return (
            f"{facts}. {best.drop.images:,} val images cannot show that it is within the budget "
            f"of {settings.max_accuracy_drop:g}."
        )
    return f"{facts}. The budget of {settings.max_accuracy_drop:g} is exceeded."
