"""``LatentDisplay``: rows in the latent space, and images decoded from its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length, check_scalar
from sklearn.utils.multiclass import type_of_target

from skemvae.displays.style import (
    SEQUENTIAL,
    axes_for,
    colours,
    legend_beside,
    markers,
    number,
    point_size,
)
from skemvae.displays.subject import look_into
from skemvae.typing import ArrayLike, Axes, Columns, MatrixLike, PlotOption
from skemvae.validation import select_columns

# A target with more distinct numbers than this is a scale, not classes.
_MOST_CLASSES = 20
_PRIOR_DRAWS = 4096
# The images cover this share of the prior along each axis.
_SHOWN = 0.95


class LatentDisplay:
    """Plot of rows in the latent space, coloured by a target, and of decoded images.

    Create it with ``from_estimator``. The parameters are stored as attributes.

    Parameters
    ----------
    Z : array-like of shape (n_samples, 1) or (n_samples, 2)
        Latent coordinates of the rows.
    y : array-like of shape (n_samples,), default=None
        Target: classes or numbers.
    target_name : str, default=None
        Name of the target.
    latent_names : sequence of str, default=("z0", "z1")
        Labels of the axes.
    images : array-like of shape (n_rows, n_columns, height, width[, 3]), default=None
        Images decoded from the points of a grid.
    image_grid : pair of array-likes of shape (n_columns,) and (n_rows,), default=None
        Latent coordinates of the images.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The Axes with the rows.
    axes_ : list of Axes
        ``ax_``, and the Axes with the images, if any.
    figure_ : matplotlib Figure
    points_ : list of artists
        The rows: one artist for each class, or one for all.
    image_ : AxesImage or None
        The images.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from skemvae import VariationalEM
    >>> from skemvae.displays import LatentDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> em = VariationalEM("factor_model", tol=0.05, random_state=0).fit(X)
    >>> display = LatentDisplay.from_estimator(em, X, y)
    >>> len(display.points_)
    3
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        Z: ArrayLike,
        *,
        y: object = None,
        target_name: str | None = None,
        latent_names: Sequence[str] = ("z0", "z1"),
        images: ArrayLike | None = None,
        image_grid: tuple[ArrayLike, ArrayLike] | None = None,
    ):
        self.Z = Z
        self.y = y
        self.target_name = target_name
        self.latent_names = latent_names
        self.images = images
        self.image_grid = image_grid

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        y: object = None,
        *,
        dimensions: Columns | None = None,
        image_shape: Sequence[int] | None = None,
        n_images: int = 12,
        ax: Axes | None = None,
        **kwargs: PlotOption,
    ) -> Self:
        """Plot the posterior means E_q[z | x] of rows, and decoded images if given their shape.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``transform``, and for images also with
            ``inverse_transform``; on its own or inside a search, a Pipeline
            or a meta-estimator.
        X : array-like of shape (n_samples, n_features)
            Rows to draw.
        y : array-like of shape (n_samples,), default=None
            Target that colours the rows: classes get a legend, more than 20
            different numbers a colour scale.
        dimensions : int or sequence of 1 or 2 int, default=None
            Which dimensions of z to draw. None means all if there are one or
            two, otherwise the first two principal components of the posterior
            means.
        image_shape : sequence of int, default=None
            (height, width) or (height, width, 3) of the images, if rows are
            images. A second panel then shows E[x | z] over the plane, at
            quantiles of the prior; the other dimensions stay at their means.
        n_images : int, default=12
            Number of images along each side.
        ax : matplotlib Axes, or pair of them with images, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Passed to ``plot``.

        Returns
        -------
        LatentDisplay
            The drawn display.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator has no latent space, or cannot decode images that
            are asked for.
        ValueError
            If ``dimensions`` or ``image_shape`` do not fit.
        """
        check_scalar(n_images, "n_images", Integral, min_val=1)
        subject = look_into(estimator, ("transform",), X)
        Z = np.asarray(subject.estimator.transform(subject.X), dtype=float)
        if y is not None:
            check_consistent_length(Z, y)
        plane = _Plane.of(Z, dimensions)
        images, image_grid = None, None
        if image_shape is not None:
            image_grid = plane.quantiles(_prior(subject.estimator, Z), n_images)
            images = _decoded(estimator, plane, image_grid, tuple(image_shape))
        display = cls(
            plane.coordinates(Z),
            y=y,
            target_name=getattr(y, "name", None),
            latent_names=plane.names,
            images=images,
            image_grid=image_grid,
        )
        options: dict[str, Any] = kwargs
        return display.plot(ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        scatter_kwargs: dict[str, PlotOption] | None = None,
        image_kwargs: dict[str, PlotOption] | None = None,
    ) -> Self:
        """Plot rows, and images if there are any.

        Parameters
        ----------
        ax : matplotlib Axes, or pair of them with images, default=None
            Axes to draw on; None makes a new figure.
        scatter_kwargs : dict, default=None
            Passed to ``Axes.scatter`` to draw the rows.
        image_kwargs : dict, default=None
            Passed to ``Axes.imshow`` to draw the images. By default large
            values are dark.

        Returns
        -------
        self
            The drawn display.
        """
        n_panels = 1 if self.images is None else 2
        size = {} if self.images is None else {"figsize": (10.5, 4.8)}
        self.axes_ = axes_for(ax, n_panels, **size)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        Z = np.asarray(self.Z, dtype=float)
        if self.y is not None and _is_scale(self.y):
            self.points_ = self._draw_scale(Z, scatter_kwargs or {})
        else:
            self.points_ = self._draw_classes(Z, scatter_kwargs or {})
        self.ax_.set_xlabel(self.latent_names[0])
        if Z.shape[1] == 2:
            self.ax_.set_ylabel(self.latent_names[1])
        self.image_ = None if self.images is None else self._draw_images(image_kwargs or {})
        return self

    def _draw_scale(self, Z: Any, scatter: dict[str, Any]) -> list[Any]:
        y, name = np.asarray(self.y, dtype=float), self.target_name or "y"
        style = {"s": point_size(len(Z)), "linewidths": 0, "rasterized": True, **scatter}
        if Z.shape[1] == 1:
            self.ax_.set_ylabel(name)
            return [self.ax_.scatter(Z[:, 0], y, **style)]
        points = self.ax_.scatter(*Z.T, c=y, **{"cmap": SEQUENTIAL, **style})
        self.figure_.colorbar(points, ax=self.ax_, label=name)
        return [points]

    def _draw_classes(self, Z: Any, scatter: dict[str, Any]) -> list[Any]:
        y = np.zeros(len(Z)) if self.y is None else np.asarray(self.y)
        classes, label = np.unique(y, return_inverse=True)
        groups = [Z[label == i] for i in range(len(classes))]
        palette = colours(len(classes))
        if Z.shape[1] == 1:
            values = [group[:, 0] for group in groups]
            names = [str(one) for one in classes]
            artists = self.ax_.hist(values, 30, stacked=True, color=list(palette), label=names)[2]
            points = list(artists) if len(classes) > 1 else [artists]
            self.ax_.set_ylabel("rows")
        else:
            style = {"s": point_size(len(Z)), "alpha": 0.8, "linewidths": 0, "rasterized": True}
            points = [
                self.ax_.scatter(
                    *group.T,
                    **{"color": colour, "marker": marker, "label": str(one), **style, **scatter},
                )
                for one, group, colour, marker in zip(
                    classes, groups, palette, markers(len(classes)), strict=True
                )
            ]
        if self.y is not None:
            legend_beside(self.ax_, len(classes), title=self.target_name, markerscale=2)
        return points

    def _draw_images(self, image_kwargs: dict[str, Any]) -> Any:
        images = np.asarray(self.images, dtype=float)
        n_rows, n_columns, height, width = images.shape[:4]
        # NaN draws white lines between the images.
        gap = 1 + min(height, width) // 16
        borders = [(0, 0), (0, 0), (0, gap), (0, gap), *((0, 0),) * (images.ndim - 4)]
        images = np.pad(images, borders, constant_values=np.nan)
        # The first row of the grid belongs at the bottom.
        tiled = np.concatenate([np.concatenate(list(row), axis=1) for row in images[::-1]])
        ax = self.axes_[1]
        image = ax.imshow(tiled, **{"cmap": "gray_r", "interpolation": "nearest", **image_kwargs})
        x, y = self.image_grid or (np.arange(n_columns), np.arange(n_rows))
        shown_x, shown_y = (
            np.unique(np.linspace(0, n - 1, 5, dtype=int)) for n in (n_columns, n_rows)
        )
        ax.set_xticks(shown_x * (width + gap) + width / 2 - 0.5, _ticks(x, shown_x))
        ax.set_yticks(
            (n_rows - 1 - shown_y) * (height + gap) + height / 2 - 0.5, _ticks(y, shown_y)
        )
        ax.set(xlabel=self.latent_names[0], ylabel=self.latent_names[1], title="E[x | z]")
        return image


