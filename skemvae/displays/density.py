"""``DensityDisplay``: regions of high density of two features, and their marginals."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.utils import check_scalar

from skemvae.displays.style import PALETTE, axes_for, colours, point_size
from skemvae.displays.subject import Subject, look_into, numbers
from skemvae.typing import ArrayLike, Axes, Columns, FloatArray, MatrixLike, PlotOption, RandomState
from skemvae.validation import check_positive, check_random_state

# Least share of the model's draws that the axes show, besides all rows of X.
_SHOWN = 0.998
_MARGIN = 0.05
# Values to draw at a time, over all features.
_VALUES = 10**7
# Fractions to try of the bandwidth for a normal density; a density with several modes needs less.
_BANDWIDTHS = 0.5 ** np.arange(6)
_BINS = 15, 40


class DensityDisplay:
    """Plot of the density of one or two features.

    The density of two features is drawn as the smallest regions that hold
    given shares of the probability (highest-density regions), that of one
    feature as a curve. Marginal densities are drawn over histograms of the
    rows. Create it with ``from_estimator``. The parameters are stored as
    attributes.

    Parameters
    ----------
    grid : sequence of 1 or 2 array-likes
        Equally spaced values of each feature.
    log_density : array-like of shape (len(grid[0]),) or (len(grid[1]), len(grid[0]))
        Log density at the points of the grid, in nats, in the units of the
        features.
    X : array-like of shape (n_samples, len(grid)), default=None
        Rows to draw.
    feature_names : sequence of str, default=("x0", "x1")
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    contours_ : QuadContourSet or None
        Outlines of the regions of two features.
    points_ : PathCollection or None
        The rows on two features.
    lines_ : list of Line2D
        Marginal density of each feature.
    marginal_axes_ : list of Axes
        Axes of these: above and on the right, or ``ax_`` itself for one
        feature; empty without marginals.

    References
    ----------
    Hyndman (1996), "Computing and graphing highest density regions".

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from skemvae import EMGaussianMixture
    >>> from skemvae.displays import DensityDisplay
    >>> X = load_iris(as_frame=True).data
    >>> em = EMGaussianMixture(3, random_state=0).fit(X)
    >>> names = ["petal length (cm)", "petal width (cm)"]
    >>> display = DensityDisplay.from_estimator(em, X, features=names)
    >>> [len(axis) for axis in display.grid]
    [100, 100]
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        grid: Sequence[object],
        log_density: ArrayLike,
        *,
        X: MatrixLike | None = None,
        feature_names: Sequence[str] = ("x0", "x1"),
    ):
        self.grid = [np.asarray(axis, dtype=float) for axis in grid]
        self.log_density = np.asarray(log_density, dtype=float)
        self.X = X
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        *,
        features: Columns | None = None,
        feature_names: ArrayLike | None = None,
        grid_resolution: int = 100,
        n_samples: int = 100_000,
        random_state: RandomState = 0,
        ax: Axes | None = None,
        **kwargs: PlotOption,
    ) -> Self:
        """Plot an estimator's density of one or two features.

        The density is exact if the estimator has the method ``marginal``, as
        mixtures do, or has no other features, so that ``score_samples`` gives
        it. Otherwise it is estimated from ``n_samples`` draws with a Gaussian
        kernel, which makes it slightly too broad.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``score_samples`` and, where draws are needed,
            ``sample``; on its own or inside a search, a Pipeline or a
            meta-estimator. A Pipeline is drawn in the coordinates of its last
            step.
        X : array-like of shape (n_samples, n_features)
            Rows to draw. They and the draws set the limits of the axes.
        features : int, str or sequence of 1 or 2 of them, default=None
            Which features, by position or name. None means the first two.
        feature_names : array-like of str of shape (n_features,), default=None
            Names of all features. None means those of the training table.
        grid_resolution : int, default=100
            Number of points along each feature.
        n_samples : int, default=100_000
            Number of draws, where the density must be estimated.
        random_state : int, Generator or RandomState, default=0
            Seed of the draws.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure. Marginals are drawn
            outside these.
        **kwargs : dict
            Passed to ``plot``.

        Returns
        -------
        DensityDisplay
            The drawn display.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``features`` are not one or two numeric features, or are
            discrete and thus have no density.
        """
        check_scalar(grid_resolution, "grid_resolution", Integral, min_val=2)
        check_scalar(n_samples, "n_samples", Integral, min_val=2)
        subject = look_into(estimator, ("sample", "score_samples"), X, feature_names)
        names = subject.feature_names
        wanted: Any = range(min(2, len(names))) if features is None else features
        chosen = subject.positions(list(wanted) if np.ndim(wanted) else wanted)
        if len(chosen) > 2:
            raise ValueError(f"features={features!r} selects {len(chosen)}: give one or two.")
        rows = subject.columns(chosen)
        draws = _draws(subject, chosen, n_samples, random_state)
        grid = [
            _axis(x, y, grid_resolution)
            for x, y in zip(rows.T, [None, None] if draws is None else draws.T, strict=False)
        ]
        log_density = _log_density(subject, chosen, grid, draws)
        display = cls(grid, log_density, X=rows, feature_names=[names[j] for j in chosen])
        options: dict[str, Any] = kwargs
        return display.plot(ax, **options)

    def levels(self, masses: ArrayLike) -> FloatArray:
        """Return the log densities that bound the smallest regions of given probability.

        Parameters
        ----------
        masses : array-like of float
            Shares of the probability, between 0 and 1.

        Returns
        -------
        ndarray of shape (len(masses),)
            Nats; -inf where the grid holds less probability than that.
        """
        shares = check_positive("masses", masses)
        if (shares >= 1).any():
            raise ValueError(f"masses={shares.tolist()} must lie between 0 and 1.")
        steps = [axis[1] - axis[0] for axis in self.grid]
        log_density = np.sort(self.log_density[np.isfinite(self.log_density)])[::-1]
        mass = np.exp(log_density + np.log(steps).sum())
        # Count half of the cell that a level runs through.
        return np.interp(shares, np.cumsum(mass) - mass / 2, log_density, right=-np.inf)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        masses: Sequence[float] = (0.5, 0.9, 0.99),
        marginals: bool = True,
        scatter_kwargs: dict[str, PlotOption] | None = None,
        contour_kwargs: dict[str, PlotOption] | None = None,
    ) -> Self:
        """Plot regions, rows and marginals.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        masses : sequence of float, default=(0.5, 0.9, 0.99)
            Shares of the probability that the regions hold.
        marginals : bool, default=True
            Whether to draw the marginals of two features, above and to the
            right of the axes.
        scatter_kwargs : dict, default=None
            Passed to ``Axes.scatter`` to draw the rows.
        contour_kwargs : dict, default=None
            Passed to ``Axes.contour`` to draw the outlines.

        Returns
        -------
        self
            The drawn display.
        """
        check_positive("masses", masses)
        (ax,) = axes_for(ax)
        self.ax_, self.figure_ = ax, ax.figure
        self.contours_, self.points_ = None, None
        self.lines_: list[Any] = []
        self.marginal_axes_: list[Any] = []
        if len(self.grid) == 1:
            self._draw_marginal(0, ax)
            ax.set(xlabel=self.feature_names[0], ylabel="density", ylim=(0, None))
            return self
        self._draw_regions(masses, marginals, contour_kwargs or {})
        if self.X is not None:
            X = np.asarray(self.X, dtype=float)
            alpha = float(np.clip(2000 / len(X), 0.03, 0.5))  # regions stay visible under many rows
            style = {"s": point_size(len(X)), "color": "0.2", "alpha": alpha, "linewidths": 0}
            style = {**style, "rasterized": True, "zorder": 0.5, **(scatter_kwargs or {})}
            self.points_ = ax.scatter(X[:, 0], X[:, 1], **style)
        ax.set(xlabel=self.feature_names[0], ylabel=self.feature_names[1])
        ax.set(xlim=self.grid[0][[0, -1]], ylim=self.grid[1][[0, -1]])
        if marginals:
            above = ax.inset_axes([0, 1.02, 1, 0.18], sharex=ax)
            beside = ax.inset_axes([1.02, 0, 0.18, 1], sharey=ax)
            for j, margin in enumerate((above, beside)):
                self._draw_marginal(j, margin)
                margin.axis("off")
        return self

    def _draw_regions(
        self, masses: Sequence[float], marginals: bool, contour: dict[str, Any]
    ) -> None:
        """Draw regions and their legend, which goes in the corner between marginals, if any."""
        shares = np.sort(np.atleast_1d(masses))[::-1]
        levels, first = np.unique(self.levels(shares), return_index=True)
        drawn = np.isfinite(levels)
        shares, levels = shares[first[drawn]], levels[drawn]
        if len(levels) == 0:
            return
        from matplotlib.patches import Patch

        # Contours need finite values: replace log 0 by any value below the lowest level.
        log_density = np.maximum(self.log_density, levels[0] - 1)
        edges = [*levels, np.nextafter(log_density.max(), np.inf)]
        shades = [(*colours(1)[0], alpha) for alpha in np.linspace(0.15, 0.5, len(levels))]
        self.ax_.contourf(*self.grid, log_density, levels=edges, colors=shades, zorder=0)
        style = {"colors": PALETTE[0], "linewidths": 1, "linestyles": "solid", **contour}
        self.contours_ = self.ax_.contour(*self.grid, log_density, levels=levels, **style)
        patches = [
            Patch(facecolor=shade, edgecolor=PALETTE[0], label=f"{100 * mass:g} %")
            for shade, mass in zip(shades, shares, strict=True)
        ]
        corner = {"loc": "lower left", "bbox_to_anchor": (1.02, 1.02), "borderaxespad": 0}
        place = {**corner, "frameon": False} if marginals else {"loc": "best"}
        self.ax_.legend(handles=patches[::-1], fontsize="small", handlelength=1.2, **place)

    def _draw_marginal(self, j: int, ax: Any) -> None:
        """Draw the density of one feature and a histogram of the rows."""
        density = self.log_density
        if len(self.grid) == 2:
            other = self.grid[1 - j]
            density = logsumexp(density, axis=j) + np.log(other[1] - other[0])
        axis = self.grid[j]
        lies = len(self.grid) == 2 and j == 1
        if self.X is not None:
            values = np.asarray(self.X, dtype=float)[:, j]
            ax.hist(
                values,
                _bins(values, axis),
                density=True,
                color="0.8",
                orientation="horizontal" if lies else "vertical",
                label="rows",
            )
        density = np.exp(density)
        curve = (density, axis) if lies else (axis, density)
        self.lines_ += ax.plot(*curve, color=PALETTE[0], label="model")
        self.marginal_axes_.append(ax)


