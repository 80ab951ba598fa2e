import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.cleaning.duplicates.connected_components import component_labels


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=20))
def test_rows_that_are_linked_share_a_number_and_others_do_not(pairs):
    found = component_labels(np.asarray(pairs, np.int64).reshape(-1, 2), 15)
    groups = [{row} for row in range(15)]
    for a, b in pairs:
        joined = groups[a] | groups[b]
        for row in joined:
            groups[row] = joined
    assert found.tolist() == [min(group) for group in groups]
