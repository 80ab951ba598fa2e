"""Acceptance of a compressed model: accuracy, size and speed."""

import time
from dataclasses import replace

import numpy as np
import pytest

from acclimate.compression import acceptance
from acclimate.compression.acceptance import (
    MAX_IMAGES,
    acceptance_rows,
    accuracy,
    assess_compression,
)
from acclimate.data.dataset import SPLITS
from acclimate.data.images.batches import ordered_batches
from acclimate.models.classifier import Card, Classifier
from kit import CONTRACT


def model(size):
    """A classifier that is only a file of a given size."""
    classes = tuple("0123456789")
    card = Card("a test", "unknown")
    return Classifier("module:none", None, classes, CONTRACT, card, "onnx", bytes(size))


@pytest.fixture(scope="module")
def answers(dataset):
    """Runs that classify the first n val images correctly, with a delay."""
    truth = {}
    for batch in ordered_batches(dataset, dataset.rows("val"), CONTRACT):
        truth |= {i.tobytes(): int(t) for i, t in zip(batch.images, batch.targets, strict=True)}
    order = list(truth)

    def knowing(right, *, slow_s=0.0):
        known = {key: truth[key] for key in order[:right]}

        def run(images):
            time.sleep(slow_s)
            logits = np.zeros((len(images), 10), np.float32)
            for row, image in enumerate(images):
                key = image.tobytes()
                wrong = (truth.get(key, 0) + 1) % 10
                logits[row, known.get(key, wrong)] = 1
            return logits

        return run

    assert len(truth) == len(dataset.rows("val")) == 40
    return knowing


@pytest.fixture
def assess(answers, dataset):
    """(right before, right after) of 40 val images, sizes, and the budget, to an Acceptance."""

    def go(right, sizes=(1000, 400), budget=1.0, slow_s=(0.0, 0.0), **options):
        runs = tuple(answers(n, slow_s=s) for n, s in zip(right, slow_s, strict=True))
        models = (model(sizes[0]), model(sizes[1]))
        names = ("the old", "the new")
        return assess_compression(names, models, runs, dataset, budget, **options)

    return go


def test_smaller_and_as_good_is_kept(assess):
    found = assess((36, 36))
    assert found.keep
    assert found.figures["val_accuracy_before"] == found.figures["val_accuracy"] == 0.9
    assert found.figures["size_ratio"] == 0.4
    assert found.reason.startswith("the new: 0.40x the size and ")
    reason = found.reason.replace(" (measured on a busy machine)", "")
    assert reason.endswith("x the speed of the old, val accuracy 0.900 -> 0.900. Kept.")


def test_a_drop_beyond_the_limit_is_not_kept_and_the_reason_states_it(assess):
    found = assess((36, 32), budget=5.0)
    assert not found.keep
    assert found.reason.endswith(
        "0.900 -> 0.800. Not kept: the drop of 10.0 points exceeds max_accuracy_drop (5)."
    )


def test_a_drop_within_the_limit_is_kept(assess):
    assert assess((36, 35), budget=3.0).keep


@pytest.mark.parametrize(
    ("right", "budget"),
    [((40, 39), 2.5), ((40, 38), 5.0), ((39, 37), 5.0), ((36, 34), 5.0), ((37, 30), 17.5)],
)
def test_a_drop_of_exactly_the_limit_is_kept(assess, right, budget):
    assert assess(right, budget=budget).keep


def test_a_limit_of_zero_allows_no_drop(assess):
    assert assess((30, 30), budget=0.0).keep
    assert assess((30, 34), budget=0.0).keep
    assert not assess((30, 29), budget=0.0).keep


def test_what_is_neither_smaller_nor_faster_is_not_kept(assess):
    found = assess((36, 36), sizes=(1000, 1000), slow_s=(0.001, 0.003))
    assert not found.keep
    assert found.figures["speedup"] < 1
    assert found.reason.endswith(" Not kept: neither smaller nor faster.")


def test_larger_but_faster_is_kept(assess):
    found = assess((36, 36), sizes=(1000, 1200), slow_s=(0.004, 0.0))
    assert found.keep
    assert found.figures["speedup"] > 1.5
    assert found.figures["p50_ms"] < found.figures["p50_ms_before"]


def test_smaller_but_slower_is_kept_and_the_reason_states_the_speed(assess):
    found = assess((36, 36), slow_s=(0.0, 0.004))
    assert found.keep
    assert found.figures["speedup"] < 0.8
    assert f"{found.figures['speedup']:.2f}x the speed" in found.reason


def test_accuracy_is_the_fraction_of_correct_predictions(answers, dataset):
    rows = dataset.rows("val")
    assert accuracy(answers(31), model(1), dataset, rows) == 31 / 40
    assert accuracy(answers(0), model(1), dataset, rows) == 0.0


def test_models_are_compared_on_val_and_never_on_test(dataset):
    assert np.array_equal(acceptance_rows(dataset), dataset.rows("val"))


def test_models_are_compared_on_train_if_val_is_empty(dataset):
    names = [SPLITS[i] for i in dataset.splits]
    alone = dataset.with_columns({"split": ["test" if n == "val" else n for n in names]})
    assert np.array_equal(acceptance_rows(alone), alone.rows("train"))


def test_a_large_val_split_is_sampled_evenly(dataset):
    val = dataset.rows("val")
    many = replace(dataset, table=dataset.table.take(np.tile(val, 1 + 2 * MAX_IMAGES // len(val))))
    rows = acceptance_rows(many)
    assert len(rows) == len(set(rows.tolist())) == MAX_IMAGES
    assert rows[0] == 0
    assert rows[-1] == len(many) - 1
    assert set(np.diff(rows).tolist()) <= {2, 3}


def test_a_smaller_model_that_is_slower_is_kept_only_if_it_may_be_slower(assess, monkeypatch):
    monkeypatch.setattr(acceptance, "SLOWER", 0.9)
    assert assess((36, 36), slow_s=(0.0, 0.02)).keep
    found = assess((36, 36), slow_s=(0.0, 0.02), must_not_slow_down=True)
    assert found.keep == ("busy machine" in found.reason)
    assert found.keep or found.reason.endswith("Not kept: it is slower.")
