"""``BoundDisplay``: the bound over the iterations of a fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from skemvae.displays.style import NATS, axes_for, colours, legend_beside
from skemvae.displays.subject import look_into, named
from skemvae.typing import ArrayLike, Axes, Estimators, MatrixLike, PlotOption

# The first tenth of a curve is cut off if it takes more than this share of the height.
_START = 0.1
_SQUEEZED = 0.75
# Shorter curves are never cut off.
_FEW = 10


class BoundDisplay:
    """Plot of the bound against iterations of EM or epochs of a VAE.

    Create it with ``from_estimator``. The parameters are stored as attributes.

    Parameters
    ----------
    lower_bounds : dict of str to array-like of shape (n_iter + 1,)
        By name of the fit: the bound on the training rows at the start and
        after each iteration, in nats per sample.
    validation_lower_bounds : dict of str to array-like of shape (n_iter + 1,), default=None
        The same on held-out rows, for the fits that have some.
    kept : dict of str to int, default=None
        The epoch whose weights each fit with held-out rows has kept.
    step : str, default="iteration"
        Name of one step, for the label of the x axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to Line2D
        The bounds on the training rows.
    validation_lines_ : dict of str to Line2D
        The bounds on held-out rows.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from skemvae import EMGaussianMixture
    >>> from skemvae.displays import BoundDisplay
    >>> em = EMGaussianMixture(3, random_state=0).fit(load_iris().data)
    >>> display = BoundDisplay.from_estimator(em)
    >>> display.ax_.get_ylabel()
    'bound, nats per sample'
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        lower_bounds: Mapping[str, ArrayLike],
        *,
        validation_lower_bounds: Mapping[str, ArrayLike] | None = None,
        kept: Mapping[str, int] | None = None,
        step: str = "iteration",
    ):
        self.lower_bounds = {name: np.asarray(b, float) for name, b in lower_bounds.items()}
        self.validation_lower_bounds = validation_lower_bounds
        self.kept = kept
        self.step = step

    @classmethod
    def from_estimator(
        cls,
        estimator: Estimators,
        X: MatrixLike | None = None,
        *,
        ax: Axes | None = None,
        **kwargs: PlotOption,
    ) -> Self:
        """Plot the bounds that one or several fits have recorded.

        Parameters
        ----------
        estimator : estimator, or dict or list of estimators
            Fitted, with ``lower_bounds_``, on its own or inside a search, a
            Pipeline or a meta-estimator.
        X : Ignored
            Present for API consistency.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Passed to ``Axes.plot``.

        Returns
        -------
        BoundDisplay
            The drawn display.

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        TypeError
            If an estimator records no bounds.
        """
        training, validation, kept, steps = {}, {}, {}, set()
        for name, outer in named(estimator).items():
            fitted = look_into(outer, ("lower_bounds_",)).estimator
            training[name] = np.asarray(fitted.lower_bounds_, dtype=float)
            steps.add("epoch" if hasattr(fitted, "validation_lower_bounds_") else "iteration")
            held_out = getattr(fitted, "validation_lower_bounds_", None)
            if held_out is not None:
                validation[name] = np.asarray(held_out, dtype=float)
                if np.isfinite(validation[name][-1]):
                    # Bounds of earlier calls come first; this fit did not choose among them.
                    before = len(validation[name]) - fitted.n_iter_ - 1
                    kept[name] = before + int(np.nanargmax(validation[name][before:]))
        display = cls(
            training,
            validation_lower_bounds=validation,
            kept=kept,
            step=" or ".join(sorted(steps, reverse=True)),
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: PlotOption) -> Self:
        """Plot the bounds.

        A start so low that the rest would look flat is cut off; the label of
        the x axis says so.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Passed to ``Axes.plot``.

        Returns
        -------
        self
            The drawn display.
        """
        (ax,) = axes_for(ax)
        given = self.validation_lower_bounds or {}
        validation = {name: np.asarray(bounds, dtype=float) for name, bounds in given.items()}
        kept = self.kept or {}
        one = len(self.lower_bounds) == 1
        self.ax_, self.figure_ = ax, ax.figure
        self.lines_, self.validation_lines_ = {}, {}
        longest = max(len(bounds) for bounds in self.lower_bounds.values()) - 1
        for (name, bounds), colour in zip(
            self.lower_bounds.items(), colours(len(self.lower_bounds)), strict=True
        ):
            style = {"color": colour, **kwargs}
            label = "training rows" if one and validation else name
            (self.lines_[name],) = ax.plot(np.arange(len(bounds)), bounds, label=label, **style)
            if not one:  # extend short curves, to compare their heights
                ax.plot([len(bounds) - 1, longest], bounds[[-1, -1]], ":", color=colour)
            if name not in validation:
                continue
            label = "held-out rows" if one else f"{name}, held out"
            (self.validation_lines_[name],) = ax.plot(
                np.arange(len(validation[name])),
                validation[name],
                **{**style, "linestyle": "--", "label": label},
            )
            if name in kept:
                first = name == next(iter(kept))
                ax.plot(
                    kept[name],
                    validation[name][kept[name]],
                    "o",
                    color=style["color"],
                    markerfacecolor="white",
                    label="weights kept" if one and first else None,
                )
        cut = self._cut_off_start([*self.lower_bounds.values(), *validation.values()])
        ax.set(xlabel=self.step + cut, ylabel=f"bound, {NATS}")
        ax.locator_params(axis="x", integer=True)
        ax.ticklabel_format(axis="y", useOffset=False)
        if not one:
            legend_beside(ax, len(self.lines_) + len(self.validation_lines_))
        elif validation:
            ax.legend(loc="lower right")
        return self

    def _cut_off_start(self, curves: Iterable[Any]) -> str:
        """Limit the y axis to what follows the start; return a note for the label."""
        curves = [np.asarray(curve, dtype=float) for curve in curves]
        later = [c[int(_START * len(c)) :] if len(c) >= _FEW else c for c in curves]
        finite = [curve[np.isfinite(curve)] for curve in (*curves, *later)]
        finite = [curve for curve in finite if len(curve)]
        if not finite:
            return ""
        bottom, top = (f([f(curve) for curve in finite]) for f in (np.min, np.max))
        low = min(curve[np.isfinite(curve)].min(initial=top) for curve in later)
        if top == low or top - low > (1 - _SQUEEZED) * (top - bottom):
            return ""
        margin = 0.06 * (top - low)
        self.ax_.set_ylim(low - margin, top + margin)
        return " (the start is below the axis)"
