"""Starts: where EM begins, and how one start is judged against another.

Every start works on a sketch, a bounded sample of the distinct rows of the
table in an order of its own: so after one pass over the table it costs the
same for any number of rows, and neither their order nor their multiplicity
nor their units change it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning

from skemvae.core.arrays import EPS
from skemvae.core.bound import Posterior
from skemvae.core.covariance import Covariance
from skemvae.core.em import EMState, MixtureEM
from skemvae.core.expectation import Seen, each_block, moments_given
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.iterate import Aitken, Status, iterate
from skemvae.core.rows import Rows
from skemvae.core.sketch import Sketch
from skemvae.core.summary import Summary
from skemvae.core.table import Table

# Rows of a sketch: at least so many, and so many times the rows that
# determine one component.
_SKETCH_ROWS, _SKETCH_ROWS_PER_FEATURE = 4096, 4
# The tournament: in each round the best of the starts (all, a half, a quarter)
# climb so many iterations further, or until little remains to be gained, in
# nats per sample.
_ROUNDS = ((1, 5), (2, 10), (4, 25))
_ENOUGH = 1e-4
# Centres beyond so many standard deviations are equally far.
_FAR = 1e100


# Ways to divide the rows of a sketch among components. Each takes rows of
# shape (m, d), their weights, K and a random state, and returns labels of
# shape (m,); there are at least K distinct rows.


def _nearest(X: Any, centres: Any) -> Any:
    return ((centres**2).sum(1) / 2 - X @ centres.T).argmin(1)


def _k_means(X: Any, weight: Any, n_components: int, rng: Any) -> Any:
    with warnings.catch_warnings():
        # Rows that differ by rounding only may leave fewer clusters: harmless.
        warnings.simplefilter("ignore", ConvergenceWarning)
        k_means = KMeans(n_components, n_init=1, random_state=rng)
        return k_means.fit(X, sample_weight=weight).labels_


def _k_means_plusplus(X: Any, weight: Any, n_components: int, rng: Any) -> Any:
    centres, _ = kmeans_plusplus(X, n_components, sample_weight=weight, random_state=rng)
    return _nearest(X, centres)


def _random_from_data(X: Any, weight: Any, n_components: int, rng: Any) -> Any:
    chosen = rng.choice(len(X), size=n_components, replace=False, p=weight / weight.sum())
    return _nearest(X, X[chosen])


def _quantiles(X: Any, weight: Any, n_components: int, rng: Any) -> Any:
    """Slices of equal weight across a random direction."""
    order = np.argsort(X @ rng.standard_normal(X.shape[1]), kind="stable")
    before = np.cumsum(weight[order]) - weight[order] / 2
    labels = np.empty(len(X), dtype=int)
    # Rows that stand exactly on a border must not be moved by rounding.
    labels[order] = (n_components * before / weight.sum() + 1e-9).astype(int)
    return np.minimum(labels, n_components - 1)


def _whiten(X: Any, weight: Any) -> Any:
    """Make the covariance of rows of mean 0 the identity, by its symmetric inverse root.

    Unlike the axes themselves, the root does not depend on their arbitrary signs.
    """
    variances, axes = np.linalg.eigh((X.T * weight) @ X / weight.sum())
    kept = variances > 1e-10 * variances.max()
    return X @ ((axes[:, kept] / np.sqrt(variances[kept])) @ axes[:, kept].T)


LABELLINGS: dict[str, Callable[..., Any]] = {
    "kmeans": _k_means,
    "k-means++": _k_means_plusplus,
    "random_from_data": _random_from_data,
}
METHODS = ("auto", *LABELLINGS, "random")


@dataclass(frozen=True)
class Start:
    """Where a fit begins.

    Attributes
    ----------
    model : GaussianMixture
        In the frame of the rows.
    interrupted : bool
        Whether the user asked to stop while it was sought.
    """

    model: GaussianMixture
    interrupted: bool = False


@dataclass(frozen=True)
class Initialiser:
    """Makes starts for a table and judges where they lead.

    Attributes
    ----------
    structure : type of Covariance
    n_components : int
    sketch : Sketch
    noise : array of shape (d,)
        Regularising variances, in the frame of the table.
    nothing : array of shape (d,)
        Variances up to which a component has none, in the frame of the table;
        negative where no component can have more.
    """

    structure: type[Covariance]
    n_components: int
    sketch: Sketch
    noise: Any
    nothing: Any

    @classmethod
    def of(
        cls,
        structure: type[Covariance],
        n_components: int,
        table: Table,
        summary: Summary,
        noise: Any,
        rng: Any,
    ) -> Initialiser:
        """Sketch the table; ``noise`` is in its frame."""
        d = len(noise)
        size = max(_SKETCH_ROWS, _SKETCH_ROWS_PER_FEATURE * n_components * (d + 1))
        direction = rng.standard_normal(d)
        frame = table.frame
        origin = (summary.centre - frame.origin + summary.shift) / frame.scale
        scale = summary.orientation * summary.scale / frame.scale
        sketch = table.fold(
            partial(Sketch.of, origin=origin, scale=scale, direction=direction, size=size)
        )
        nothing = (2 * summary.floor / frame.scale) ** 2 + 8 * EPS * noise
        nothing[summary.spread <= summary.floor] = -1.0
        return cls(structure, n_components, sketch, noise, nothing)

    # Starts.

    def by_name(self, method: str, rng: Any) -> Start:
        """A start by one of ``METHODS``."""
        if method == "auto":
            return self.tournament(rng)
        if method == "random":
            responsibilities = rng.uniform(size=(self.sketch.n_rows, self.n_components))
            responsibilities /= responsibilities.sum(1, keepdims=True)
            return Start(self._softened(responsibilities))
        return Start(self._labelled(LABELLINGS[method], self.sketch.standardised, rng))

    def from_centres(self, centres: Any) -> Start:
        """Each row goes to the nearest of (K, d) centres in the frame of the table."""
        centres = (centres - self.sketch.origin) / self.sketch.scale
        labels = _nearest(self.sketch.standardised, np.clip(centres, -_FAR, _FAR))
        responsibilities = np.eye(self.n_components)[labels]
        # A component without rows would stay dead: it gets its share of all of them.
        empty = responsibilities.sum(0) == 0
        responsibilities = responsibilities * (1 - empty.mean()) + empty / self.n_components
        return Start(self._softened(responsibilities))

    def from_responsibilities(self, responsibilities: Any, rows: Rows) -> Start:
        """An M step from responsibilities of shape (n, K) for all rows of the table.

        Only components on fewer than d + 1 effective rows are softened.
        """
        return Start(self._softened(responsibilities, rows))

    def tournament(self, rng: Any) -> Start:
        """Let several cheap starts climb for a while, and take the best.

        k-means alone is blind to elongated clusters, random starts alone miss
        the optimum often; the likelihood after a few iterations tells.
        """
        X, weight = self.sketch.standardised, self.sketch.rows.weight
        if self.n_components == 1 or self.n_components >= len(X):  # nothing to choose
            return Start(self._labelled(_k_means, X, rng))
        white = _whiten(X, weight)
        entries = [(_k_means, X), (_k_means, white)]
        entries += 2 * [(_k_means_plusplus, X), (_quantiles, white), (_random_from_data, white)]
        em = MixtureEM(self.sketch.rows)
        ranking: list[tuple[tuple[bool, bool, float], EMState[GaussianMixture]]] = []
        interrupted = False
        try:
            for labelling, table in entries:
                state = em.start(self._labelled(labelling, table, rng))
                ranking.append(((False, False, state.bound), state))
            for eliminated, n_iter in _ROUNDS:
                ranking.sort(key=itemgetter(0), reverse=True)
                for i in range(len(entries) // eliminated):
                    state = self._climb(em, ranking[i][1], n_iter)
                    ranking[i] = (self._merit(state, self._few_rows), state)
        except KeyboardInterrupt:
            if not ranking:
                raise
            interrupted = True
        _, best = max(ranking, key=itemgetter(0))
        return Start(self._ordered(best.model), interrupted)

    # Judging.

    def prefers(self, state: EMState[GaussianMixture], other: EMState[GaussianMixture]) -> bool:
        """Whether a fit to the whole table is better than another."""
        # Each row of the sketch stands for several of the table.
        few_rows = self._few_rows * self.sketch.fraction
        return self._merit(state, few_rows) > self._merit(other, few_rows)

    @property
    def _few_rows(self) -> int:
        """How many distinct rows determine a component."""
        return len(self.noise) + 1

    def _merit(self, state: EMState[GaussianMixture], few_rows: float) -> tuple[bool, bool, float]:
        """A key that sorts fits: sound ones above collapsed ones, then by the bound.

        Likelihood alone prefers spikes on a few rows, which explain nothing.
        """
        model = state.model
        spread = model.covariance.variances - self.noise
        off_floor = bool((spread > self.nothing).all())
        enough_rows = bool((self._effective_rows(model) >= few_rows).all())
        return off_floor and enough_rows, off_floor, state.bound

    def _effective_rows(self, model: GaussianMixture) -> Any:
        responsibilities = np.empty((self.sketch.n_rows, self.n_components))

        def visit(seen: Seen) -> None:
            responsibilities[seen.block.where] = Posterior.exact(seen.log_joint).weight

        each_block(model, self.sketch.rows, visit)
        return self.sketch.effective_rows(responsibilities)

    # Helpers.

    def _ordered(self, model: GaussianMixture) -> GaussianMixture:
        """Number the components along some fixed direction.

        Starts that differ in their numbering only tie to the last digit: the
        result must not depend on which of them wins.
        """
        direction = np.cos(np.arange(model.means.shape[1]))
        order = np.argsort(model.means @ (direction / self.sketch.scale), kind="stable")
        covariance = type(model.covariance)(model.covariance.values[order])
        return replace(
            model, weights=model.weights[order], means=model.means[order], covariance=covariance
        )

    def _climb(
        self, em: MixtureEM, state: EMState[GaussianMixture], n_iter: int
    ) -> EMState[GaussianMixture]:
        result = iterate(em.step, state, stop=Aitken(_ENOUGH), max_iter=n_iter)
        if result.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return result.state

    def _labelled(self, labelling: Callable[..., Any], table: Any, rng: Any) -> GaussianMixture:
        k, m = self.n_components, len(table)
        if m >= k:
            labels = labelling(table, self.sketch.rows.weight, k, rng)
            return self._softened(np.eye(k)[labels])
        # Fewer distinct rows than components: several share a row.
        shared = np.eye(m)[np.arange(k) % m].T
        return self._softened(shared / shared.sum(1, keepdims=True))

    def _softened(self, responsibilities: Any, table: Rows | None = None) -> GaussianMixture:
        """An M step that no component leaves with a singular covariance.

        On the sketch, the scatter of each is averaged with the pooled one,
        which counts as much as the d + 1 rows that are needed to determine a
        covariance; on the table, only that of components on fewer rows.
        """
        rows = self.sketch.rows if table is None else table
        unit = self.structure.identity(self.n_components, len(self.noise))
        moments = moments_given(responsibilities, unit, rows)
        own = self.sketch.effective_rows(responsibilities)
        share = own / (own + self._few_rows)
        if table is not None:
            share[own >= self._few_rows] = 1.0
        pooled = moments.second.sum(0) / moments.count.sum()
        ndim = (-1, *(1,) * (moments.second.ndim - 1))
        second = share.reshape(ndim) * moments.second + (
            (moments.count * (1 - share)).reshape(ndim) * pooled
        )
        k = self.n_components
        before = GaussianMixture(np.full(k, 1 / k), moments.means, unit, self.noise)
        return before.maximise(replace(moments, second=second))
