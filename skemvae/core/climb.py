"""EM from several starts on a short table, where nobody watches the steps.

On a table of a few thousand rows a step takes longer in the interpreter than in the compiled
kernel. So the kernel takes many of them in one call, from all starts at once. It knows what is
ordinary only, and leaves the rest to ``MixtureEM``: components that are about to vanish,
covariances that become singular, means that move so far that a pass must be taken again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skemvae.core import native
from skemvae.core.arrays import Array
from skemvae.core.chart import Point
from skemvae.core.dense_covariance import DenseCovariance
from skemvae.core.em import MixtureEM
from skemvae.core.factors import readable
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.iterate import Aitken, Status, iterate
from skemvae.core.parallel import parallel_region
from skemvae.core.rows import Rows

# Rows of a tile, as the fewest of a pass.
_TILE = 96
# Multiplications of a pass, up to which the interpreter takes longer; and what a component costs
# beside its products (measured).
_SHORT, _OTHER_WORK = 2**24, 30


@dataclass(frozen=True)
class Climbed:
    """Where a climb has come to.

    Attributes
    ----------
    model : GaussianMixture
    bound : float
        The objective at ``model``, nats per sample, in the units of the data.
    count : array of shape (K,)
        The weight of the rows that each component holds.
    """

    model: GaussianMixture
    bound: float
    count: Array


def climb(models: Sequence[GaussianMixture], rows: Rows, n_iter: int, tol: float) -> list[Climbed]:
    """Take up to ``n_iter`` steps of EM from each model.

    Parameters
    ----------
    models : sequence of GaussianMixture
        Of one structure, in the frame of the rows.
    rows : Rows
    n_iter : int
    tol : float
        A climb ends where less remains to be gained by Aitken's rule, nats per sample.

    Raises
    ------
    KeyboardInterrupt
    """
    level = native.level
    if level is None or _work(models[0], rows) > _SHORT:
        return [_step_by_step(model, rows, n_iter, tol) for model in models]
    return [
        _step_by_step(climbed.model, rows, n_left, tol) if n_left else climbed
        for climbed, n_left in _ahead(level, models, rows, n_iter, tol)
    ]


def _work(model: GaussianMixture, rows: Rows) -> int:
    covariance = model.covariance
    k, d = covariance.n_components, covariance.n_features
    return rows.n_rows * k * (d * covariance.block_size + _OTHER_WORK)


def _step_by_step(model: GaussianMixture, rows: Rows, n_iter: int, tol: float) -> Climbed:
    em = MixtureEM(rows)
    result = iterate(em.step, em.start(model), stop=Aitken(tol), max_iter=n_iter)
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    state = result.state
    return Climbed(state.model, state.bound, state.expectation.moments.count)


def _ahead(
    level: str, models: Sequence[GaussianMixture], rows: Rows, n_iter: int, tol: float
) -> list[tuple[Climbed, int]]:
    """As far as the kernel comes from each model, and how many steps are left to do."""
    covariance = models[0].covariance
    is_dense = isinstance(covariance, DenseCovariance)
    take = native.kernel.climb_dense if is_dense else native.kernel.climb_axes
    weights = np.array([model.weights for model in models])
    means = np.array([model.means for model in models])
    values = np.array([model.covariance.values for model in models])
    bounds, counts = np.empty(len(models)), np.empty(weights.size)
    with parallel_region() as region:
        n_left = take(
            level,
            _TILE,
            min(region.n_workers, len(models)),
            n_iter,
            tol,
            covariance.copies > 1,
            rows.total,
            readable(rows.X),
            None if rows.weight is None else readable(rows.weight),
            rows.frame.origin,
            1 / rows.frame.scale,
            models[0].noise,
            weights,
            means,
            values,
            bounds,
            counts,
        )
    bounds -= rows.frame.log_volume
    structure = type(covariance)
    reached = (
        model.at(Point(weights[i], means[i], structure(values[i])))
        for i, model in enumerate(models)
    )
    climbed = map(Climbed, reached, bounds.tolist(), counts.reshape(weights.shape))
    return list(zip(climbed, n_left, strict=True))
