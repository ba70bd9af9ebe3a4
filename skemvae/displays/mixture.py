"""``MixtureDisplay``: components as ellipses, rows in the colours of their responsibilities."""

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
    """The components of a Gaussian mixture on two features.

    Ellipses are contours of each component's marginal density of the two
    features, at so many standard deviations from its mean: in two dimensions 1
    holds 39 % of the component, 2 hold 86 %. A row has the colours of the
    components, mixed by its responsibilities. Use ``from_estimator`` to make
    one. The parameters are stored as attributes.

    Parameters
    ----------
    means : array-like of shape (n_components, 2)
        In the units of the features.
    covariances : array-like of shape (n_components, 2, 2)
        Of the two features.
    X : array-like of shape (n_samples, 2), default=None
        Rows to draw.
    responsibilities : array-like of shape (n_samples, n_components), default=None
        Of the rows; None draws them grey.
    components : array-like of shape (n_components,), default=None
        Numbers that are written at the means; None means 0, 1 and so on.
    feature_names : sequence of 2 str, default=("x0", "x1")
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : PathCollection or None
        The rows.
    ellipses_ : list of list of Polygon
        For each component, one for each of ``n_std``.
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
        """Draw a fitted mixture, and rows in the colours of its components.

        Parameters
        ----------
        estimator : estimator
            A fitted ``EMGaussianMixture``, ``VariationalEM`` of a
            ``BayesianMixture`` or mixture of scikit-learn; also a search, a
            Pipeline or a meta-estimator around one, which is drawn in the
            coordinates that the mixture sees. Of a Bayesian mixture those
            components are drawn that hold more than one row, with the
            inverses of their expected precisions.
        X : array-like of shape (n_samples, n_features), default=None
            Rows to draw.
        features : pair of int or str, default=(0, 1)
            Which features, by position or name.
        feature_names : array-like of str of shape (n_features,), default=None
            None means those of the table that the mixture was fitted to.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        MixtureDisplay
            Drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is not a Gaussian mixture.
        ValueError
            If ``features`` are not two features of the mixture.
        """
        subject = look_into(estimator, ("means_", "model_"), X, feature_names)
        fitted = getattr(subject.estimator, "model_", subject.estimator)
        if not hasattr(fitted, "means_"):
            raise TypeError(
                f"{type(fitted).__name__} is not a mixture of Gaussians: draw it by "
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
        """Draw rows and ellipses.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        n_std : sequence of float, default=(1, 2)
            How many standard deviations from the mean the ellipses are.
        scatter_kwargs : dict, default=None
            For ``Axes.scatter``, which draws the rows.
        ellipse_kwargs : dict, default=None
            For ``matplotlib.patches.Polygon``.

        Returns
        -------
        self
            Drawn.
        """
        distances = np.atleast_1d(check_positive("n_std", n_std))
        (ax,) = axes_for(ax)
        from matplotlib.patches import Polygon

        means = np.asarray(self.means, dtype=float)
        palette = colours(len(means))
        self.ax_, self.figure_ = ax, ax.figure
        self.points_ = self._draw_rows(palette, scatter_kwargs or {})
        # Points on a circle under the Cholesky factor: sound whatever the units of the features.
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
            # What components that are not drawn hold is grey.
            colour = np.clip(share @ palette + (1 - share.sum(1, keepdims=True)) * 0.5, 0, 1)
        style = {"s": point_size(len(X)), "c": colour, "linewidths": 0, "rasterized": True}
        return self.ax_.scatter(X[:, 0], X[:, 1], **{**style, **scatter_kwargs})


def _pair(subject: Subject, features: Any) -> Any:
    if len(subject.feature_names) < 2:
        raise ValueError("The mixture has one feature, but a plane needs two: use DensityDisplay.")
    pair = subject.positions(features)
    if len(pair) != 2:
        raise ValueError(f"features={features!r} are {len(pair)} features, but a plane has two.")
    return pair
