"""Rows of a small table, divided among centres: by the compiled kernel, else by NumPy."""

from __future__ import annotations

import numpy as np

from skemvae.core import native
from skemvae.core.arrays import AnyArray, Array
from skemvae.core.compiled import Cost
from skemvae.core.factors import readable
from skemvae.core.parallel import parallel_region

# After so many multiplications, a few tenths of a second, Ctrl-C is heard: longer work is NumPy's.
_PATIENCE = 2**32


def nearest(X: Array, weight: Array, centres: Array) -> AnyArray:
    """The nearest centre of each row, for several sets of centres.

    Parameters
    ----------
    X : array of shape (m, d)
    weight : array of shape (m,)
    centres : array of shape (n, K, d)

    Returns
    -------
    array of shape (n, m), of int32
        Of centres that are equally near the first.
    """
    level = _level(X, centres.shape[0] * centres.shape[1])
    if level is None:
        return np.array([_nearest(X, each) for each in centres], dtype=np.int32)
    return _divide(level, X, weight, np.array(centres), np.empty(0), 0, 0)


def k_means(X: Array, weight: Array, draws: Array, n_steps: int) -> AnyArray:
    """Clusters of rows, from several sets of seeds.

    Seeds are chosen greedily by k-means++: each is the best of a few rows that are drawn with
    probabilities that are as their squared distances from the seeds before it. Lloyd's steps
    follow, which are hard EM for spherical clusters of one size; one that would leave a cluster
    empty is not taken.

    Parameters
    ----------
    X : array of shape (m, d)
        At least K distinct rows.
    weight : array of shape (m,)
    draws : array of shape (n, K, n_trials)
        Uniform on [0, 1): what chooses the rows.
    n_steps : int
        Lloyd's steps, at most.

    Returns
    -------
    array of shape (n, m), of int32

    References
    ----------
    Arthur and Vassilvitskii (2007), "k-means++: the advantages of careful seeding".
    """
    n, k, n_trials = draws.shape
    level = _level(X, n * k * (n_trials + n_steps + 1))
    if level is None:
        labels = [_lloyd(X, weight, _seeds(X, weight, each), n_steps) for each in draws]
        return np.array(labels, dtype=np.int32)
    centres = np.empty((n, k, X.shape[1]))
    return _divide(level, X, weight, centres, draws, n_trials, n_steps)


def _level(X: Array, n_distances: int) -> str | None:
    return native.level if X.size * n_distances <= _PATIENCE else None


def _divide(
    level: str, X: Array, weight: Array, centres: Array, draws: Array, n_trials: int, n_steps: int
) -> AnyArray:
    n, k, d = centres.shape
    labels = np.empty((n, len(X)), dtype=np.int32)
    with parallel_region() as region:
        native.kernel.divide(
            level,
            Cost.axes(k, d).tile,
            region.n_workers,
            n,
            k,
            d,
            n_trials,
            n_steps,
            readable(X),
            readable(weight),
            draws,
            centres,
            labels,
        )
    return labels


def _nearest(X: Array, centres: Array) -> AnyArray:
    labels: AnyArray = ((centres**2).sum(1) / 2 - X @ centres.T).argmin(1)
    return labels


def _seeds(X: Array, weight: Array, draws: Array) -> Array:
    centres = np.empty((len(draws), X.shape[1]))
    closest, squares = np.ones(len(X)), (X**2).sum(1)[:, None]
    for c, own in enumerate(draws):
        summed = np.cumsum(weight * closest)
        chosen = np.searchsorted(summed, (own if c else own[:1]) * summed[-1], side="right")
        trials = X[np.minimum(chosen, len(X) - 1)]
        squared = np.maximum(squares - 2 * X @ trials.T + (trials**2).sum(1), 0.0)
        after = np.minimum(squared, closest[:, None]) if c else squared
        best = (weight @ after).argmin()
        centres[c], closest = trials[best], after[:, best]
    return centres


def _lloyd(X: Array, weight: Array, centres: Array, n_steps: int) -> AnyArray:
    k = len(centres)
    labels = _nearest(X, centres)
    for _ in range(n_steps):
        count = np.bincount(labels, weight, k)
        if not count.all():
            break
        sums = [np.bincount(labels, weight * feature, k) for feature in X.T]
        next_labels = _nearest(X, np.transpose(sums) / count[:, None])
        if (next_labels == labels).all() or not np.bincount(next_labels, minlength=k).all():
            break
        labels = next_labels
    return labels
