"""A linear head on frozen features."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from acclimate.cleaning.clean import clean
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.errors import DataError
from acclimate.features.extract import extract
from acclimate.features.probe import check_trainable, probe
from acclimate.features.settings import Probe
from acclimate.models.runtime import run_torch

DIGITS = tuple(str(digit) for digit in range(10))


def accuracy(model, dataset, split="test"):
    rows = dataset.rows(split)
    pixels = np.stack([model.contract.read(dataset.path(row)) for row in rows])
    return float((run_torch(model, "cpu")(pixels).argmax(1) == dataset.labels[rows]).mean())


def only(dataset, keep):
    """The data set with some rows left out."""
    return dataset.with_columns({"keep": np.asarray(keep) & dataset.keep})


@pytest.fixture(scope="module")
def of_classes(digits, context):
    """A function: the digits of some classes alone."""

    def make(*classes):
        others = tuple(digit for digit in DIGITS if digit not in classes)
        return clean(read(digits, Source(leave_out_classes=others)), context=context)

    return make


def test_the_probe_beats_chance_by_far(start, dataset):
    assert start.classes == DIGITS
    assert accuracy(start, dataset) > 0.6


def test_the_probe_is_as_good_as_scikit_learns_own_pipeline(start, imagenet, dataset, context):
    (x, y), (val, val_y), (test, test_y) = (
        (extract(imagenet, dataset, dataset.rows(s), context), dataset.labels[dataset.rows(s)])
        for s in ("train", "val", "test")
    )
    fitted = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(x, y)
        for c in (1e-3, 1e-2, 1e-1, 1.0)
    ]
    best = max(fitted, key=lambda pipeline: pipeline.score(val, val_y))
    assert accuracy(start, dataset) >= best.score(test, test_y) - 0.04


def test_only_the_head_is_new(start, imagenet, dataset):
    before, after = imagenet.network.state_dict(), start.network.state_dict()
    assert list(before) == list(after)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["classifier.weight", "classifier.bias"]
    assert start.contract == imagenet.contract
    assert len(imagenet.classes) == 1000, "the given classifier must stay as it was"


def test_the_card_says_what_was_fitted_on_what(start, imagenet, dataset):
    (step,) = start.card.steps
    assert step.stage == "probe"
    assert step.figures["val_accuracy"] == pytest.approx(accuracy(start, dataset, "val"))
    assert step.figures["regularization"] in Probe().regularization
    assert (start.card.parent, start.card.dataset) == (imagenet.digest, dataset.digest)


def test_the_same_seed_gives_the_same_head(start, imagenet, dataset, context):
    assert probe(imagenet, dataset, context=context).digest == start.digest


def test_a_bound_on_images_holds_and_is_drawn_by_the_seed(imagenet, dataset, context):
    few = Probe(max_images=100, regularization=(0.01,))
    first, second, other = (
        probe(imagenet, dataset, few, context=replace(context, seed=seed)).digest
        for seed in (1, 1, 2)
    )
    assert first == second != other


@pytest.mark.parametrize("most", [5, 12])
def test_a_bound_that_leaves_no_image_of_a_class_still_gives_a_head_of_all(
    imagenet, dataset, context, most
):
    model = probe(imagenet, dataset, Probe(max_images=most), context=context)
    assert model.classes == DIGITS
    assert model.network.classifier.out_features == 10
    assert accuracy(model, dataset, "train") > 0.1


def test_two_classes_work(imagenet, of_classes, context):
    pair = of_classes("1", "7")
    model = probe(imagenet, pair, context=context)
    assert model.classes == ("1", "7")
    assert model.network.classifier.out_features == 2
    assert accuracy(model, pair) > 0.9


def test_no_val_works(imagenet, dataset, context):
    rest = only(dataset, ~np.isin(np.arange(len(dataset)), dataset.rows("val")))
    assert len(rest.rows("val")) == 0
    model = probe(imagenet, rest, context=context)
    assert accuracy(model, dataset) > 0.6
    assert model.card.steps[0].figures["train_accuracy"] == pytest.approx(
        accuracy(model, dataset, "train")
    )


def test_one_class_is_refused(imagenet, of_classes, digits, context):
    with pytest.raises(DataError) as caught:
        probe(imagenet, of_classes("3"), context=context)
    assert str(caught.value) == (
        f"{digits}: data has only the class '3'; a classifier needs at least two classes. "
        "Put the images into one folder per class."
    )


def test_images_without_labels_are_refused(digits):
    with pytest.raises(DataError) as caught:
        check_trainable(read(digits / "train" / "3"))
    assert str(caught.value) == (
        f"{digits / 'train' / '3'}: data has no labels; a classifier needs at least two classes. "
        "Put the images into one folder per class."
    )


def test_images_that_were_never_looked_at_are_refused(imagenet, digits, context):
    with pytest.raises(DataError) as caught:
        probe(imagenet, read(digits), context=context)
    assert str(caught.value) == (
        f"{digits}: images were listed but never decoded. "
        "Clean the data first, with 'unreadable' among clean.checks."
    )


def test_a_class_without_training_images_is_refused(dataset, digits):
    nines = dataset.labels == DIGITS.index("9")
    with pytest.raises(DataError) as caught:
        check_trainable(
            only(dataset, ~(nines & np.isin(np.arange(len(dataset)), dataset.rows("train"))))
        )
    assert str(caught.value) == (
        f"{digits}: class '9' has no training images. Add images to the train split, or leave the "
        "class out with --set data.leave_out_classes=[...]."
    )
