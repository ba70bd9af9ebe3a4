"""Starts: where EM begins.

Every start works on a sketch, a bounded sample of the distinct rows of the
table in an order of its own: so after one pass over the table it costs the
same for any number of rows, and neither their order nor their multiplicity
nor their units change it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.moments import Moments
from skemvae.core.rows import Rows
from skemvae.core.table import Table
from skemvae.engine.climbs.whole_steps import begin, work_of_step
from skemvae.engine.passes.numpy_pass import map_rows, moments_given
from skemvae.engine.samples.grain import Grain
from skemvae.engine.samples.sketch import Sketch
from skemvae.engine.samples.summary import Summary
from skemvae.engine.starts.k_means import k_means, nearest
from skemvae.engine.starts.races import Judge
from skemvae.engine.starts.regularisation import Regularisation
from skemvae.structures.matrices import MatrixCovariance

# Rows of a sketch: at least so many, and so many times the rows that
# determine one component.
_SKETCH_ROWS, _SKETCH_ROWS_PER_FEATURE = 4096, 4
# The tournament: all starts climb on such a share of the sketch, but at least on
# so many times the rows that determine the components, for so many iterations, and so many
# go on to the next round. They climb for longer while a round costs less than so many passes
# over the table, or so many multiplications, a few milliseconds: below, there is no time to be
# saved. So few starts there are, where more would be more work than that.
_ROUNDS = ((1 / 2, 2, 5), (1, 3, 2), (1, 4, 1))
_FEWEST_ROWS, _FEWEST_ROWS_PER_FEATURE = 512, 10
_PASSES, _LITTLE_WORK, _MOST_ITERATIONS, _FEWEST_STARTS = 1 / 2, 2**26, 25, 8
# So many rows for each direction in which components race, and so often half as many directions.
_ROWS_PER_DIRECTION, _N_WIDTHS = 4, 3
# Iterations of starts of two components instead of one.
_HALVES_ITERATIONS = 10
# Centres beyond so many standard deviations are equally far.
_FAR = 1e100


# Ways to divide the rows of a sketch among components. Each takes rows of shape (m, d), their
# weights, K, a number of divisions n and a random state, and returns labels of shape (n, m); there
# are at least K distinct rows.


def _clusters(n_steps: int, X: Any, weight: Any, n_components: int, n: int, rng: Any) -> Any:
    """Clusters of k-means, after so many of its steps."""
    n_trials = 2 + int(np.log(n_components))
    draws = rng.uniform(size=(n, n_components, n_trials))
    return k_means(X, weight, draws, n_steps)


def _random_from_data(X: Any, weight: Any, n_components: int, n: int, rng: Any) -> Any:
    """The nearest of some random rows."""
    # The first of exponential waiting times are draws without replacement (Efraimidis and
    # Spirakis 2006), ten times faster than ``rng.choice``.
    waiting = rng.standard_exponential((n, len(X))) / weight
    chosen = np.argpartition(waiting, n_components - 1, axis=1)[:, :n_components]
    labels = nearest(X, X[chosen])
    # Far away squared distances may be lost in rounding: no component shall be without rows.
    np.put_along_axis(labels, chosen, np.arange(n_components, dtype=np.int32), axis=1)
    return labels


def _quantiles(X: Any, weight: Any, n_components: int, n: int, rng: Any) -> Any:
    """Slices of equal weight across random directions."""
    labels = np.empty((n, len(X)), dtype=np.int32)
    for own in labels:
        order = np.argsort(X @ rng.standard_normal(X.shape[1]), kind="stable")
        before = np.cumsum(weight[order]) - weight[order] / 2
        # Rows that stand exactly on a border must not be moved by rounding.
        own[order] = n_components * before / weight.sum() + 1e-9
    return np.minimum(labels, n_components - 1)


def _whiten(X: Any, weight: Any) -> Any:
    """Make the covariance of rows of mean 0 the identity, by its symmetric inverse root.

    Unlike the axes themselves, the root does not depend on their arbitrary signs. Rows that span
    no more directions than they are would all be equally far from each other, so few of them are
    whitened in part.
    """
    n, d = X.shape
    own = min((n - 1) / (2 * d), 1.0)
    covariance = own * (X.T * weight) @ X / weight.sum() + (1 - own) * np.eye(d)
    variances, axes = np.linalg.eigh(covariance)
    kept = variances > 1e-10 * variances.max()
    return X @ ((axes[:, kept] / np.sqrt(variances[kept])) @ axes[:, kept].T)


# The starts of the tournament, and the units of their distances; the first of them, where there is
# no time for all.
_CLUSTERS = partial(_clusters, 16)
_ENTRIES = (
    (_CLUSTERS, "standardised"),
    (_CLUSTERS, "whitened"),
    (_quantiles, "whitened"),
    (_random_from_data, "whitened"),
    (_random_from_data, "standardised"),
    (_CLUSTERS, "standardised"),
    (_CLUSTERS, "whitened"),
    *3 * ((_quantiles, "whitened"),),
    *3 * ((_random_from_data, "whitened"), (_random_from_data, "standardised")),
)

LABELLINGS: dict[str, Callable[..., Any]] = {
    "kmeans": partial(_clusters, 300),
    "k-means++": partial(_clusters, 0),
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


def sketch_size(n_components: int, n_features: int) -> int:
    """Of how many rows starts are made."""
    return max(_SKETCH_ROWS, _SKETCH_ROWS_PER_FEATURE * n_components * (n_features + 1))


@dataclass(frozen=True)
class Initialiser:
    """Makes starts for a table and judges where they lead.

    Attributes
    ----------
    structure : type of MatrixCovariance
    n_components : int
    judge : Judge
    grain : Grain
        Of the table.
    """

    structure: type[MatrixCovariance]
    n_components: int
    judge: Judge
    grain: Grain

    @classmethod
    def of(
        cls,
        structure: type[MatrixCovariance],
        n_components: int,
        table: Table,
        summary: Summary,
        regularisation: Regularisation,
    ) -> Initialiser:
        """Sketch the table."""
        n_components = int(n_components)  # NumPy's small integers overflow
        scale = table.frame.scale
        sketch = summary.sketch(table, sketch_size(n_components, len(scale)))
        grain = summary.grain(sketch, table.frame)
        noise = regularisation.noise(summary, grain) / scale**2
        return cls(structure, n_components, Judge(sketch, noise, grain.smallest / scale), grain)

    @property
    def sketch(self) -> Sketch:
        """The rows that starts are made of."""
        return self.judge.sketch

    # Starts.

    def by_name(self, method: str, rng: Any) -> Start:
        """A start by one of ``METHODS``."""
        if method == "auto":
            return self.tournament(rng)
        if method == "random":
            responsibilities = rng.uniform(size=(self.sketch.n_rows, self.n_components))
            responsibilities /= responsibilities.sum(1, keepdims=True)
            return Start(self._softened(*self._moments(responsibilities)))
        return Start(self._labelled(LABELLINGS[method], self.sketch.standardised, rng))

    def from_centres(self, centres: Any) -> Start:
        """Each row goes to the nearest of (K, d) centres in the frame of the table."""
        centres = (centres - self.sketch.origin) / self.sketch.scale
        centres = np.clip(centres, -_FAR, _FAR)[None]
        (labels,) = nearest(self.sketch.standardised, centres)
        responsibilities = np.eye(self.n_components)[labels]
        # A component without rows would stay dead: it gets its share of all of them.
        empty = responsibilities.sum(0) == 0
        responsibilities = responsibilities * (1 - empty.mean()) + empty / self.n_components
        return Start(self._softened(*self._moments(responsibilities)))

    def from_responsibilities(self, responsibilities: Any, rows: Rows) -> Start:
        """An M step from responsibilities of shape (n, K) for all rows of the table.

        Only components on fewer than d + 1 effective rows are softened.
        """
        moments = moments_given(responsibilities, self._unit, rows)
        own = self.sketch.effective_rows(responsibilities)
        return Start(self._softened(moments, own, enough=self.judge.few_rows))

    def tournament(self, rng: Any) -> Start:
        """Let several cheap starts climb for a while, and take the best.

        k-means alone is blind to elongated clusters, random starts alone miss
        the optimum often; the likelihood after a few iterations tells. They begin
        on half of the rows, and those that are left climb on all of them.

        Where rows are too few to determine covariances, all this happens in some
        of the leading principal directions, for which they suffice; there the
        clusters are that k-means finds (Ding and He 2004). How many hold the
        clusters is not known, so the winners of several numbers race once more.

        References
        ----------
        Ding and He (2004), "K-means clustering via principal component analysis".
        """
        m, k = self.sketch.n_rows, self.n_components
        if k == 1 or k >= m:  # nothing to choose
            return Start(self._labelled(LABELLINGS["kmeans"], self.sketch.standardised, rng))
        widths = self._widths()
        model, interrupted = self._of_few_directions(widths, rng) if widths else self._winner(rng)
        return Start(self._ordered(model), interrupted)

    def _of_few_directions(self, widths: list[int], rng: Any) -> tuple[GaussianMixture, bool]:
        """The best of the winners in so many directions; and whether the user asked to stop."""
        axes = self.sketch.leading_axes(widths[0])
        fields = [replace(self, judge=self.judge.along(axes[:, :width])) for width in widths]
        divisions, interrupted = [], False
        for field in fields:
            if not interrupted:
                model, interrupted = field._winner(rng)
                divisions.append(field._responsibilities(model))
        widest = fields[0]
        best, *others = [widest._of_division(division) for division in divisions]
        try:
            best = widest.judge.race([best, *others], _MOST_ITERATIONS, 1)[0].model
        except KeyboardInterrupt:
            interrupted = True
        return self._of_division(widest._responsibilities(best)), interrupted

    def _widths(self) -> list[int]:
        """In how many directions starts race, the most first; empty where that is all."""
        d, k = len(self.judge.noise), self.n_components
        if self._unit.block_size == 1:
            return []
        # Covariances that components share have the rows of all.
        rows_each = np.full(k, self.sketch.n_rows / k)
        most = int(self.structure.observations(rows_each, d)[0] / _ROWS_PER_DIRECTION) - 1
        most = max(most, 2 * k)
        halves = (most >> i for i in range(_N_WIDTHS))
        return [width for width in halves if width >= k] if most < d else []

    def _responsibilities(self, model: GaussianMixture) -> Array:
        shape = self.sketch.n_rows, self.n_components
        return map_rows(model, self.sketch.rows, lambda seen: seen.weight, np.empty(shape))

    def _of_division(self, responsibilities: Array) -> GaussianMixture:
        """The softened M step."""
        return self._softened(*self._moments(responsibilities))

    def _winner(self, rng: Any) -> tuple[GaussianMixture, bool]:
        """The best of the starts, and whether the user asked to stop."""
        m, k = self.sketch.n_rows, self.n_components
        fewest = max(_FEWEST_ROWS, _FEWEST_ROWS_PER_FEATURE * k * self.judge.few_rows)
        affordable = max(_PASSES * work_of_step(self._unit, m / self.sketch.fraction), _LITTLE_WORK)
        models: list[GaussianMixture] = []
        interrupted = False
        try:
            for share, n_iter, n_best in _ROUNDS:
                n_rows = min(m, max(round(share * m), fewest))
                work = work_of_step(self._unit, n_rows)
                n_starts = max(int(_LITTLE_WORK / ((n_iter + 1) * work)), _FEWEST_STARTS)
                models = models or self._on_part(n_rows)._entries(n_starts, rng)
                if len(models) == 1:  # all have come to the same place
                    break
                longer = min(int(affordable / (len(models) * work)), _MOST_ITERATIONS)
                best = self.judge.on_part(n_rows).race(models, max(n_iter, longer), n_best)
                models = [place.model for place in best]
        except KeyboardInterrupt:
            if not models:
                raise
            interrupted = True
        return models[0], interrupted

    def halves(
        self, share: Any, origin: Any, scale: Any, rng: Any
    ) -> tuple[GaussianMixture, Sketch]:
        """Two components instead of one, and the part of the sketch that they describe.

        Parameters
        ----------
        share : array of shape (m,)
            How much of each row of the sketch belongs to the component.
        origin, scale : arrays of shape (d,)
            Its mean and its standard deviations, in the frame of the table.
        rng : RandomState
        """
        judge = replace(self.judge, sketch=self.sketch.share(share, origin, scale))
        two = replace(self, n_components=2, judge=judge)
        if judge.sketch.n_rows <= 2:
            return two._labelled(_CLUSTERS, judge.sketch.standardised, rng), judge.sketch
        best = judge.race(two._entries(_FEWEST_STARTS, rng), _HALVES_ITERATIONS, 1)
        return best[0].model, judge.sketch

    # Helpers.

    def _on_part(self, n_rows: int) -> Initialiser:
        return replace(self, judge=self.judge.on_part(n_rows))

    def _entries(self, n_starts: int, rng: Any) -> list[GaussianMixture]:
        """The starts that enter the tournament: so many, if there are."""
        X, weight = self.sketch.standardised, self.sketch.weights
        tables = {"standardised": X, "whitened": _whiten(X, weight)}
        labels = [
            labelling(tables[units], weight, self.n_components, n, rng)
            for (labelling, units), n in Counter(_ENTRIES[:n_starts]).items()
        ]
        return self._divided(np.concatenate(labels))

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

    def _labelled(self, labelling: Callable[..., Any], table: Any, rng: Any) -> GaussianMixture:
        k, m = self.n_components, len(table)
        if m <= k:  # no more distinct rows than components, some of which share a row
            shared = np.eye(m)[np.arange(k) % m].T
            return self._softened(*self._moments(shared / shared.sum(1, keepdims=True)))
        return self._divided(labelling(table, self.sketch.weights, k, 1, rng))[0]

    def _divided(self, labels: Any) -> list[GaussianMixture]:
        """The softened M step of each division, given by labels of shape (n, m)."""
        rows, noise = self.sketch.rows, self.judge.noise
        models = begin(self._unit, labels, rows, noise, self.judge.few_rows)
        return [model or self._of_groups(own) for own, model in zip(labels, models, strict=True)]

    def _of_groups(self, labels: Any) -> GaussianMixture:
        shape = self._unit.values.shape
        moments = Moments.of_groups(self.sketch.rows.X, self.sketch.weights, labels, shape)
        return self._softened(moments, np.bincount(labels, minlength=len(moments.count))).bare

    def _moments(self, responsibilities: Any) -> tuple[Moments, Any]:
        """Of the sketch, and how many of its rows each component rests on."""
        moments = moments_given(responsibilities, self._unit, self.sketch.rows)
        return moments, self.sketch.effective_rows(responsibilities)

    @property
    def _unit(self) -> MatrixCovariance:
        return self.structure.identity(self.n_components, len(self.judge.noise))

    def _softened(self, moments: Moments, own: Any, enough: float = np.inf) -> GaussianMixture:
        """An M step that no component leaves with a singular covariance.

        The scatter of each component that rests on fewer than ``enough`` rows
        is averaged with the pooled one, which counts as much as the d + 1 rows
        that are needed to determine a covariance.
        """
        share = np.where(own < enough, own / (own + self.judge.few_rows), 1.0)
        pooled = moments.second.sum(0) / moments.count.sum()
        ndim = (-1, *(1,) * (moments.second.ndim - 1))
        second = share.reshape(ndim) * moments.second + (
            (moments.count * (1 - share)).reshape(ndim) * pooled
        )
        k = self.n_components
        before = GaussianMixture(np.full(k, 1 / k), moments.means, self._unit, self.judge.noise)
        return before.maximise(replace(moments, second=second))
