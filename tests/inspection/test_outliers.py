"""Distances as outlier_scores."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from acclimate.inspection.outliers import outlier_scores

DISTANCES = st.lists(st.floats(0, 2), min_size=5, max_size=40).map(np.asarray)


@given(distance=DISTANCES)
def test_scores_keep_the_order_of_distances_and_stay_in_bounds(distance):
    found = outlier_scores(distance, distance)
    assert ((found >= 0) & (found < 1)).all()
    order = np.argsort(distance)
    assert (np.diff(found[order]) >= 0).all()


@given(distance=DISTANCES.filter(lambda d: d.min() > 0.01), times=st.floats(0.1, 10))
def test_scores_mean_the_same_for_tight_data_and_for_wide_data(distance, times):
    before, after = (
        outlier_scores(distance, distance),
        outlier_scores(distance * times, distance * times),
    )
    assert np.allclose(before, after, atol=1e-2)


def test_half_of_the_images_score_nothing_and_three_deviations_score_a_half():
    rng = np.random.default_rng(0)
    usual = np.exp(rng.normal(-1, 0.2, 4_001))
    assert np.median(outlier_scores(usual, usual)) == 0
    logs = np.log(usual)
    deviation = 1.4826 * np.median(np.abs(logs - np.median(logs)))
    far = np.exp(np.median(logs) + 3 * deviation)
    assert abs(outlier_scores(np.asarray([far]), usual)[0] - 0.5) < 0.01
