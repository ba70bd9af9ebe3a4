"""From what a user passes as X to a table that a fit can fold over."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from skemvae.core.rows import Rows
from skemvae.core.summary import Extent
from skemvae.core.table import Table
from skemvae.validation import check_weights


def read(estimator: Any, X: Any, sample_weight: Any) -> Table:
    """Return a table of X in its own units, and remember its columns in the estimator."""
    X = validate_data(estimator, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
    return Rows.of(X, check_weights(sample_weight, X))


def check_extent(table: Table) -> Extent:
    """Return the extent of a table whose values are finite.

    Raises
    ------
    ValueError
        That names the first value that is not.
    """
    extent = table.fold(Extent.of)
    if extent.not_finite is not None:
        row, column, value = extent.not_finite
        kind = "NaN" if np.isnan(value) else "infinity"
        raise ValueError(
            f"Input X contains {kind}, first in row {row}, column {column} (counted from 0): "
            "leave out such rows, or fill the gaps."
        )
    return extent
