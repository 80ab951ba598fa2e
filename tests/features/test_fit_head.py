"""Heads fitted on frozen features: linear and cosine."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from acclimate.features.fit_head import Examples, fit_head, fit_linear


def clouds(seed, classes, images=30, dimension=6):
    """Features of classes that overlap a little, at scales far apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    centres = rng.normal(0, 1.5, (classes, dimension))
    points = centres[labels] + rng.normal(0, 1, (images, dimension))
    scales = 10.0 ** rng.uniform(-2, 2, dimension)
    return Examples((points * scales + 5 * scales).astype(np.float32), labels.astype(np.int64))


NONE = Examples(np.empty((0, 6), np.float32), np.empty(0, np.int64))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), classes=st.integers(2, 5), strength=st.sampled_from([0.01, 1.0]))
@example(seed=0, classes=2, strength=0.01)  # one row of weights, and probabilities in between
def test_the_head_takes_raw_features_and_says_what_scikit_learn_says_of_standardized_ones(
    seed, classes, strength
):
    train, val = clouds(seed, classes), clouds(seed + 1, classes)
    head = fit_linear(train, val, classes, (strength,))
    assert (head.weight.dtype, head.weight.shape) == (np.float32, (classes, 6))
    logits = val.features @ head.weight.T + head.bias
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
    wanted = pipeline.fit(train.features, train.labels).decision_function(val.features)
    if classes == 2:
        wanted = np.stack([-wanted / 2, wanted / 2], 1)
    # The same logits but for a constant, and for the factor that val asks for.
    wanted, logits = (x - x.mean(1, keepdims=True) for x in (wanted, logits))
    factor = (wanted * logits).sum() / (wanted**2).sum()
    assert factor > 0
    assert np.allclose(logits, factor * wanted, atol=0.01 * np.abs(logits).max())
    assert head.accuracy == pytest.approx((logits.argmax(1) == val.labels).mean(), abs=0.04)
    assert head.regularization == strength


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
def test_val_chooses_the_strength(seed):
    train, val = clouds(seed, 3), clouds(seed, 3, images=60)
    strengths = (1e-4, 1e-2, 1.0)
    alone = {s: fit_linear(train, val, 3, (s,)).accuracy for s in strengths}
    together = fit_linear(train, val, 3, strengths)
    assert together.accuracy == max(alone.values()) == alone[together.regularization]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), strength=st.sampled_from([1e-4, 1e-2, 10.0]))
def test_the_head_is_as_sure_as_it_is_right_on_val(seed, strength):
    both = clouds(seed, 3, images=120)
    train, val = (Examples(both.features[s], both.labels[s]) for s in (slice(30), slice(30, None)))
    head = fit_linear(train, val, 3, (strength,))
    logits = val.features @ head.weight.T + head.bias

    def loss(factor):
        smooth = 0.95 * np.eye(3)[val.labels] + 0.05 / 3
        return -(smooth * log_softmax(factor * logits, 1)).sum(1).mean()

    assert loss(1.0) <= min(loss(factor) for factor in (0.5, 0.8, 1.25, 2.0)) + 1e-6


def test_without_val_the_accuracy_is_of_train():
    train = clouds(0, 3)
    head = fit_linear(train, NONE, 3, (1e-3, 1.0))
    said = (train.features @ head.weight.T + head.bias).argmax(1)
    assert head.accuracy == pytest.approx((said == train.labels).mean())


def test_a_feature_that_never_changes_does_no_harm():
    train = clouds(0, 3)
    still = np.full((30, 1), 7.0, np.float32)
    head = fit_linear(
        Examples(np.concatenate([train.features, still], 1), train.labels),
        Examples(np.empty((0, 7), np.float32), np.empty(0, np.int64)),
        3,
        (1.0,),
    )
    assert np.isfinite(head.weight).all()
    assert head.accuracy > 0.6


def test_a_cosine_head_has_directions_of_one_length_that_tell_the_classes_apart():
    train = clouds(0, 3)
    unit = train.features / np.linalg.norm(train.features, axis=1, keepdims=True)
    head = fit_head("cosine", Examples(unit, train.labels), NONE, 3, ())
    lengths = np.linalg.norm(head.weight, axis=1)
    assert lengths == pytest.approx(lengths[0])
    assert not head.bias.any()
    assert head.accuracy == ((unit @ head.weight.T).argmax(1) == train.labels).mean() > 0.5
    assert head.regularization == math.inf


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_last_layer_of_other_heads_is_a_linear_head(kind):
    train, val = clouds(0, 3), clouds(1, 3)
    ours, linear = fit_head(kind, train, val, 3, (0.1,)), fit_linear(train, val, 3, (0.1,))
    assert np.array_equal(ours.weight, linear.weight)
    assert np.array_equal(ours.bias, linear.bias)