@dataclass(frozen=True)
class _Plane:
    """A line or a plane in the latent space.

    Attributes
    ----------
    centre : array of shape (n_latent,)
    basis : array of shape (1 or 2, n_latent)
        With orthonormal rows.
    names : list of str
    """

    centre: Any
    basis: Any
    names: list[str]

    @classmethod
    def of(cls, Z: Any, dimensions: Any) -> _Plane:
        """The plane of the chosen dimensions, or of the first two principal components."""
        n_latent = Z.shape[1]
        if dimensions is None and n_latent > 2:
            centre = Z.mean(0)
            _, spread, axes = np.linalg.svd(Z - centre, full_matrices=False)
            share = spread**2 / max((spread**2).sum(), np.finfo(float).tiny)
            # The sign of an axis is arbitrary: make its largest entry positive.
            sign = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
            names = [
                f"principal component {i + 1} of z ({100 * share[i]:.0f} %)"
                for i in range(min(2, len(share)))
            ]
            return cls(centre, (sign * axes)[:2], names)
        if dimensions is None:
            dimensions = range(n_latent)
        if np.ndim(dimensions) or isinstance(dimensions, range):
            dimensions = list(dimensions)
        chosen = select_columns(dimensions, n_latent, [], parameter="dimensions")
        if len(chosen) > 2:
            raise ValueError(f"dimensions={dimensions} selects {len(chosen)}: give one or two.")
        centre = Z.mean(0)
        centre[chosen] = 0
        return cls(centre, np.eye(n_latent)[chosen], [f"z{j}" for j in chosen])

    def coordinates(self, Z: Any) -> Any:
        """Coordinates of points, projected on the plane."""
        return (Z - self.centre) @ self.basis.T

    def points(self, coordinates: Any) -> Any:
        """Points of the latent space that have these coordinates on the plane."""
        return self.centre + coordinates @ self.basis

    def quantiles(self, Z: Any, n: int) -> Any:
        """n quantiles of points along each axis of the plane."""
        tail = (1 - _SHOWN) / 2
        return tuple(np.quantile(self.coordinates(Z), np.linspace(tail, 1 - tail, n), axis=0).T)


