"""k-means and nearest centres on a small table, by the compiled kernel or else by NumPy."""

from __future__ import annotations

import numpy as np

from skemvae.core.arrays import AnyArray, Array
from skemvae.engine.passes.compiled_pass import Cost
from skemvae.engine.passes.threads import in_region
from skemvae.kernel import native
from skemvae.kernel.small_matrices import readable

# After this many multiplications (some tenths of a second), check for Ctrl-C.
_PATIENCE = 2**32
# The number of distances that NumPy computes at a time.
_BLOCK = 2**21


def nearest(X: Array, centres: Array) -> AnyArray:
    """Find the nearest centre of each row, for several sets of centres.

    Parameters
    ----------
    X : array of shape (m, d)
    centres : array of shape (n, K, d)

    Returns
    -------
    array of shape (n, m), of int32
        The index of the centre; among equally near centres, the first.
    """
    level = native.level
    if level is None:
        return np.array([_nearest(X, each) for each in centres], dtype=np.int32)
    centres = np.array(centres, dtype=np.float64, order="C")  # the kernel may move them
    return _divide(level, X, np.ones(len(X)), centres, None, 0)


def k_means(X: Array, weight: Array, draws: Array, n_steps: int) -> AnyArray:
    """Cluster rows by k-means, from several sets of seeds.

    Greedy k-means++ chooses the seeds: each is the best of a few rows, drawn with probabilities
    proportional to their squared distances from the earlier seeds. Then follow Lloyd's steps,
    which are hard EM for spherical clusters of one size. A step that would leave a cluster empty
    is not taken.

    Parameters
    ----------
    X : array of shape (m, d)
        At least K distinct rows.
    weight : array of shape (m,)
        Positive.
    draws : array of shape (n, K, n_trials)
        Uniform on [0, 1); they choose the rows.
    n_steps : int
        The largest number of Lloyd's steps.

    Returns
    -------
    array of shape (n, m), of int32
        The cluster of each row.

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
        # A far-away seed may keep a cluster that its distances alone, lost in rounding, would not.
        is_full = np.array([np.bincount(own, minlength=k).all() for own in moved])
        moved[~is_full] = labels[~is_full]
        if np.array_equal(moved, labels):
            break
        labels = moved
    return labels


def _divide(
    level: str, X: Array, weight: Array, centres: Array, draws: Array | None, n_steps: int
) -> AnyArray:
    """Take Lloyd's steps from new seeds or, without draws, from ``centres``, and move these."""
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
    """Choose seeds; return them and their row numbers."""
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
    if not count.all():  # far away, squared distances are lost in rounding
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
