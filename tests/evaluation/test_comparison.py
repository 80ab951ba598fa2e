"""Two evaluations side by side: the difference, its interval, and what may be said of it."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import xlogy
from scipy.stats import binom, norm

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.sources.read import read
from acclimate.errors import DataError, NotBetter
from acclimate.evaluation.comparison import (
    Comparison,
    check_required,
    compare,
    difference,
    mcnemar,
    paired_interval,
    sentence,
)
from acclimate.evaluation.evaluate import Evaluation, evaluate
from acclimate.evaluation.latency import Latency
from acclimate.evaluation.settings import Compare, Evaluate
from kit import Recorder


def evaluation(name, labels, said, classes=("a", "b", "c"), domains=None, used_for=None, **fields):
    """What an evaluation of these images holds."""
    table = pa.table(
        {
            "path": [f"{index}.png" for index in range(len(labels))],
            "domain": domains or ["home"] * len(labels),
            "used_for": pa.array(used_for or [None] * len(labels), pa.string()),
            "digest": pa.array([b"%016d" % index for index in range(len(labels))], pa.binary(16)),
            "label": pa.array(labels, pa.int32()),
            "top_classes": pa.array([[s] for s in said], pa.list_(pa.int32())),
            "top_probabilities": pa.array([[0.9]] * len(labels), pa.list_(pa.float32())),
            "loss": pa.array([0.1] * len(labels), pa.float32()),
        }
    )
    given = {
        "metrics": {},
        "latency": None,
        "size_bytes": 100,
        "precision": "float32",
        "runtime": "torch",
        "split": "test",
        "settings": {},
        "dataset_digest": "d",
        "classifier_digest": name,
        **fields,
    }
    return Evaluation(name=name, table=table, classes=classes, **given)


def pair(gained, lost, total, **fields):
    """A champion and a challenger that disagree on so many of so many images."""
    before, after = hits(gained, lost, total)
    labels = [0] * total
    return (
        evaluation("old", labels, [0 if hit else 1 for hit in before], **fields),
        evaluation("new", labels, [0 if hit else 1 for hit in after], **fields),
    )


def hits(gained, lost, total):
    both = (total - gained - lost) // 2
    before = np.asarray([False] * gained + [True] * lost + [True] * both, bool)
    after = np.asarray([True] * gained + [False] * lost + [True] * both, bool)
    rest = np.zeros(total - len(before), bool)
    return np.concatenate([before, rest]), np.concatenate([after, rest])


# Tango's interval


def independent_interval(gained, lost, total, confidence):
    """The score test inverted, with its nuisance parameter found by maximizing the likelihood."""

    def score(delta):
        def unlikely(q):
            rest = max(1 - 2 * q - delta, 0)
            concordant = total - gained - lost
            return -(xlogy(gained, q + delta) + xlogy(lost, q) + xlogy(concordant, rest))

        least, most = max(0.0, -delta), (1 - delta) / 2
        q = minimize_scalar(
            unlikely, bounds=(least, most), method="bounded", options={"xatol": 1e-12}
        ).x
        variance = total * (2 * q + delta * (1 - delta))
        return (gained - lost - total * delta) / math.sqrt(max(variance, 1e-30))

    z, value, edge = norm.ppf((1 + confidence) / 2), (gained - lost) / total, 1 - 1e-9
    low = -1.0 if lost == total else brentq(lambda d: score(d) - z, -edge, value)
    high = 1.0 if gained == total else brentq(lambda d: score(d) + z, value, edge)
    return low, high


@pytest.mark.parametrize(
    ("table", "confidence", "expected"),
    [
        # Bentur et al. 2009 in Fagerland, Lydersen and Laake 2014: hyper-responsive airways.
        ((1, 7, 21), 0.95, (-0.517, -0.026)),
        # PropCIs 0.3-0 for R: scoreci.mp(25, 28, 618, 0.90), which takes the second from the first.
        ((28, 25, 618), 0.90, (-0.0148, 0.0247)),
    ],
)
def test_the_interval_is_the_published_one(table, confidence, expected):
    found = paired_interval(*table, confidence)
    digits = 3 if confidence == 0.95 else 4
    assert (round(found.low, digits), round(found.high, digits)) == expected


@settings(max_examples=60, deadline=None)
@given(
    counts=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 120)),
    confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]),
)
def test_the_interval_inverts_the_score_test(counts, confidence):
    gained, lost, concordant = counts
    total = gained + lost + concordant
    assume(total > 0)
    found = paired_interval(gained, lost, total, confidence)
    expected = independent_interval(gained, lost, total, confidence)
    assert (found.low, found.high) == pytest.approx(expected, abs=2e-4)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.value == pytest.approx((gained - lost) / total)


@settings(max_examples=30, deadline=None)
@given(total=st.integers(1, 5000), confidence=st.floats(0.55, 0.999))
def test_two_that_never_disagree_are_within_a_known_distance(total, confidence):
    z = norm.ppf((1 + confidence) / 2)
    found = paired_interval(0, 0, total, confidence)
    assert found.high == pytest.approx(z * z / (total + z * z), abs=1e-9)
    assert found.low == pytest.approx(-found.high, abs=1e-12)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        gained, lost, _ = rng.multinomial(120, [0.12, 0.05, 0.83])
        found = paired_interval(int(gained), int(lost), 120, 0.95)
        held += found.low <= 0.07 <= found.high
    assert 0.92 <= held / 400 <= 0.985


# McNemar's test


@settings(max_examples=60, deadline=None)
@given(only_before=st.integers(0, 60), only_after=st.integers(0, 60))
def test_mcnemars_test_is_the_exact_binomial_one(only_before, only_after):
    total, fewer = only_before + only_after, min(only_before, only_after)
    by_hand = 2 * sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total
    found = mcnemar(only_before, only_after)
    assert found == pytest.approx(min(1.0, by_hand))
    assert found == pytest.approx(min(1.0, 2 * binom.cdf(fewer, total, 0.5)))
    assert found == pytest.approx(mcnemar(only_after, only_before))


def test_two_that_never_disagree_give_no_evidence():
    assert mcnemar(0, 0) == 1.0


# Verdicts


@settings(max_examples=40, deadline=None)
@given(
    gained=st.integers(0, 80),
    lost=st.integers(0, 80),
    concordant=st.integers(1, 500),
    margin=st.sampled_from([0.5, 1.0, 5.0]),
)
def test_swapping_the_two_turns_everything_round(gained, lost, concordant, margin):
    before, after = hits(gained, lost, gained + lost + concordant)
    ours = difference(before, after, Compare(margin=margin))
    theirs = difference(after, before, Compare(margin=margin))
    assert (ours.only_before, ours.only_after) == (lost, gained)
    assert (theirs.only_before, theirs.only_after) == (gained, lost)
    assert ours.p_value == pytest.approx(theirs.p_value)
    for name in ("accuracy", "equivalence"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert (one.value, one.low, one.high) == pytest.approx(
            (-other.value, -other.high, -other.low), abs=1e-9
        )
    allowed = {
        "better": ("worse", "as good"),
        "as good": ("as good", "better"),
        "worse": ("better",),
        "not settled": ("not settled",),
    }
    assert theirs.verdict in allowed[ours.verdict]


@pytest.mark.parametrize(
    ("gained", "lost", "total", "margin", "verdict"),
    [
        (60, 20, 1000, 1.0, "better"),
        (20, 60, 1000, 1.0, "worse"),
        (10, 10, 2000, 1.0, "as good"),
        (0, 0, 500, 1.0, "as good"),
        (3, 2, 50, 1.0, "not settled"),
        (0, 0, 50, 1.0, "not settled"),
        (0, 0, 50, 10.0, "as good"),
        (5, 25, 4000, 1.0, "as good"),  # surely a little worse, surely by less than matters
        (25, 5, 4000, 1.0, "better"),  # surely a little better: the stronger word wins
        (0, 0, 500, 0.0, "not settled"),
    ],
)
def test_the_verdict_is_one_word(gained, lost, total, margin, verdict):
    found = difference(*hits(gained, lost, total), Compare(margin=margin))
    assert found.verdict == verdict
    assert found.images == total
    assert found.accuracy.value == pytest.approx((gained - lost) / total)


def test_the_equivalence_test_is_two_one_sided_tests_at_the_same_level():
    found = difference(*hits(30, 20, 900), Compare(confidence=0.95))
    assert found.accuracy == paired_interval(30, 20, 900, 0.95)
    expected = paired_interval(30, 20, 900, 0.9)
    assert (found.equivalence.low, found.equivalence.high) == pytest.approx(
        (expected.low, expected.high)
    )


# Comparing evaluations


def test_a_real_challenger_is_set_against_a_real_champion(start, dataset, context):
    quick = Evaluate(bootstrap=100, latency=False)
    champion = evaluate(start, dataset, quick, context=context, name="probe")
    blind = replace(start, contract=replace(start.contract, mean=(0.9, 0.9, 0.9)))
    challenger = evaluate(blind, dataset, quick, context=context, name="blind")
    found = compare(champion, challenger)
    assert list(found.differences) == ["home", "shifted"]
    for domain, d in found.differences.items():
        accuracies = [e.metrics[domain]["accuracy"].value for e in (champion, challenger)]
        assert d.images == 80
        assert d.accuracy.value == pytest.approx(accuracies[1] - accuracies[0])
        recalls = np.asarray(list(found.per_class[domain].values()))
        images = champion.confusion(domain).sum(1)
        assert (recalls * images[:, None]).sum(0) / 80 == pytest.approx(accuracies)
    assert found.verdict == found.differences["home"].verdict
    assert found.size_ratio == 1.0
    itself = compare(champion, champion)
    assert itself.differences["home"].accuracy.value == 0
    assert itself.differences["home"].p_value == 1.0


def test_images_are_paired_by_name_and_not_by_place():
    old, new = pair(12, 5, 90)
    shuffled = replace(new, table=new.table.take(np.random.default_rng(0).permutation(90)))
    assert compare(old, shuffled) == compare(old, new)


def test_classes_are_paired_by_name_and_not_by_number():
    old = evaluation("old", [0, 1, 2, 2], [0, 1, 2, 2], classes=("a", "b", "c"))
    new = evaluation("new", [2, 1, 0, 0], [2, 0, 0, 2], classes=("c", "b", "a"))
    found = compare(old, new)
    assert found.differences["home"].only_before == 2
    assert found.differences["home"].only_after == 0
    assert found.per_class["home"] == {"a": (1.0, 1.0), "b": (1.0, 0.0), "c": (1.0, 0.5)}


def test_classes_without_images_are_left_out_of_the_table():
    old, new = pair(1, 1, 10)
    assert list(compare(old, new).per_class["home"]) == ["a"]


def test_domains_are_compared_each_for_itself():
    labels, domains = [0] * 60, ["home"] * 40 + ["rain"] * 20
    old = evaluation("old", labels, [0] * 40 + [1] * 20, domains=domains)
    new = evaluation("new", labels, [0] * 60, domains=domains)
    found = compare(old, new)
    assert found.differences["home"].accuracy.value == 0
    assert found.differences["rain"].accuracy.value == 1
    assert found.differences["rain"].verdict == "better"
    assert found.verdict == found.differences["home"].verdict == "not settled"


def test_speed_and_size_are_told_as_ratios():
    slow, fast = (Latency(1.0, 2.0, per_s) for per_s in (100.0, 250.0))
    old, new = pair(1, 1, 10)
    found = compare(replace(old, latency=slow), replace(new, latency=fast, size_bytes=25))
    assert (found.speedup, found.size_ratio) == (2.5, 0.25)
    assert compare(replace(old, latency=slow), new).speedup is None


def test_a_speedup_of_times_on_a_busy_machine_is_said_to_be_unreliable():
    steady, busy = (Latency(1.0, 2.0, 100.0, busy=busy) for busy in (False, True))
    old, new = pair(1, 1, 10)
    for first, second in ((busy, steady), (steady, busy)):
        told = Recorder()
        found = compare(
            replace(old, latency=first),
            replace(new, latency=second),
            context=Context(progress=told),
        )
        assert found.busy
        assert told.lines[-1] == (
            "compare: the speedup of 1.00 is not reliable, because a latency was measured on a "
            "busy machine"
        )
    assert not compare(replace(old, latency=steady), replace(new, latency=steady)).busy


def test_other_images_are_refused():
    old, new = pair(2, 2, 10)
    fewer = replace(new, table=new.table.slice(0, 8))
    with pytest.raises(DataError) as caught:
        compare(old, fewer)
    assert str(caught.value) == (
        "the evaluations are not on the same images: 8 of 10 and 8 are shared. "
        "Evaluate both on the same data set."
    )


def test_other_images_under_the_same_names_are_refused(start, digits, shifted, context):
    quick, judge = Evaluate(bootstrap=100, latency=False), Clean(val=0.0, test=1.0)
    one, other = (
        evaluate(start, clean(read(place), judge, context=context), quick, context=context)
        for place in (digits / "test", shifted)
    )
    assert sorted(one.table["path"].to_pylist()) == sorted(other.table["path"].to_pylist())
    with pytest.raises(DataError, match="the evaluations are not on the same images"):
        compare(one, other)


def test_other_labels_are_refused():
    old = evaluation("old", [0, 1], [0, 1])
    new = evaluation("new", [0, 2], [0, 1])
    with pytest.raises(DataError) as caught:
        compare(old, new)
    assert str(caught.value) == "1.png: the two evaluations have different labels."


# In words


def test_the_comparison_is_one_sentence():
    old, new = pair(0, 0, 100)
    assert sentence(compare(old, new)) == (
        "too few images to tell new from old: +0.00 points [-3.70, +3.70] on 100 images, "
        "McNemar p = 1"
    )
    assert sentence(compare(old, new, Compare(margin=5))).startswith("new is as good as old: ")
    assert sentence(compare(*pair(60, 20, 1000))).startswith("new is better than old: +4.00 points")
    assert sentence(compare(*pair(20, 60, 1000))).startswith("new is worse than old: -4.00 points")


VERDICTS = {
    "better": (60, 20, 1000),
    "as good": (10, 10, 2000),
    "worse": (20, 60, 1000),
    "not settled": (3, 2, 50),
}
ENOUGH = {
    "nothing": {"better", "as good", "worse", "not settled"},
    "as-good": {"better", "as good"},
    "better": {"better"},
}


@pytest.mark.parametrize("require", ENOUGH)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_what_is_required_is_answered_by_exit_code_3(require, verdict):
    found = compare(*pair(*VERDICTS[verdict]))
    assert found.verdict == verdict
    if verdict in ENOUGH[require]:
        check_required(found, Compare(require=require))
        return
    with pytest.raises(NotBetter) as caught:
        check_required(found, Compare(require=require))
    assert (caught.value.exit_code, caught.value.code) == (3, "not-better")
    assert str(caught.value) == f"{sentence(found)}."


# On disk


@pytest.fixture
def saved(tmp_path):
    """A saved comparison to spoil."""
    compare(*pair(12, 5, 90)).save(tmp_path / "found.json")
    return tmp_path / "found.json"


def test_what_is_saved_is_what_is_loaded(saved):
    found = compare(*pair(12, 5, 90))
    again = Comparison.load(saved)
    assert again == found
    assert again.digest == found.digest
    assert json.loads(saved.read_text())["verdict"] == found.verdict


@pytest.mark.parametrize(
    "change",
    [
        {"differences": ...},
        {"differences": []},
        {"differences": {}},
        {"differences": {"home": {}}},
        {"per_class": {"home": {"a": 1}}},
        {"format": "1"},
        {"more": 1},
    ],
    ids=repr,
)
def test_a_damaged_comparison_is_refused(saved, change):
    record = {**json.loads(saved.read_text()), **change}
    saved.write_text(json.dumps({k: v for k, v in record.items() if v is not ...}))
    with pytest.raises(DataError) as caught:
        Comparison.load(saved)
    assert str(caught.value).startswith(f"{saved}: ")
    assert "\n" not in str(caught.value)


def test_a_comparison_that_is_not_there_is_told_in_one_sentence(tmp_path):
    with pytest.raises(DataError) as caught:
        Comparison.load(tmp_path / "no.json")
    assert str(caught.value) == (
        f"{tmp_path}/no.json: no such file. Run `acclimate compare` first."
    )


def test_a_newer_format_is_refused(saved):
    saved.write_text(json.dumps({**json.loads(saved.read_text()), "format": 2}))
    with pytest.raises(DataError) as caught:
        Comparison.load(saved)
    assert (
        str(caught.value)
        == f"{saved}: comparison was written by a newer acclimate. Upgrade acclimate."
    )


def test_images_that_one_model_was_made_with_are_not_compared():
    recorder = Recorder()
    before = evaluation("old", [0, 0, 1, 1], [0, 0, 1, 0], used_for=["train", None, None, None])
    after = evaluation("new", [0, 0, 1, 1], [1, 1, 1, 1], used_for=[None, None, None, "val"])
    found = compare(before, after, context=Context(progress=recorder))
    assert found.differences["home"].images == 2
    assert found.left_out == 2
    assert found.per_class["home"] == {"a": (1.0, 0.0), "b": (1.0, 1.0)}
    assert recorder.lines[0] == (
        "compare: 2 images left out, because one of the models was made with them"
    )
    others = evaluation("new", [0, 0, 1, 1], [1, 1, 1, 1], used_for=[None, "train", "val", "val"])
    with pytest.raises(DataError, match="one of the two models was made with each of the 4"):
        compare(before, others)


def test_a_comparison_on_training_images_says_so():
    included = {"include_training": True}
    before = evaluation("old", [0, 1], [0, 1], used_for=["train", None], settings=included)
    after = evaluation("new", [0, 1], [0, 1])
    found = compare(before, after)
    assert found.includes_training
    assert "on 2 images, including images that a model was trained on, McNemar" in sentence(found)
