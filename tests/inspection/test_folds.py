"""Each image is predicted by models that were fitted without it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from acclimate.inspection.folds import Folds


@given(seed=st.integers(0, 10_000), number=st.integers(2, 6), size=st.integers(1, 60))
def test_every_image_is_predicted_once_and_never_by_a_model_that_learnt_from_it(seed, number, size):
    rng = np.random.default_rng(seed)
    fold = rng.integers(-1, number, size)
    known = np.flatnonzero(fold >= 0)
    rows = np.flatnonzero(rng.random(size) < 0.8)
    folds = Folds(rows, known, fold, number)
    weights = np.zeros(len(rows))
    for held_out in range(number):
        places = folds.held_out(held_out)
        assert not np.isin(rows[places], folds.train(held_out)).any()
        weights[places] += folds.weight(places)[:, 0]
    assert np.allclose(weights, 1)
