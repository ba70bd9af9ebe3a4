"""``GapDisplay``: how far bounds lie below log p(x), and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from skemvae.core.decomposition import BoundDecomposition
from skemvae.displays.style import NATS, PALETTE, axes_for, number
from skemvae.displays.subject import look_into, named
from skemvae.typing import Axes, Estimators, MatrixLike, PlotOption

_PARTS = {"approximation_gap": "approximation gap", "amortisation_gap": "amortisation gap"}
# Gaps up to this size, relative to log p(x), are rounding errors.
_NO_GAP = 1e-9


class GapDisplay:
    """Plot of the gap between bound and log p(x), as one stacked bar per estimator.

    A bar begins at the ELBO and ends at log p(x). Its two parts are the
    approximation gap, which the best q of the family leaves, and the
    amortisation gap, which the encoder adds to it. The labels give log p(x)
    and the ELBO, which is the expected log likelihood (reconstruction) minus
    KL(q || prior). All are means over rows, in nats per sample. Create it with
    ``from_estimator``. The parameters are stored as attributes.

    Parameters
    ----------
    decompositions : dict of str to BoundDecomposition
        By name of the estimator, all of the same rows. The function
        ``decompose_bound`` returns them for a model and posterior of your own.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : dict of str to BarContainer
        The bars of "approximation_gap" and of "amortisation_gap", in the order
        of ``decompositions``.
    errors_ : ErrorbarContainer
        Standard errors of the gaps, due to the sampled latent points. Each is
        the mean over the rows, since all rows share these points.

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
        """Decompose the bounds of one or several estimators on the same rows, and plot them.

        Parameters
        ----------
        estimator : estimator, or dict or list of estimators
            Fitted, with ``decompose_bound``, on its own or inside a search, a
            Pipeline or a meta-estimator. Estimators in different Pipelines see
            different rows: you can compare their gaps, but not their log p(x).
        X : array-like of shape (n_samples, n_features)
            Rows to average over.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Passed to ``plot``.

        Returns
        -------
        GapDisplay
            The drawn display.

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        TypeError
            If an estimator has no ``decompose_bound``.
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
        """Plot the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.
        values : bool, default=True
            Whether to write log p(x) and the ELBO under the names, and the gap
            at the end of each bar.
        **kwargs : dict
            Passed to ``Axes.barh``.

        Returns
        -------
        self
            The drawn display.
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
            xerr=np.where(error > 0, error, np.nan),  # no whisker for an exact gap
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
    """Format a gap with its standard error; rounding errors of log p(x) count as 0."""
    if abs(gap) <= _NO_GAP * max(1.0, np.abs(one.log_likelihood).max()) and error == 0:
        return "0"
    if error == 0:
        return number(gap)
    decimals = max(0, -int(np.floor(np.log10(error))))  # no more than the error warrants
    return f"{number(gap, f'.{decimals}f')} ± {error:.{decimals}f}"


def _sum(one: BoundDecomposition) -> str:
    """Format the means of log p(x), of the ELBO and of its two terms."""
    log_likelihood, expected, kl, elbo = (
        number(part.mean(), ".2f")
        for part in (one.log_likelihood, one.expected_log_likelihood, one.kl_to_prior, one.elbo)
    )
    parts = f"{expected} − {kl} = " if np.isfinite(one.kl_to_prior).all() else ""
    return f"log p(x) = {log_likelihood}\nELBO = {parts}{elbo}"
