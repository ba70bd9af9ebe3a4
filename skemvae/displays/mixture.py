"""``MixtureDisplay``: components as ellipses, rows coloured by their responsibilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from skemvae.displays.style import axes_for, colours, outlined, point_size
from skemvae.displays.subject import Subject, look_into
from skemvae.structures.registry import STRUCTURES
from skemvae.typing import ArrayLike, Axes, Columns, MatrixLike, PlotOption
from skemvae.validation import check_positive

_CIRCLE = np.linspace(0, 2 * np.pi, 181)


class MixtureDisplay:
    """Plot of the components of a Gaussian mixture on two features.

    Ellipses are contours of each component's marginal density of the two
    features, at given numbers of standard deviations from its mean. In two
    dimensions, one standard deviation holds 39 % of the component, two hold
    86 %. The colour of a row mixes those of the components by its
    responsibilities. Create it with ``from_estimator``. The parameters are
    stored as attributes.

    Parameters
    ----------
    means : array-like of shape (n_components, 2)
        Means of the two features, in their units.
    covariances : array-like of shape (n_components, 2, 2)
        Covariances of the two features.
    X : array-like of shape (n_samples, 2), default=None
        Rows to draw.
    responsibilities : array-like of shape (n_samples, n_components), default=None
        Responsibilities of the rows; None draws the rows grey.
    components : array-like of shape (n_components,), default=None
        Numbers to write at the means; None means 0, 1 and so on.
    feature_names : sequence of 2 str, default=("x0", "x1")
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : PathCollection or None
        The rows.
    ellipses_ : list of list of Polygon
        For each component, one ellipse for each of ``n_std``.
    labels_ : list of Text
        The numbers at the means.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from skemvae import EMGaussianMixture
    >>> from skemvae.displays import MixtureDisplay
    >>> X = load_iris(as_frame=True).data
    >>> em = EMGaussianMixture(3, random_state=0).fit(X)
    >>> names = ["petal length (cm)", "petal width (cm)"]
    >>> display = MixtureDisplay.from_estimator(em, X, features=names)
    >>> len(display.ellipses_)
    3
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        means: ArrayLike,
        covariances: ArrayLike,
        *,
        X: MatrixLike | None = None,
        responsibilities: ArrayLike | None = None,
        components: ArrayLike | None = None,
        feature_names: Sequence[str] = ("x0", "x1"),
    ):
        self.means = means
        self.covariances = covariances
        self.X = X
        self.responsibilities = responsibilities
        self.components = components
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike | None = None,
        *,
        features: Columns = (0, 1),
        feature_names: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: PlotOption,
    ) -> Self:
        """Plot a fitted mixture, and rows coloured by their responsibilities.

        Parameters
        ----------
        estimator : estimator
            A fitted ``EMGaussianMixture``, ``VariationalEM`` of a
            ``BayesianMixture`` or mixture of scikit-learn, on its own or
            inside a search, a Pipeline or a meta-estimator; it is drawn in the
            coordinates that the mixture sees. Of a Bayesian mixture, only
            components that hold more than one row are drawn, with the inverses
            of their expected precisions as covariances.
        X : array-like of shape (n_samples, n_features), default=None
            Rows to draw.
        features : pair of int or str, default=(0, 1)
            Which features, by position or name.
        feature_names : array-like of str of shape (n_features,), default=None
            Names of all features. None means those of the training table.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Passed to ``plot``.

        Returns
        -------
        MixtureDisplay
            The drawn display.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator is not a Gaussian mixture.
        ValueError
            If ``features`` are not two features of the mixture.
        """
        subject = look_into(estimator, ("means_", "model_"), X, feature_names)
        fitted = getattr(subject.estimator, "model_", subject.estimator)
        if not hasattr(fitted, "means_"):
            raise TypeError(
                f"{type(fitted).__name__} is not a mixture of Gaussians: draw it with "
                "DensityDisplay or LatentDisplay."
            )
        pair = _pair(subject, features)
        means = np.asarray(fitted.means_, dtype=float)
        structure = STRUCTURES[fitted.covariance_type].with_factors(getattr(fitted, "n_factors", 1))
        arrays = [np.asarray(getattr(fitted, name)) for name in structure.fitted_shapes(1, 1)]
        covariance = structure.from_fitted(*means.shape, *arrays)
        weights = np.asarray(fitted.weights_)
        n_active = getattr(fitted, "n_active_components_", np.count_nonzero(weights))
        active = np.sort(np.argsort(-weights, kind="stable")[:n_active])
        rows, responsibilities = None, None
        if X is not None:
            rows = subject.columns(pair)
            responsibilities = subject.estimator.predict_proba(subject.X)[:, active]
        names = subject.feature_names
        display = cls(
            means[active][:, pair],
            covariance.marginal(pair).dense()[active],
            X=rows,
            responsibilities=responsibilities,
            components=active,
            feature_names=[names[j] for j in pair],
        )
        options: dict[str, Any] = kwargs
        return display.plot(ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        n_std: Sequence[float] = (1, 2),
        scatter_kwargs: dict[str, PlotOption] | None = None,
        ellipse_kwargs: dict[str, PlotOption] | None = None,
    ) -> Self:
        """Plot rows and ellipses.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        n_std : sequence of float, default=(1, 2)
            Distances of the ellipses from the mean, in standard deviations.
        scatter_kwargs : dict, default=None
            Passed to ``Axes.scatter`` to draw the rows.
        ellipse_kwargs : dict, default=None
            Passed to ``matplotlib.patches.Polygon``.

        Returns
        -------
        self
            The drawn display.
        """
        distances = np.atleast_1d(check_positive("n_std", n_std))
        (ax,) = axes_for(ax)
        from matplotlib.patches import Polygon

        means = np.asarray(self.means, dtype=float)
        palette = colours(len(means))
        self.ax_, self.figure_ = ax, ax.figure
        self.points_ = self._draw_rows(palette, scatter_kwargs or {})
        # Mapping a circle by the Cholesky factor is accurate whatever the units of the features.
        circle = np.array([np.cos(_CIRCLE), np.sin(_CIRCLE)])
        self.ellipses_, self.labels_ = [], []
        numbers = range(len(means)) if self.components is None else np.asarray(self.components)
        for mean, covariance, colour, number in zip(
            means, np.asarray(self.covariances), palette, numbers, strict=True
        ):
            outline = np.linalg.cholesky(covariance) @ circle
            ellipses = []
            for s in distances:
                style = {"facecolor": (*colour, 0.06), "edgecolor": colour, "linewidth": 1.5}
                ellipse = Polygon(mean + s * outline.T, **{**style, **(ellipse_kwargs or {})})
                ellipses.append(outlined(ax.add_patch(ellipse)))
            self.ellipses_.append(ellipses)
            label = ax.text(*mean, str(number), ha="center", va="center", weight="bold")
            self.labels_.append(outlined(label))
        ax.autoscale_view()
        ax.set(xlabel=self.feature_names[0], ylabel=self.feature_names[1])
        return self

    def _draw_rows(self, palette: Any, scatter_kwargs: dict[str, Any]) -> Any:
        if self.X is None:
            return None
        X = np.asarray(self.X, dtype=float)
        colour: Any = "0.5"
        if self.responsibilities is not None:
            share = np.asarray(self.responsibilities, dtype=float)
            # The share of components that are not drawn is grey.
            colour = np.clip(share @ palette + (1 - share.sum(1, keepdims=True)) * 0.5, 0, 1)
        style = {"s": point_size(len(X)), "c": colour, "linewidths": 0, "rasterized": True}
        return self.ax_.scatter(X[:, 0], X[:, 1], **{**style, **scatter_kwargs})


def _pair(subject: Subject, features: Any) -> Any:
    if len(subject.feature_names) < 2:
        raise ValueError("The mixture has one feature, but a plot needs two: use DensityDisplay.")
    pair = subject.positions(features)
    if len(pair) != 2:
        raise ValueError(f"features={features!r} selects {len(pair)} features: give two.")
    return pair