def _bins(values: Any, axis: Any) -> Any:
    """Edges of bins over the axis: enough to show several modes, but not too many."""
    n = len(np.histogram_bin_edges(values, "auto", (axis[0], axis[-1]))) - 1
    return np.linspace(axis[0], axis[-1], int(np.clip(n, *_BINS)) + 1)


def _draws(subject: Subject, chosen: Any, n: int, random_state: Any) -> Any:
    """Rows drawn from the estimator, on the chosen features; None if it cannot draw."""
    if not hasattr(subject.estimator, "sample"):
        return None
    sample = subject.estimator.sample
    rng = check_random_state(random_state)
    seed = {"random_state": rng} if "random_state" in inspect.signature(sample).parameters else {}
    n_block = max(1, _VALUES // len(subject.feature_names))
    blocks = []
    for start in range(0, n, n_block):
        drawn = sample(min(n_block, n - start), **seed)
        drawn = drawn[0] if isinstance(drawn, tuple) else drawn
        blocks.append(numbers(drawn, chosen, subject.feature_names))
    rows = np.concatenate(blocks)
    for j, values in zip(chosen, rows.T, strict=True):
        if np.array_equal(values, np.round(values)) and len(np.unique(values)) < len(values):
            name = subject.feature_names[j]
            raise ValueError(
                f"features: {name!r} has whole values only, which have probabilities, not a "
                "density. Choose other features."
            )
    return rows


def _axis(x: Any, draws: Any, n: int) -> Any:
    """Equally spaced values that show all of x and nearly all draws."""
    low, high = x.min(), x.max()
    if draws is not None:
        tail = (1 - _SHOWN) / 2
        low = min(low, np.quantile(draws, tail))
        high = max(high, np.quantile(draws, 1 - tail))
    margin = _MARGIN * (high - low) or max(1.0, abs(low))
    return np.linspace(low - margin, high + margin, n)


def _log_density(subject: Subject, chosen: Any, grid: list[Any], draws: Any) -> Any:
    """Log density of the chosen features at the points of the grid."""
    estimator, d = subject.estimator, len(subject.feature_names)
    points = np.stack(np.meshgrid(*grid), -1).reshape(-1, len(grid))
    shape = tuple(len(axis) for axis in reversed(grid))
    if hasattr(estimator, "marginal"):
        points = _like(subject.X, chosen, points)
        return estimator.marginal(chosen).score_samples(points).reshape(shape)
    if len(chosen) == d:
        points = _like(subject.X, range(d), points[:, np.argsort(chosen)])
        return estimator.score_samples(points).reshape(shape)
    if draws is None:
        raise TypeError(
            f"{type(estimator).__name__} has neither marginal nor sample, but {d} features: its "
            f"density of {len(chosen)} of them cannot be computed. Choose all features."
        )
    return _smoothed(draws, grid)


def _like(X: Any, columns: Any, points: Any) -> Any:
    """Points as a frame with these columns of X if X is a frame: estimators check names."""
    if not hasattr(X, "columns"):
        return points
    names = [list(X.columns)[j] for j in columns]
    return type(X)(dict(zip(names, points.T, strict=True)))


def _smoothed(draws: Any, grid: list[Any]) -> Any:
    """Kernel density estimate: counts in cells around the grid points, smoothed by a Gaussian.

    Of several bandwidths, take the one with which half of the draws predicts
    the other half with the least integrated squared error, as in Bowman
    (1984), "An alternative method of cross-validation for the smoothing of
    density estimates".
    """
    from scipy.ndimage import gaussian_filter

    n, k = draws.shape
    steps = np.array([axis[1] - axis[0] for axis in grid])
    edges = [
        np.append(axis, axis[-1] + step) - step / 2 for axis, step in zip(grid, steps, strict=True)
    ]
    half, other = (np.histogramdd(part, edges)[0].T for part in (draws[::2], draws[1::2]))
    scott = (draws.std(0) / steps)[::-1] * n ** (-1 / (k + 4))

    def smooth(counts: Any, fraction: float) -> Any:
        return gaussian_filter(counts, fraction * scott, mode="constant")

    def held_out(fraction: float) -> float:
        density = smooth(half, fraction) / half.sum()
        return float((density * (2 * other / other.sum() - density)).sum())

    best = max(_BANDWIDTHS, key=held_out)
    with np.errstate(divide="ignore"):
        return np.log(smooth(half + other, best) / n) - np.log(steps).sum()
