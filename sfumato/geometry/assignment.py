"""Linear sum assignment (Kuhn, 1955) by shortest augmenting paths."""

import numpy as np
from numpy.typing import NDArray


def best_assignment(gains: NDArray[np.float64]) -> NDArray[np.intp]:
    """Assign every row to a different column such that the sum of the gains is maximal.

    Args:
        gains: [rows, columns], finite, rows <= columns.

    Returns:
        The column of every row, [rows].
    """
    cost = -np.asarray(gains, dtype=np.float64)
    rows, columns = cost.shape
    row_of = np.full(columns, -1)
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    for row in range(rows):
        _augment(row, cost, row_of, row_price, column_price)
    assigned = np.empty(rows, dtype=np.intp)
    used = np.flatnonzero(row_of >= 0)
    assigned[row_of[used]] = used
    return assigned


def _augment(
    row: int,
    cost: NDArray[np.float64],
    row_of: NDArray[np.intp],
    row_price: NDArray[np.float64],
    column_price: NDArray[np.float64],
) -> None:
    """Assign `row` along the shortest augmenting path; other rows can be reassigned.

    The prices are the dual variables: cost[i, j] - row_price[i] - column_price[j] >= 0 for all pairs, with equality for
    assigned pairs. The update preserves both properties.
    """
    columns = cost.shape[1]
    distance = np.full(columns, np.inf)
    came_from = np.full(columns, -1)
    done = np.zeros(columns, dtype=bool)
    reached, column, here = 0.0, -1, row
    # Dijkstra's algorithm over the columns; the reduced costs are the lengths of the edges
    while True:
        slack = reached + cost[here] - row_price[here] - column_price
        nearer = ~done & (slack < distance)
        distance[nearer], came_from[nearer] = slack[nearer], column
        column = int(np.where(done, np.inf, distance).argmin())
        reached = distance[column]
        done[column] = True
        if row_of[column] < 0:
            break
        here = row_of[column]
    settled = np.flatnonzero(done & (row_of >= 0))
    row_price[row] += reached
    row_price[row_of[settled]] += reached - distance[settled]
    column_price[settled] -= reached - distance[settled]
    while column >= 0:  # shift the assignments along the path, from the free column back to `row`
        before = came_from[column]
        row_of[column] = row if before < 0 else row_of[before]
        column = before