def _ticks(values: Any, shown: Any) -> list[str]:
    """Format some of the values, with as many decimals as their range needs."""
    span = np.ptp(values) or 1.0
    decimals = max(0, 1 - int(np.floor(np.log10(span))))
    return [number(values[i], f".{decimals}f") for i in shown]


def _is_scale(y: Any) -> bool:
    """Whether a target is a scale rather than classes."""
    if type_of_target(y) == "continuous":
        return True
    y = np.asarray(y)
    return y.dtype.kind in "iuf" and len(np.unique(y)) > _MOST_CLASSES


def _prior(estimator: Any, Z: Any) -> Any:
    """Draws from p(z), or the z of the rows if the estimator cannot draw."""
    if not hasattr(estimator, "sample"):
        return Z
    drawn = estimator.sample(_PRIOR_DRAWS, random_state=0)[1]
    if np.ndim(drawn) != 2:
        raise TypeError(
            f"image_shape: {type(estimator).__name__} has a discrete latent z here, so there is "
            "no plane of images. Draw the means of its components instead."
        )
    return drawn


def _decoded(estimator: Any, plane: _Plane, grid: Any, image_shape: tuple[int, ...]) -> Any:
    """Images at the points of a grid on a plane."""
    if not hasattr(estimator, "inverse_transform"):
        raise TypeError(
            f"image_shape={image_shape} asks for images, but {type(estimator).__name__} has no "
            "inverse_transform: leave image_shape out."
        )
    if len(grid) != 2:
        raise ValueError(
            f"image_shape={image_shape} asks for a plane of images: choose two dimensions."
        )
    x, y = np.meshgrid(*grid)
    rows = np.asarray(estimator.inverse_transform(plane.points(np.c_[x.ravel(), y.ravel()])))
    if len(image_shape) not in (2, 3) or np.prod(image_shape) != rows.shape[1]:
        raise ValueError(
            f"image_shape={image_shape} does not match the {rows.shape[1]} features of a row: "
            "give (height, width), or (height, width, 3)."
        )
    return rows.astype(float).reshape(*x.shape, *image_shape)
