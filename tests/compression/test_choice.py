"""The choice among compared candidates."""

from types import SimpleNamespace

import pytest

from acclimate.compression.accuracy_budget import AccuracyDrop
from acclimate.compression.candidates import ORIGINAL, Candidate
from acclimate.compression.choice import choose
from acclimate.compression.settings import Compress
from acclimate.evaluation.latency import Latency


def candidate(name, lost=0, gained=0, *, images=5_000, speedup=2.0, size=4, macs=100, flips=None):
    drop = AccuracyDrop(images, lost, gained, (lost + gained) / images if flips is None else flips)
    return Candidate(
        name, {"made": name}, size * 1_000_000, macs, Latency(10 / speedup, 11 / speedup, 100),
        speedup, drop=drop,
    )  # fmt: skip


def choice(*candidates, **settings):
    baseline = Candidate(ORIGINAL, {}, 16_000_000, 100, Latency(10, 11, 100), 1.0)
    job = SimpleNamespace(baseline=baseline, settings=Compress(**settings))
    return choose(candidates, job)


FAST, SAFE = candidate("fast", 80, 40, speedup=4.0), candidate("safe", 12, 12, speedup=2.0)


def test_the_fastest_that_is_shown_to_be_within_the_budget_is_chosen():
    assert choice(FAST, SAFE, max_accuracy_drop=2).candidate is FAST
    found = choice(FAST, SAFE, max_accuracy_drop=0.5)
    assert found.candidate is SAFE
    assert found.within_budget
    assert "within the budget of 0.5" in found.sentence


def test_a_candidate_that_is_shown_goes_before_a_faster_one_that_is_hoped_for():
    hoped = candidate("hoped", 20, 0, speedup=4.0)  # 0.4 points by the estimate
    assert choice(hoped, SAFE, max_accuracy_drop=0.45).candidate is SAFE


def test_of_estimates_the_faithful_one_is_chosen_and_not_the_lucky_one():
    lucky = candidate("lucky", 8, 10, images=300, speedup=4.0)
    faithful = candidate("faithful", 2, 1, images=300, speedup=2.0)
    found = choice(lucky, faithful, max_accuracy_drop=0.5)
    assert found.candidate is faithful
    assert not found.within_budget
    assert "300 val images cannot show" in found.sentence


def test_one_more_changed_prediction_does_not_make_an_estimate_worse():
    fast = candidate("fast", 1, 0, images=300, speedup=4.0)
    slow = candidate("slow", 0, 0, images=300, speedup=1.2)
    assert choice(fast, slow, max_accuracy_drop=0.5).candidate is fast


def test_more_comparisons_need_more_evidence():
    alone = choice(SAFE, max_accuracy_drop=0.35)
    many = choice(SAFE, *(candidate(f"bad{n}", 900) for n in range(20)), max_accuracy_drop=0.35)
    assert many.bound > alone.bound
    assert (alone.comparisons, many.comparisons) == (1, 21)


@pytest.mark.parametrize(
    ("target", "name"), [("latency", "quick"), ("size", "small"), ("macs", "narrow")]
)
def test_the_target_decides(target, name):
    some = (
        candidate("quick", speedup=5.0, size=8, macs=90),
        candidate("small", speedup=1.5, size=2, macs=95),
        candidate("narrow", speedup=1.2, size=9, macs=40),
    )
    assert choice(*some, target=target, max_accuracy_drop=5).candidate.name == name


def test_what_is_hardly_faster_is_not_worth_it():
    found = choice(candidate("same", speedup=1.01), max_accuracy_drop=5)
    assert found.candidate is None
    assert found.within_budget
    assert found.limits_met
    assert found.sentence.startswith("no candidate is faster than the original")


def test_limits_exclude_candidates_and_the_original_may_meet_them_itself():
    assert choice(SAFE, FAST, max_accuracy_drop=2, max_latency_ms=3).candidate is FAST
    missed = choice(SAFE, FAST, max_accuracy_drop=2, max_latency_ms=1)
    assert (missed.candidate, missed.limits_met) == (None, False)
    assert choice(candidate("bad", 4_000), max_latency_ms=20).limits_met
    assert not choice(SAFE, max_accuracy_drop=2, max_size_mb=1).limits_met
