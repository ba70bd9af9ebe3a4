"""Revival: giving rows to components that hold almost none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from skemvae.core.arrays import AnyArray
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.engine.passes.numpy_pass import map_rows
from skemvae.engine.starts.initialisation import LABELLINGS, Initialiser

# How many of the largest components may give rows to idle ones.
_LARGEST = 8


def revivals(
    model: GaussianMixture, is_idle: AnyArray, starts: Initialiser, rng: Any
) -> Iterator[GaussianMixture]:
    """Yield models in which idle components get a share of the rows; none if none are idle.

    They get the rows with the lowest density, or some of the rows of another component.

    Parameters
    ----------
    model : GaussianMixture
        In the frame of the table.
    is_idle : array of shape (K,), of bool
    starts : Initialiser
    rng : RandomState
    """
    sketch, (idle,), n_components = starts.sketch, np.nonzero(is_idle), len(is_idle)
    if not len(idle):
        return
    rows, weights = sketch.rows, sketch.weights
    log_density = map_rows(model, rows, lambda seen: seen.log_evidence, np.empty(rows.n_rows))
    responsibilities = map_rows(
        model, rows, lambda seen: seen.weight, np.empty((rows.n_rows, n_components))
    )
    worst_first = np.argsort(log_density, kind="stable")
    share = np.cumsum(weights[worst_first]) / weights.sum()
    groups = [(worst_first[share <= len(idle) / n_components], idle)]
    labels = responsibilities.argmax(1)
    count = np.where(is_idle, 0.0, np.bincount(labels, weights, n_components))
    groups += [
        (np.flatnonzero(labels == k), np.append(idle, k))
        for k in np.argsort(-count, kind="stable")[:_LARGEST]
    ]
    for group, heirs in groups:
        if len(group) < len(heirs):
            continue
        X, own = sketch.standardised[group], weights[group]
        (parts,) = LABELLINGS["kmeans"](X, own, len(heirs), 1, rng)
        given = responsibilities.copy()
        given[group] = np.eye(n_components)[heirs[parts]]
        yield starts.from_responsibilities(given, rows).model
