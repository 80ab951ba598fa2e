"""What a run has shown, in plain sentences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.evaluation.comparison import Comparison, difference
from acclimate.evaluation.verdict import images_needed, verdict


def gain(only_before, only_after, total):
    """A comparison of two models that differ on some images."""
    before = np.zeros(total, bool)
    after = np.zeros(total, bool)
    before[:only_before] = True
    after[only_before : only_before + only_after] = True
    return Comparison(
        before="probe",
        after="final",
        differences={"home": difference(before, after)},
        per_class={},
        speedup=None,
        size_ratio=1.0,
        margin=1.0,
    )


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            gain(2, 30, 300),
            "The final model is better than the probe: +9.3 points, interval +6.1 to +13.3 on 300 "
            "images.",
        ),
        (
            gain(30, 2, 300),
            "The final model is worse than the probe: -9.3 points, interval -13.3 to -6.1 on 300 "
            "images. Use the probe, or give more training images.",
        ),
        (
            gain(3, 4, 3000),
            "The final model is as good as the probe, and not shown to be better: +0.0 points, "
            "interval -0.2 to +0.3 on 3,000 images.",
        ),
        (
            gain(2, 3, 30),
            "30 images cannot show whether the final model is better than the probe (+3.3 points, "
            "interval -13.7 to +20.7); about 1,200 would.",
        ),
        (
            gain(2, 2, 30),
            "30 images cannot show whether the final model is better than the probe (+0.0 points, "
            "interval -16.2 to +16.2).",
        ),
    ],
    ids=["better", "worse", "as good", "too few images", "no difference"],
)
def test_the_first_sentence_is_about_the_final_model(found, sentence):
    assert verdict({}, {"gain": found}) == (sentence,)


@given(
    lost=st.integers(0, 40), gained=st.integers(0, 40), same=st.integers(10, 500), more=st.just(3)
)
def test_fewer_images_are_needed_for_a_larger_difference(lost, gained, same, more):
    total = lost + gained + same
    found = images_needed(gain(lost, gained, total).differences["home"])
    larger = gain(lost, gained + lost + more, total + lost + more).differences["home"]
    assert (found is None) == (lost == gained) or found is None
    if found is not None and gained > lost:
        assert images_needed(larger) <= 1.1 * found


def test_as_many_images_as_are_needed_show_the_difference_in_four_of_five_cases():
    needed = images_needed(gain(5, 15, 100).differences["home"])
    rng = np.random.default_rng(0)
    shown = 0
    for _ in range(200):
        lost, gained, same = rng.multinomial(needed, [0.05, 0.15, 0.8])
        before, after = np.repeat([True, False, True], [lost, gained, same]), np.ones(needed, bool)
        after[:lost] = False
        shown += difference(before, after).accuracy.low > 0
    assert 0.7 < shown / 200 < 0.95
