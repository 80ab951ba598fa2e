"""Rare classes, and labels that are probably wrong."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.errors import RecipeError
from acclimate.training.batches.train_batches import ImageBatches
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.optim.class_imbalance import balanced_order, label_trust, log_shares
from kit import CONTRACT


def with_few(dataset, label, most):
    """The data with only so many training images of one class."""
    rows = dataset.rows("train")
    gone = rows[dataset.labels[rows] == label][most:]
    keep = dataset.keep.copy()
    keep[gone] = False
    return dataset.with_columns({"keep": keep})


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 2**32))
def test_each_class_comes_as_often_and_each_of_its_images_too(sizes, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.random.default_rng(seed).permutation(1000)[: len(labels)]
    order, times = balanced_order(rows, labels, np.random.default_rng(seed))
    assert len(order) == len(times) == len(rows)
    label_of = dict(zip(rows.tolist(), labels.tolist(), strict=True))
    per_class = np.bincount([label_of[r] for r in order.tolist()], minlength=len(sizes))
    if len(rows) >= len(sizes):
        assert per_class.max() - per_class.min() <= 1
    for label in range(len(sizes)):
        own = rows[labels == label].tolist()
        often = [order.tolist().count(r) for r in own]
        assert max(often) - min(often) <= 1
    pairs = set(zip(order.tolist(), times.tolist(), strict=True))
    assert len(pairs) == len(order)


def epoch_of(dataset, policy, number, **options):
    source = ImageBatches(TrainingImages(dataset, policy, CONTRACT), 16, seed=3, **options)
    return list(source.train_batches(number))


def test_a_balanced_epoch_shows_rare_classes_as_often_and_each_time_anew(dataset, policy):
    rare = with_few(dataset, 4, 3)
    shares = epoch_of(rare, policy, 1, balanced=True)
    rows = np.concatenate([s.rows for s in shares])
    targets = np.concatenate([s.targets for s in shares])
    assert len(rows) == len(rare.rows("train"))
    assert (targets == rare.labels[rows]).all()
    counts = np.bincount(targets, minlength=10)
    assert counts.max() - counts.min() <= 1
    images = np.concatenate([s.images for s in shares])
    own = images[targets == 4]
    assert len(np.unique(own.reshape(len(own), -1), axis=0)) == len(own)


def test_a_balanced_epoch_is_another_each_time_and_the_same_again(dataset, policy):
    rare = with_few(dataset, 4, 3)
    one, again, other = (
        [s.rows.tolist() for s in epoch_of(rare, policy, n, balanced=True)] for n in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_an_even_epoch_shows_each_image_once(dataset, policy):
    rare = with_few(dataset, 4, 3)
    rows = np.concatenate([s.rows for s in epoch_of(rare, policy, 1)])
    assert sorted(rows) == sorted(rare.rows("train"))


def test_processes_share_a_balanced_epoch(dataset, policy, monkeypatch):
    rare = with_few(dataset, 4, 3)
    alone = epoch_of(rare, policy, 1, balanced=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    parts = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        parts.append(epoch_of(rare, policy, 1, balanced=True))
    for whole, first, second in zip(alone, *parts, strict=True):
        assert whole.rows[::2].tolist() == first.rows.tolist()
        assert whole.rows[1::2].tolist() == second.rows.tolist()
        assert np.array_equal(whole.images[1::2], second.images)


def test_shares_are_those_of_the_training_images(dataset):
    rare = with_few(dataset, 4, 3)
    shares = log_shares(rare).exp()
    total = len(rare.rows("train"))
    assert shares.sum().item() == pytest.approx(1)
    assert shares[4].item() == pytest.approx(3 / total)
    assert shares[5].item() == pytest.approx(18 / total)


def scored(dataset, scores):
    column = [None] * len(dataset)
    for row, score in scores.items():
        column[row] = score
    return dataset.with_columns({"label_error": column})


def test_suspected_labels_count_less(dataset):
    first, second, third, fourth, *_ = dataset.rows("train").tolist()
    trust = label_trust(scored(dataset, {first: 1.0, second: 0.75, third: 0.5, fourth: 0.1}))
    rows = torch.from_numpy(dataset.rows("train"))
    assert trust[rows].mean().item() == pytest.approx(1)
    full = trust[fourth].item()
    assert trust[first].item() == 0
    assert trust[second].item() == pytest.approx(full / 2)
    assert trust[third].item() == pytest.approx(full)
    assert trust[rows[-1]].item() == pytest.approx(full)


def test_where_all_labels_are_suspected_none_becomes_infinitely_important(dataset):
    trust = label_trust(scored(dataset, dict.fromkeys(dataset.rows("train").tolist(), 1.0)))
    assert trust.isfinite().all()
    assert trust[torch.from_numpy(dataset.rows("train"))].max() == 0


def test_without_scores_label_weights_are_refused(dataset):
    with pytest.raises(RecipeError, match="no training label has a score of inspect"):
        label_trust(dataset)
