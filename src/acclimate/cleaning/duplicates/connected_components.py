"""Connected components of a graph of rows."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def component_labels(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The connected components of a graph.

    Args:
        pairs: int64, (n, 2): edges between rows.
        count: The number of rows.

    Returns:
        int64, (count,): the component of each row, numbered by its first row.
    """
    ones = np.ones(len(pairs), bool)
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), (count, count))
    _, member_of = connected_components(graph, directed=False)
    first = np.full(count, count, np.int64)
    np.minimum.at(first, member_of, np.arange(count))
    found: NDArray[np.int64] = first[member_of]
    return found
