"""``GapDisplay``: how far bounds are from log p(x), and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from skemvae.core.decomposition import BoundDecomposition
from skemvae.displays.style import NATS, PALETTE, axes_for, number
from skemvae.displays.subject import look_into, named
from skemvae.typing import Axes, Estimators, MatrixLike, PlotOption

_PARTS = {"approximation_gap": "approximation gap", "amortisation_gap": "amortisation gap"}
# Relative to log p(x), rounding looks like a gap of this size.
_NO_GAP = 1e-9


class GapDisplay:
    """The gap between bound and log p(x) as stacked bars, one for each estimator.

    A bar begins at the ELBO and ends at log p(x). Its parts are what the best q
    of the family leaves, and what an encoder loses against that. Beside it
    stand log p(x) and the ELBO, which is the expected log likelihood
    (reconstruction) less KL(q || prior). All are means over rows, in nats per
    sample. Use ``from_estimator`` to make one. The parameters are stored as
    attributes.

    Parameters
    ----------
    decompositions : dict of str to BoundDecomposition
        By name of the estimator; of the same rows. Also of what the function
        ``decompose_bound`` returns for a pair of one's own.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : dict of str to BarContainer
        By "approximation_gap" and "amortisation_gap": their bars, in the order
        of ``decompositions``.
    errors_ : ErrorbarContainer
        Standard errors of the gaps, from the points at which the rows are
        looked at: the mean of those of the rows, since all rows share their
        points.

    References
    ----------
    Cremer, Li and Duvenaud (2018), "Inference suboptimality in variational
    autoencoders".

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skemvae import BoundDecomposition
    >>> from skemvae.displays import GapDisplay
    >>> none = np.zeros(2)
    >>> parts = BoundDecomposition(
    ...     log_likelihood=np.array([-3.0, -5.0]),
    ...     elbo=np.array([-3.5, -5.5]),
    ...     kl_to_prior=np.array([0.5, 1.0]),
    ...     amortisation_gap=np.array([0.1, 0.3]),
    ...     log_likelihood_std=none,
    ...     elbo_std=none,
    ...     amortisation_gap_std=none,
    ... )
    >>> display = GapDisplay({"VAE": parts}).plot()
    >>> [float(bars[0].get_width().round(2)) for bars in display.bars_.values()]
    [0.3, 0.2]
    >>> plt.close(display.figure_)
    """

    def __init__(self, decompositions: Mapping[str, BoundDecomposition]):
        self.decompositions = decompositions

    @classmethod
    def from_estimator(
        cls, estimator: Estimators, X: MatrixLike, *, ax: Axes | None = None, **kwargs: PlotOption
    ) -> Self:
        """Decompose the bounds of one or several estimators on the same rows, and draw them.

        Parameters
        ----------
        estimator : estimator, or dict or list of estimators
            Fitted, with ``decompose_bound``; also a search, a Pipeline or a
            meta-estimator around such a one. Those behind different Pipelines
            see different rows: their gaps can be compared, their log p(x)
            cannot.
        X : array-like of shape (n_samples, n_features)
            Rows whose mean is drawn.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            For ``plot``.

        Returns
        -------
        GapDisplay
            Drawn.

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        TypeError
            If it has no ``decompose_bound``.
        ValueError
            If a mean gap is infinite.
        """
        decompositions = {}
        for name, outer in named(estimator).items():
            subject = look_into(outer, ("decompose_bound",), X)
            decompositions[name] = subject.estimator.decompose_bound(subject.X)
        options: dict[str, Any] = kwargs
        return cls(decompositions).plot(ax, **options)

    def plot(self, ax: Axes | None = None, *, values: bool = True, **kwargs: PlotOption) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        values : bool, default=True
            Whether to write log p(x) and the ELBO under the names, and the gap
            behind each bar.
        **kwargs : dict
            For ``Axes.barh``.

        Returns
        -------
        self
            Drawn.
        """
        n = len(self.decompositions)
        for name, one in self.decompositions.items():
            if not np.isfinite(one.gap).all():
                raise ValueError(
                    f"The gap of {name!r} is not finite in {np.sum(~np.isfinite(one.gap))} rows, "
                    "so its mean cannot be drawn: leave these rows out."
                )
        (ax,) = axes_for(ax, figsize=(7.5, 1.3 + 0.75 * n))
        self.ax_, self.figure_, self.bars_ = ax, ax.figure, {}
        parts = list(self.decompositions.values())
        end = np.zeros(n)
        for (part, label), colour in zip(_PARTS.items(), (PALETTE[0], PALETTE[1]), strict=True):
            width = np.array([getattr(one, part).mean() for one in parts])
            style = {"left": end, "height": 0.5, "color": colour, "label": label, **kwargs}
            self.bars_[part] = ax.barh(np.arange(n), width, **style)
            end = end + width
        error = np.array([np.mean(one.gap_std) for one in parts])
        self.errors_ = ax.errorbar(
            end,
            np.arange(n),
            xerr=np.where(error > 0, error, np.nan),  # what is exact has no whisker
            fmt="none",
            color="0.2",
            capsize=3,
        )
        names = list(self.decompositions)
        if values:
            names = [f"{name}\n{_sum(one)}" for name, one in self.decompositions.items()]
            for i, one in enumerate(parts):
                place = (end[i] + error[i], i)
                gap = _gap(end[i], error[i], one)
                ax.annotate(gap, place, (6, 0), textcoords="offset points", va="center")
        ax.set_yticks(np.arange(n), names)
        largest = (end + error).max()
        largest = largest if largest > _NO_GAP else 1.0
        ax.set(xlim=(min(0.0, (end - error).min()), 1.3 * largest), ylim=(n - 0.5, -0.5))
        ax.set_xlabel(f"log p(x) − ELBO, {NATS}")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=2, frameon=False)
        return self


def _gap(gap: float, error: float, one: BoundDecomposition) -> str:
    """A gap with its error; rounding of log p(x) is none."""
    if abs(gap) <= _NO_GAP * max(1.0, np.abs(one.log_likelihood).max()) and error == 0:
        return "0"
    if error == 0:
        return number(gap)
    decimals = max(0, -int(np.floor(np.log10(error))))  # as many as the error lets one trust
    return f"{number(gap, f'.{decimals}f')} ± {error:.{decimals}f}"


def _sum(one: BoundDecomposition) -> str:
    """What the means of the parts add up to."""
    log_likelihood, expected, kl, elbo = (
        number(part.mean(), ".2f")
        for part in (one.log_likelihood, one.expected_log_likelihood, one.kl_to_prior, one.elbo)
    )
    parts = f"{expected} − {kl} = " if np.isfinite(one.kl_to_prior).all() else ""
    return f"log p(x) = {log_likelihood}\nELBO = {parts}{elbo}"
