"""Starts: the parameters where EM begins.

Every start uses a sketch, a bounded sample of the distinct rows of the table
in pseudo-random order. So after one pass over the table it costs the same for
any number of rows, and does not depend on the order, multiplicity or units of
the rows.
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

# A sketch has at least this many rows, and this many times the rows that determine all components.
_SKETCH_ROWS, _SKETCH_ROWS_PER_FEATURE = 4096, 4
# The rounds of the tournament: the share of the sketch, iterations, and starts that go on.
_ROUNDS = ((1 / 2, 2, 5), (1, 3, 2), (1, 4, 1))
# A round uses at least this many rows, and this many times the rows that determine the components.
_FEWEST_ROWS, _FEWEST_ROWS_PER_FEATURE = 512, 10
# A round may take up to _MOST_ITERATIONS while it costs less than _PASSES over the table or
# _LITTLE_WORK multiplications (a few milliseconds). Only _FEWEST_STARTS start if more cost more.
_PASSES, _LITTLE_WORK, _MOST_ITERATIONS, _FEWEST_STARTS = 1 / 2, 2**26, 25, 8
# Rows for each direction in which components race, and how many numbers of directions to try,
# each half of the one before.
_ROWS_PER_DIRECTION, _N_WIDTHS = 4, 3
# Iterations of starts that replace one component by two.
_HALVES_ITERATIONS = 10
# Centres beyond this many standard deviations count as equally far.
_FAR = 1e100


# Ways to divide the rows of a sketch among components. Each takes rows of shape (m, d), their
# weights, K, a number of divisions n and a random state, and returns labels of shape (n, m).
# There are at least K distinct rows.


def _clusters(n_steps: int, X: Any, weight: Any, n_components: int, n: int, rng: Any) -> Any:
    """Divide by k-means, with at most ``n_steps`` of Lloyd's steps."""
    n_trials = 2 + int(np.log(n_components))
    draws = rng.uniform(size=(n, n_components, n_trials))
    return k_means(X, weight, draws, n_steps)


def _random_from_data(X: Any, weight: Any, n_components: int, n: int, rng: Any) -> Any:
    """Divide by the nearest of K random rows."""
    # The shortest exponential waiting times are draws without replacement (Efraimidis and
    # Spirakis 2006); this is ten times faster than ``rng.choice``.
    waiting = rng.standard_exponential((n, len(X))) / weight
    chosen = np.argpartition(waiting, n_components - 1, axis=1)[:, :n_components]
    labels = nearest(X, X[chosen])
    # Far away, squared distances may be lost in rounding, but every component needs a row.
    np.put_along_axis(labels, chosen, np.arange(n_components, dtype=np.int32), axis=1)
    return labels


def _quantiles(X: Any, weight: Any, n_components: int, n: int, rng: Any) -> Any:
    """Divide into slices of equal weight along random directions."""
    labels = np.empty((n, len(X)), dtype=np.int32)
    for own in labels:
        order = np.argsort(X @ rng.standard_normal(X.shape[1]), kind="stable")
        before = np.cumsum(weight[order]) - weight[order] / 2
        # Rounding must not move rows that are exactly on a border.
        own[order] = n_components * before / weight.sum() + 1e-9
    return np.minimum(labels, n_components - 1)


def _whiten(X: Any, weight: Any) -> Any:
    """Whiten rows of mean 0 with the symmetric inverse root of their covariance.

    Unlike the principal axes, the root does not depend on arbitrary signs. If there are no more
    rows than directions, whitening would make all distances equal, so few rows are whitened only
    in part.
    """
    n, d = X.shape
    own = min((n - 1) / (2 * d), 1.0)
    covariance = own * (X.T * weight) @ X / weight.sum() + (1 - own) * np.eye(d)
    variances, axes = np.linalg.eigh(covariance)
    kept = variances > 1e-10 * variances.max()
    return X @ ((axes[:, kept] / np.sqrt(variances[kept])) @ axes[:, kept].T)


# The starts of the tournament, and the units of their distances. If there is no time for all, only
# the first ones run.
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
    """The start of a fit.

    Attributes
    ----------
    model : GaussianMixture
        The parameters, in the frame of the rows.
    interrupted : bool
        Whether the user interrupted the search for it.
    """

    model: GaussianMixture
    interrupted: bool = False


def sketch_size(n_components: int, n_features: int) -> int:
    """The number of rows in the sketch that starts use."""
    return max(_SKETCH_ROWS, _SKETCH_ROWS_PER_FEATURE * n_components * (n_features + 1))


