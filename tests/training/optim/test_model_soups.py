"""Means of whole networks, and how val chooses among them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.errors import RecipeError
from acclimate.training.curve import Epoch
from acclimate.training.optim.model_soups import (
    COEFFICIENTS,
    ValMetrics,
    check_val,
    chosen,
    greedy_soup,
    interpolated,
    wise_ft,
)


def weights(value):
    return {"weight": torch.full((2,), float(value)), "counter": torch.tensor(int(value))}


def curve(*accuracies):
    return [Epoch(i, 1.0, 1.0 - i / 100, a, 0.1, 0.0) for i, a in enumerate(accuracies)]


def test_interpolated_weights_lie_between():
    found = interpolated(weights(2), weights(6), 0.25)
    assert found["weight"].tolist() == [3.0, 3.0]
    assert found["counter"].item() == 6


@pytest.mark.parametrize(("coefficient", "value"), [(0.0, 2.0), (1.0, 6.0)])
def test_the_ends_are_the_networks_themselves(coefficient, value):
    start, end = weights(2), weights(6)
    found = interpolated(start, end, coefficient)
    assert found["weight"].tolist() == [value, value]
    found["weight"].fill_(0)
    assert start["weight"].tolist() == [2.0, 2.0]
    assert end["weight"].tolist() == [6.0, 6.0]


def test_a_soup_takes_what_does_not_harm():
    # The mean of 4 and 8 is at its best; 40 would pull it away.
    ingredients = {1: weights(4), 2: weights(8), 3: weights(40)}
    told = curve(0.0, 0.8, 0.7, 0.6)

    def validate(some):
        away = abs(float(some["weight"][0]) - 6)
        return ValMetrics(away, 1 - away / 10)

    soup = greedy_soup(ingredients, told, validate)
    assert soup.epochs == (1, 2)
    assert soup.weights["weight"].tolist() == [6.0, 6.0]
    assert soup.val.accuracy == 1.0
    assert soup.notes == ("Model soup of epoch 1, epoch 2.",)


def test_a_soup_of_three_weighs_each_the_same():
    ingredients = {0: weights(3), 1: weights(6), 2: weights(12)}
    soup = greedy_soup(ingredients, curve(0.5, 0.5, 0.5), lambda _: ValMetrics(1.0, 0.5))
    assert set(soup.epochs) == {0, 1, 2}
    assert soup.weights["weight"].tolist() == pytest.approx([7.0, 7.0])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_soup_is_never_below_its_best_ingredient_on_val(accuracies, random):
    ingredients = {i: weights(i) for i in range(len(accuracies))}
    soup = greedy_soup(ingredients, curve(*accuracies), lambda _: ValMetrics(1.0, random.random()))
    assert soup.val.accuracy >= max(accuracies)


def test_wise_ft_goes_as_far_as_val_says():
    def validate(some):
        away = abs(float(some["weight"][0]) - 7)
        return ValMetrics(away, 1 - away / 10)

    blend = wise_ft(weights(0), weights(10), COEFFICIENTS, 10**9, validate)
    assert blend.coefficient == 0.7
    assert blend.weights["weight"].tolist() == pytest.approx([7.0, 7.0])
    assert list(blend.candidates) == list(COEFFICIENTS)
    assert blend.notes[0].startswith(
        "WiSE-FT chose 0.7; val accuracy (loss) by coefficient: 0: 0.3"
    )


def test_val_accuracy_that_cannot_be_told_apart_is_told_by_the_loss():
    losses, accuracies = (0.1, 0.2, 0.4, 0.3, 0.5), (0.90, 0.89, 0.91, 0.90, 0.92)
    metrics = [ValMetrics(*both) for both in zip(losses, accuracies, strict=True)]
    candidates = dict(zip((0.0, 0.25, 0.5, 0.75, 1.0), metrics, strict=True))
    assert chosen(candidates, 100) == 0.75  # 0.25 is below the start, whose own loss is not asked
    assert chosen(candidates, 10**9) == 1.0


def test_where_nothing_reaches_the_start_it_is_taken():
    candidates = {0.0: ValMetrics(2.0, 0.9), 0.5: ValMetrics(0.1, 0.89), 1.0: ValMetrics(0.1, 0.5)}
    assert chosen(candidates, 20) == 0.0


@pytest.mark.parametrize(("start", "taken"), [(0.8, 0.4), (0.9, 0.4), (0.91, 0.0)])
def test_a_number_is_taken_unless_the_start_is_better(start, taken):
    def validate(some):
        return ValMetrics(1.0, start if float(some["weight"][0]) == 0 else 0.9)

    assert wise_ft(weights(0), weights(10), (0.0, 0.4), 10, validate).coefficient == taken


def test_without_val_the_coefficient_is_the_one_that_was_asked_for():
    nothing = ValMetrics(math.nan, 0.0)
    blend = wise_ft(weights(0), weights(10), (0.0, 0.4), 0, lambda _: nothing)
    assert blend.weights["weight"].tolist() == pytest.approx([4.0, 4.0])
    assert blend.notes == ("WiSE-FT used 0.4, because there is no val split.",)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=11, max_size=11), st.integers(1, 1000))
def test_what_is_chosen_is_within_a_standard_error_of_the_best(accuracies, images):
    candidates = {c: ValMetrics(1.0, a) for c, a in zip(COEFFICIENTS, accuracies, strict=True)}
    best = max(accuracies)
    found = candidates[chosen(candidates, images)].accuracy
    assert found >= best - math.sqrt(best * (1 - best) / images)
    assert found >= accuracies[0]


def test_a_soup_without_val_is_refused():
    with pytest.raises(RecipeError, match="soup chooses epochs on val"):
        check_val("soup", 0)
    check_val("ema", 0)
    check_val("soup", 1)
