"""Rows of a small table, divided among centres: by the compiled kernel, else by NumPy."""

from __future__ import annotations

import numpy as np

from skemvae.core.arrays import AnyArray, Array
from skemvae.engine.passes.compiled_pass import Cost
from skemvae.engine.passes.threads import in_region
from skemvae.kernel import native
from skemvae.kernel.small_matrices import readable

# After so many multiplications, some tenths of a second, Ctrl-C is heard.
_PATIENCE = 2**32
# Distances that NumPy holds at a time.
_BLOCK = 2**21


def nearest(X: Array, centres: Array) -> AnyArray:
    """The nearest centre of each row, for several sets of centres.

    Parameters
    ----------
    X : array of shape (m, d)
    centres : array of shape (n, K, d)

    Returns
    -------
    array of shape (n, m), of int32
        Of centres that are equally near the first.
    """
    level = native.level
    if level is None:
        return np.array([_nearest(X, each) for each in centres], dtype=np.int32)
    centres = np.array(centres, dtype=np.float64, order="C")  # the kernel may move them
    return _divide(level, X, np.ones(len(X)), centres, None, 0)


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
        Positive.
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
    n, k, _ = draws.shape
    level = native.level
    if level is None:
        each = [_lloyd(X, weight, *_seeds(X, weight, own), n_steps) for own in draws]
        return np.array(each, dtype=np.int32)
    centres = np.empty((n, k, X.shape[1]))
    at_a_time = _PATIENCE // (X.size * n * k) + 1
    labels = _divide(level, X, weight, centres, draws, min(n_steps, at_a_time))
    for done in range(at_a_time, n_steps, at_a_time):
        moved = _divide(level, X, weight, centres, None, min(n_steps - done, at_a_time))
        # Seeds far away may have kept a cluster that their distances alone would not.
        is_full = np.array([np.bincount(own, minlength=k).all() for own in moved])
        moved[~is_full] = labels[~is_full]
        if np.array_equal(moved, labels):
            break
        labels = moved
    return labels


def _divide(
    level: str, X: Array, weight: Array, centres: Array, draws: Array | None, n_steps: int
) -> AnyArray:
    """Take steps from seeds or, without draws, from ``centres``, which are moved."""
    n, k, d = centres.shape
    draws = np.empty((n, k, 0)) if draws is None else readable(draws)
    labels = np.empty((n, len(X)), dtype=np.int32)
    in_region(
        lambda region: native.kernel.divide(
            level,
            Cost.axes(draws.shape[2], d).tile,
            region.n_workers,
            n,
            k,
            d,
            draws.shape[2],
            n_steps,
            readable(X),
            readable(weight),
            draws,
            centres,
            labels,
        )
    )
    return labels


def _nearest(X: Array, centres: Array) -> AnyArray:
    squares, doubled = (centres**2).sum(1), 2 * centres.T
    size = _BLOCK // len(centres) + 1
    blocks = (X[start : start + size] for start in range(0, len(X), size))
    return np.concatenate([(squares - block @ doubled).argmin(1) for block in blocks])


def _seeds(X: Array, weight: Array, draws: Array) -> tuple[Array, AnyArray]:
    """Seeds, and which rows they are."""
    seeds = np.empty(len(draws), dtype=int)
    closest, squares = np.ones(len(X)), (X**2).sum(1)[:, None]
    for c, own in enumerate(draws):
        summed = np.cumsum(weight * closest)
        drawn = np.searchsorted(summed, (own if c else own[:1]) * summed[-1], side="right")
        drawn = np.minimum(drawn, len(X) - 1)
        squared = squares - X @ (2 * X[drawn].T) + squares[drawn].T
        squared[drawn, np.arange(len(drawn))] = 0.0  # to the last bit
        squared = np.maximum(squared, 0.0)
        after = np.minimum(squared, closest[:, None]) if c else squared
        best = (weight @ after).argmin()
        seeds[c], closest = drawn[best], after[:, best]
    return X[seeds], seeds


def _lloyd(X: Array, weight: Array, centres: Array, seeds: AnyArray, n_steps: int) -> AnyArray:
    k = len(centres)
    labels = _nearest(X, centres)
    count = np.bincount(labels, weight, k)
    if not count.all():  # squared distances are lost in rounding, far away
        labels[seeds] = np.arange(k)
        return labels
    for _ in range(n_steps):
        sums = [np.bincount(labels, weight * feature, k) for feature in X.T]
        moved = _nearest(X, np.transpose(sums) / count[:, None])
        count = np.bincount(moved, weight, k)
        if not count.all() or (moved == labels).all():
            break
        labels = moved
    return labels