@dataclass(frozen=True)
class Initialiser:
    """Makes starts for a table, and judges the resulting fits.

    Attributes
    ----------
    structure : type of MatrixCovariance
    n_components : int
    judge : Judge
    grain : Grain
        The grain of the table.
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
        """Sketch a table and build its initialiser."""
        n_components = int(n_components)  # NumPy's small integers overflow
        scale = table.frame.scale
        sketch = summary.sketch(table, sketch_size(n_components, len(scale)))
        grain = summary.grain(sketch, table.frame)
        noise = regularisation.noise(summary, grain) / scale**2
        return cls(structure, n_components, Judge(sketch, noise, grain.smallest / scale), grain)

    @property
    def sketch(self) -> Sketch:
        """The sample of rows that starts use."""
        return self.judge.sketch

    # Starts.

    def by_name(self, method: str, rng: Any) -> Start:
        """Make a start by one of ``METHODS``."""
        if method == "auto":
            return self.tournament(rng)
        if method == "random":
            responsibilities = rng.uniform(size=(self.sketch.n_rows, self.n_components))
            responsibilities /= responsibilities.sum(1, keepdims=True)
            return Start(self._softened(*self._moments(responsibilities)))
        return Start(self._labelled(LABELLINGS[method], self.sketch.standardised, rng))

    def from_centres(self, centres: Any) -> Start:
        """Make a start that assigns each row to the nearest of (K, d) centres, in the frame."""
        centres = (centres - self.sketch.origin) / self.sketch.scale
        centres = np.clip(centres, -_FAR, _FAR)[None]
        (labels,) = nearest(self.sketch.standardised, centres)
        responsibilities = np.eye(self.n_components)[labels]
        # A component without rows would stay dead, so it gets a share of all rows.
        empty = responsibilities.sum(0) == 0
        responsibilities = responsibilities * (1 - empty.mean()) + empty / self.n_components
        return Start(self._softened(*self._moments(responsibilities)))

    def from_responsibilities(self, responsibilities: Any, rows: Rows) -> Start:
        """Make a start by an M step from responsibilities of all rows, shape (n, K).

        Only components on fewer than d + 1 effective rows are softened.
        """
        moments = moments_given(responsibilities, self._unit, rows)
        own = self.sketch.effective_rows(responsibilities)
        return Start(self._softened(moments, own, enough=self.judge.few_rows))

    def tournament(self, rng: Any) -> Start:
        """Run several cheap starts for a few iterations and return the best.

        k-means alone does not find elongated clusters, and random starts alone
        often miss the optimum; the likelihood after a few iterations shows which
        is best. All starts run on half of the rows first, the remaining ones on
        all.

        If there are too few rows to determine covariances, the starts race in the
        leading principal directions, as many as the rows suffice for. These
        contain the clusters that k-means finds (Ding and He 2004). How many are
        needed is unknown, so the winners for several numbers race once more.

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
        """The best winner over several numbers of directions, and whether the user interrupted."""
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
        """The numbers of directions in which starts race, descending; empty to use all."""
        d, k = len(self.judge.noise), self.n_components
        if self._unit.block_size == 1:
            return []
        # A shared covariance uses the rows of all components.
        rows_each = np.full(k, self.sketch.n_rows / k)
        most = int(self.structure.observations(rows_each, d)[0] / _ROWS_PER_DIRECTION) - 1
        most = max(most, 2 * k)
        halves = (most >> i for i in range(_N_WIDTHS))
        return [width for width in halves if width >= k] if most < d else []

    def _responsibilities(self, model: GaussianMixture) -> Array:
        shape = self.sketch.n_rows, self.n_components
        return map_rows(model, self.sketch.rows, lambda seen: seen.weight, np.empty(shape))

    def _of_division(self, responsibilities: Array) -> GaussianMixture:
        """The softened M step from given responsibilities of the sketch."""
        return self._softened(*self._moments(responsibilities))

    def _winner(self, rng: Any) -> tuple[GaussianMixture, bool]:
        """The best start of the tournament, and whether the user interrupted it."""
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
                if len(models) == 1:  # all have reached the same optimum
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
        """Replace one component by two; return these and the part of the sketch they describe.

        Parameters
        ----------
        share : array of shape (m,)
            The responsibilities of the component for the rows of the sketch.
        origin, scale : arrays of shape (d,)
            The mean and standard deviations of the component, in the frame of the table.
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
        """The starts that enter the tournament, at most ``n_starts``."""
        X, weight = self.sketch.standardised, self.sketch.weights
        tables = {"standardised": X, "whitened": _whiten(X, weight)}
        labels = [
            labelling(tables[units], weight, self.n_components, n, rng)
            for (labelling, units), n in Counter(_ENTRIES[:n_starts]).items()
        ]
        return self._divided(np.concatenate(labels))

    def _ordered(self, model: GaussianMixture) -> GaussianMixture:
        """Sort the components along a fixed direction.

        Starts that differ only in the order of components tie to the last digit,
        and the result must not depend on which of them wins.
        """
        direction = np.cos(np.arange(model.means.shape[1]))
        order = np.argsort(model.means @ (direction / self.sketch.scale), kind="stable")
        covariance = type(model.covariance)(model.covariance.values[order])
        return replace(
            model, weights=model.weights[order], means=model.means[order], covariance=covariance
        )

    def _labelled(self, labelling: Callable[..., Any], table: Any, rng: Any) -> GaussianMixture:
        k, m = self.n_components, len(table)
        if m <= k:  # at most as many distinct rows as components, so some share a row
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
        """The moments of the sketch, and the effective number of rows of each component."""
        moments = moments_given(responsibilities, self._unit, self.sketch.rows)
        return moments, self.sketch.effective_rows(responsibilities)

    @property
    def _unit(self) -> MatrixCovariance:
        return self.structure.identity(self.n_components, len(self.judge.noise))

    def _softened(self, moments: Moments, own: Any, enough: float = np.inf) -> GaussianMixture:
        """Take an M step after which no component has a singular covariance.

        The scatter of each component with fewer than ``enough`` effective rows is
        averaged with the pooled one, which counts as much as the d + 1 rows that
        determine a covariance.
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
