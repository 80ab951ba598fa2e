"""Which epoch is kept."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.training.curve import Epoch
from acclimate.training.engine.early_stopping import preferred, stale

IMAGES = 100


def kept_of(*lines, error=0.02, images=IMAGES, floor=True):
    """The epoch that stays, of (accuracy, loss) an epoch, the start first."""
    curve = [Epoch(0, math.nan, lines[0][1], lines[0][0], 0.0, 0.0, error)]
    least, kept = (lines[0][0] if floor else 0.0), curve[0]
    for number, (accuracy, loss) in enumerate(lines[1:], 1):
        line = Epoch(number, 1.0, loss, accuracy, 1e-3, 1.0, error)
        curve.append(line)
        if preferred(line, kept, curve, images, least):
            kept = line
    return kept.epoch


def test_of_epochs_that_val_cannot_tell_apart_the_latest_is_kept():
    assert kept_of((0.90, 0.5), (0.96, 0.093), (0.95, 0.12), (0.96, 0.094)) == 3


def test_a_loss_that_is_clearly_higher_is_no_reason_to_go_on():
    assert kept_of((0.90, 0.5), (0.96, 0.10), (0.96, 0.15), (0.96, 0.30)) == 1


def test_small_steps_upward_do_not_add_up():
    assert kept_of((0.90, 0.5), (0.96, 0.10), (0.96, 0.115), (0.96, 0.13), (0.96, 0.145)) == 2


def test_an_accuracy_that_is_clearly_lower_is_not_kept_whatever_its_loss():
    assert kept_of((0.5, 1.0), (0.96, 0.30), (0.91, 0.10)) == 1


def test_one_that_val_sees_clearly_above_all_before_is_kept():
    assert kept_of((0.5, 1.0), (0.80, 0.10), (0.95, 0.30)) == 2


def test_nothing_less_accurate_than_the_start_is_kept_unless_asked_for():
    lines = (0.95, 0.1), (0.94, 0.05), (0.93, 0.01)
    assert kept_of(*lines) == 0
    assert kept_of(*lines, floor=False) == 2


def test_without_val_the_last_one_is_kept():
    assert kept_of(*[(0.0, math.nan)] * 4, images=0) == 3


@pytest.mark.parametrize("images", [10, 1000])
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5)), min_size=2, max_size=8))
def test_what_is_kept_is_never_below_the_start_nor_far_below_the_best(images, lines):
    kept = kept_of(*lines, images=images)
    accuracies = [accuracy for accuracy, _ in lines]
    assert accuracies[kept] >= accuracies[0]
    best = max(accuracies[1:])
    if best >= accuracies[0]:
        assert accuracies[kept] >= best - 2 * math.sqrt(best * (1 - best) / images) - 1e-12


def curve_of(*lines):
    return [
        Epoch(number, 1.0, loss, accuracy, 0.0, 0.0)
        for number, (accuracy, loss) in enumerate(lines)
    ]


def test_climbing_back_to_the_start_is_not_standing_still():
    assert stale(curve_of((0.8, 0.7), (0.6, 0.94), (0.65, 0.89), (0.75, 0.8), (0.78, 0.75))) == 0


def test_epochs_in_which_neither_accuracy_nor_loss_got_better_are_counted():
    assert stale(curve_of((0.8, 0.7))) == 0
    assert stale(curve_of((0.8, 0.7), (0.9, 0.5), (0.9, 0.5), (0.85, 0.6))) == 2
    assert stale(curve_of((0.8, 0.7), (0.9, 0.5), (0.9, 0.6), (0.85, 0.4))) == 0
