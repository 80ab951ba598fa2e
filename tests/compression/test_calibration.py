"""A small balanced sample of the training images."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acclimate.compression.calibration import calibration_rows
from acclimate.data.dataset import SPLITS


def counts(dataset, rows):
    return np.bincount(dataset.labels[rows], minlength=len(dataset.classes))


@pytest.fixture(scope="module")
def lopsided(dataset):
    """Only three zeros stay in train."""
    names = [SPLITS[i] for i in dataset.splits]
    zeros = [row for row in dataset.rows("train") if dataset.labels[row] == 0]
    for row in zeros[3:]:
        names[row] = "unlabelled"
    return dataset.with_columns({"split": names})


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(images=st.integers(1, 400), seed=st.integers(0, 2**31))
def test_distinct_training_images_up_to_the_number_are_chosen(dataset, context, images, seed):
    rows = calibration_rows(dataset, images, replace(context, seed=seed))
    train = dataset.rows("train")
    assert len(rows) == min(images, len(train))
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert set(rows.tolist()) <= set(train.tolist())


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(images=st.integers(1, 180))
def test_classes_are_as_balanced_as_the_number_allows(dataset, context, images):
    found = counts(dataset, calibration_rows(dataset, images, context))
    assert found.max() - found.min() <= 1


def test_a_rare_class_is_used_whole_and_the_others_share_the_rest(lopsided, context):
    found = counts(lopsided, calibration_rows(lopsided, 93, context))
    assert found[0] == 3
    assert set(found[1:].tolist()) == {10}


def test_the_sample_is_reproducible_by_its_seed(dataset, context):
    first, again = (calibration_rows(dataset, 40, context) for _ in range(2))
    other = calibration_rows(dataset, 40, replace(context, seed=1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
