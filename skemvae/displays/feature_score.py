"""``FeatureScoreDisplay``: which features make rows anomalous."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_scalar

from skemvae.displays.style import DIVERGING, PALETTE, axes_for, shorten
from skemvae.displays.subject import look_into
from skemvae.typing import ArrayLike, Axes, MatrixLike, PlotOption

# The colour scale is linear if no score exceeds this, otherwise logarithmic beyond 1.
_LINEAR = 10.0


class FeatureScoreDisplay:
    """Plot of how surprising each feature of a row is, given the others.

    One row is drawn as bars, several as a heat map. Create it with
    ``from_estimator``. The parameters are stored as attributes.

    Parameters
    ----------
    scores : array-like of shape (n_rows, n_features)
        -log p(x_j | other features) minus its mean over training rows, in nats.
    feature_names : sequence of str of shape (n_features,)
        Labels of the features.
    row_names : sequence of shape (n_rows,)
        Labels of the rows.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    features_ : ndarray of int
        Positions of the features that are drawn, the most surprising first.
    bars_ : BarContainer or None
        The bars, for one row.
    image_ : AxesImage or None
        The heat map, for several rows.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skemvae.displays import FeatureScoreDisplay
    >>> scores = [[0.2, 7.5, -0.4]]
    >>> display = FeatureScoreDisplay(scores, ["age", "height", "weight"], ["Ann"]).plot()
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['height', 'age', 'weight']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self, scores: ArrayLike, feature_names: Sequence[str], row_names: Sequence[object]
    ):
        self.scores = scores
        self.feature_names = feature_names
        self.row_names = row_names

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        *,
        rows: ArrayLike | None = None,
        feature_names: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: PlotOption,
    ) -> Self:
        """Plot the feature scores of some rows.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``feature_scores`` and ``score_samples``, on its own
            or inside a search, a Pipeline or a meta-estimator.
        X : array-like of shape (n_samples, n_features)
            Rows to choose from.
        rows : int or array-like of int or bool, default=None
            Positions of the rows, or a mask. None means the ten with the
            lowest log density, the lowest first.
        feature_names : array-like of str of shape (n_features,), default=None
            Names of all features. None means those of the training table.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Passed to ``plot``.

        Returns
        -------
        FeatureScoreDisplay
            The drawn display.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator has no ``feature_scores``.
        ValueError
            If ``rows`` does not select rows of X.
        """
        subject = look_into(estimator, ("feature_scores",), X, feature_names)
        scores = np.asarray(subject.estimator.feature_scores(subject.X))
        chosen: Any = rows
        if rows is None:
            chosen = np.argsort(subject.estimator.score_samples(subject.X), kind="stable")[:10]
        try:
            positions = np.atleast_1d(np.arange(len(scores))[chosen])
        except IndexError as error:
            raise ValueError(f"rows={rows!r} does not select rows of X: {error}.") from error
        if len(positions) == 0:
            raise ValueError(f"rows={rows!r} selects no row: give at least one.")
        index = getattr(X, "index", None)  # a pandas frame names its rows
        names = positions if index is None or callable(index) else [index[i] for i in positions]
        display = cls(scores[positions], subject.feature_names, list(names))
        options: dict[str, Any] = kwargs
        return display.plot(ax, **options)

    def plot(self, ax: Axes | None = None, *, n_features: int = 10, **kwargs: PlotOption) -> Self:
        """Plot the features with the largest scores, the largest on top.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        n_features : int, default=10
            Number of features to draw.
        **kwargs : dict
            Passed to ``Axes.barh`` or ``Axes.imshow``.

        Returns
        -------
        self
            The drawn display.
        """
        check_scalar(n_features, "n_features", Integral, min_val=1)
        scores = np.asarray(self.scores, dtype=float)
        self.features_ = np.argsort(-scores.max(0), kind="stable")[:n_features]
        shown = scores[:, self.features_]
        (ax,) = axes_for(ax, figsize=(7.0, 1.2 + 0.32 * len(self.features_)))
        self.ax_, self.figure_ = ax, ax.figure
        self.bars_, self.image_ = None, None
        if len(scores) == 1:
            self._draw_bars(shown[0], kwargs)
        else:
            self._draw_map(shown.T, kwargs)
        names = shorten([str(self.feature_names[j]) for j in self.features_])
        ax.set_yticks(np.arange(len(names)), names)
        return self

    def _draw_bars(self, scores: Any, kwargs: dict[str, Any]) -> None:
        colour = [PALETTE[6] if score > 0 else PALETTE[3] for score in scores]
        self.bars_ = self.ax_.barh(np.arange(len(scores)), scores, **{"color": colour, **kwargs})
        self.ax_.axvline(0, color="0.2", linewidth=0.8)
        self.ax_.invert_yaxis()
        self.ax_.set(xlabel="nats above the training mean", title=f"row {self.row_names[0]}")

    def _draw_map(self, scores: Any, kwargs: dict[str, Any]) -> None:
        from matplotlib.colors import Normalize, SymLogNorm

        finite = np.abs(scores[np.isfinite(scores)])
        largest = max(finite.max(initial=0), 1.0)
        norm: Any = Normalize(-largest, largest)
        if largest > _LINEAR:
            norm = SymLogNorm(1.0, vmin=-largest, vmax=largest, base=10)
        style = {"cmap": DIVERGING, "norm": norm, "aspect": "auto", "interpolation": "nearest"}
        self.image_ = self.ax_.imshow(scores, **{**style, **kwargs})
        names = [str(name) for name in self.row_names]
        slanted = {"rotation": 45, "ha": "right"} if max(map(len, names)) > 4 else {}
        self.ax_.set_xticks(np.arange(len(names)), names, **slanted)
        self.ax_.set_xlabel("row")
        self.figure_.colorbar(self.image_, ax=self.ax_, label="nats above the training mean")
