"""Nobody is judged by what learnt from them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from acclimate.inspection.folds import Folds


@given(seed=st.integers(0, 10_000), number=st.integers(2, 6), size=st.integers(1, 60))
def test_every_image_is_judged_once_and_never_by_what_learnt_from_it(seed, number, size):
    rng = np.random.default_rng(seed)
    of = rng.integers(-1, number, size)
    taught = np.flatnonzero(of >= 0)
    judged = np.flatnonzero(rng.random(size) < 0.8)
    folds = Folds(judged, taught, of, number)
    shares = np.zeros(len(judged))
    for part in range(number):
        places = folds.asked_of(part)
        assert not np.isin(judged[places], folds.learnt_from(part)).any()
        shares[places] += folds.share(places)[:, 0]
    assert np.allclose(shares, 1)
