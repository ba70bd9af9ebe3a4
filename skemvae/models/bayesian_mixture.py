"""``BayesianMixture``: a Gaussian mixture whose parameters have a prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, cast

import numpy as np

from skemvae.core.bound import Posterior
from skemvae.core.gaussian_mixture import frame_of
from skemvae.core.iterate import Fit
from skemvae.core.rows import Frame, Rows
from skemvae.core.table import Table
from skemvae.engine.passes.numpy_pass import map_conditionals, map_rows
from skemvae.engine.samples.summary import Summary
from skemvae.engine.starts.initialisation import Initialiser
from skemvae.engine.starts.regularisation import Regularisation
from skemvae.mixtures import bayesian_mixture as core
from skemvae.mixtures.weights import MIXING_WEIGHTS
from skemvae.models.base import Model
from skemvae.models.bayesian_fit import START_RIDGE, BayesianMixtureFit
from skemvae.models.bayesian_prior import prior_of
from skemvae.parameters import check_parameters, choice, integer, number, optional
from skemvae.structures.matrices import MatrixCovariance
from skemvae.structures.registry import STRUCTURES
from skemvae.tables.reading import check_extent
from skemvae.typing import ArrayLike, FloatArray, IntArray, Tabular, TrainingRows
from skemvae.validation import check_range

_PRIOR = optional(number(1e-100, 1e100, boundaries="neither"))
_RULES = {
    "n_components": integer(1),
    "covariance_type": choice(STRUCTURES),
    "weight_concentration_prior_type": choice(MIXING_WEIGHTS),
    "weight_concentration_prior": _PRIOR,
    "mean_precision_prior": _PRIOR,
    "degrees_of_freedom_prior": _PRIOR,
}


class BayesianMixture(Model):
    """Gaussian mixture with a prior on weights, means and precisions.

    The bound includes the cost of the parameters, so it can be compared between
    numbers of components, priors and structures. Superfluous components become
    empty. Fitted by ``VariationalEM``.

    Parameters
    ----------
    n_components : int, default=10
        Largest number of components K. It may exceed the number of rows.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        As in ``EMGaussianMixture``.
    weight_concentration_prior_type : str, default="dirichlet_process"
        "dirichlet_process" (truncated stick-breaking) or
        "dirichlet_distribution".
    weight_concentration_prior : float, default=None
        Concentration of each component (Dirichlet distribution) or of the
        process. Small values prefer few components. None means 1 / K.
    mean_prior : array-like of shape (n_features,), default=None
        Prior mean of the components' means. None means the mean of the rows.
    mean_precision_prior : float, default=None
        How many rows ``mean_prior`` is worth. None means that it is fitted; the
        further apart the components, the smaller it is.
    degrees_of_freedom_prior : float, default=None
        How many rows ``covariance_prior`` is worth: degrees of freedom of the
        Wishart distribution ("full", "tied"; above d - 1) or of each gamma
        distribution ("diag", "spherical"; above 0). None means d, or 1.
    covariance_prior : array-like, default=None
        Inverse scale of the Wishart distribution: d x d ("full", "tied"), of
        shape (d,) ("diag"), or a number ("spherical"). The prior expectation of
        the precision is ``degrees_of_freedom_prior`` times its inverse. None
        means that it is fitted to the typical width of the components. The whole
        table then counts as two more components, with the correlations of the
        rows, shrunk as by d + 1 more rows of independent features.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Expected weights.
    means_ : ndarray of shape (n_components, n_features)
    covariances_, precisions_ : ndarray
        Inverses of the expected precisions, and the expected precisions; laid
        out as in ``EMGaussianMixture``.
    weight_concentration_ : ndarray of shape (n_components,) or (2, n_components - 1)
        Of the Dirichlet distribution, or of the beta distribution of each stick.
    mean_precision_, degrees_of_freedom_ : ndarray of shape (n_components,)
    n_active_components_ : int
        Number of components that hold more than one row.
    mean_prior_ : ndarray of shape (n_features,)
    mean_precision_prior_, degrees_of_freedom_prior_ : float
    covariance_prior_ : ndarray or float
        The prior that was used, including its fitted parts, in the form of the
        parameters of these names.
    n_parameters_ : int
        Number of free parameters of the Gaussian mixture with K components.

    References
    ----------
    Bishop (2006), "Pattern Recognition and Machine Learning", section 10.2;
    Blei and Jordan (2006), "Variational inference for Dirichlet process
    mixtures"; Rasmussen (2000), "The infinite Gaussian mixture model", which
    also learns the prior of the components.

    Examples
    --------
    >>> import numpy as np
    >>> from skemvae import VariationalEM
    >>> from skemvae.models import BayesianMixture
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.normal(-5, 1, (200, 1)), rng.normal(5, 1, (200, 1))])
    >>> em = VariationalEM(BayesianMixture(n_components=6), random_state=0).fit(X)
    >>> em.model_.n_active_components_
    2
    """

    def __init__(
        self,
        n_components: int = 10,
        covariance_type: str = "full",
        weight_concentration_prior_type: str = "dirichlet_process",
        weight_concentration_prior: float | None = None,
        mean_prior: ArrayLike | None = None,
        mean_precision_prior: float | None = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: ArrayLike | None = None,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_prior = mean_prior
        self.mean_precision_prior = mean_precision_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior

    has_discrete_latent = True

    reads_tables = True

    def begin(
        self,
        X: TrainingRows,
        weight: FloatArray | None,
        names: Sequence[object],
        rng: np.random.RandomState,
        previous: Self | None,
    ) -> Fit:
        rows = cast(Table, X)
        structure = self._check_parameters()
        extent = check_extent(rows, names)
        if extent.n_counting < 2:
            raise ValueError(
                f"sample_weight leaves {extent.n_counting} row of positive weight: a minimum of 2 "
                "is required."
            )
        summary = Summary.of(rows, extent)
        check_range(summary)
        table = rows.framed(Frame(summary.mean, structure.units(summary.scale)))
        ridge = Regularisation(START_RIDGE, structure, int(self.n_components))
        initialiser = Initialiser.of(structure, self.n_components, table, summary, ridge)
        noise = extent.total * initialiser.judge.noise
        prior = prior_of(self, structure, table, summary, noise)
        if previous is not None:
            self._check_same_shape(previous, len(summary.mean))
        return BayesianMixtureFit(self, table, summary, initialiser, prior, rng, previous)

    def _check_parameters(self) -> type[MatrixCovariance]:
        check_parameters(self, _RULES)
        structure: type[Any] = STRUCTURES[self.covariance_type]
        if not structure.is_conjugate:
            conjugate = [name for name in STRUCTURES if STRUCTURES[name].is_conjugate]
            raise ValueError(
                f"covariance_type={self.covariance_type!r} has no conjugate prior: take one of "
                f"{', '.join(map(repr, conjugate))}, or EMGaussianMixture."
            )
        return structure

    def _check_same_shape(self, previous: Self, d: int) -> None:
        fitted = (previous.covariance_type, previous.weight_concentration_prior_type)
        asked = (self.covariance_type, self.weight_concentration_prior_type)
        shape = (self.n_components, d)
        if fitted != asked or previous.means_.shape != shape:
            raise ValueError(
                f"warm_start=True goes on from {fitted} with means_ of shape "
                f"{previous.means_.shape}, but the parameters and X ask for {asked} and {shape}: "
                "set warm_start=False."
            )

    # Fitted.

    @property
    def mean_prior_(self) -> FloatArray:
        return self._mixture.prior.components.mean[0]

    @property
    def mean_precision_prior_(self) -> float:
        return float(self._mixture.prior.components.mean_precision[0])

    @property
    def degrees_of_freedom_prior_(self) -> float:
        return float(self._mixture.prior.components.dof[0])

    @property
    def covariance_prior_(self) -> FloatArray:
        covariance = self._mixture.prior.components.covariance
        inverse_scales = self.degrees_of_freedom_prior_ * covariance.public(covariance.values)
        return inverse_scales if covariance.is_shared else inverse_scales[0]

    @property
    def n_latent_(self) -> int:
        return len(self.weights_)

    def log_density(self, X: Tabular) -> tuple[FloatArray, FloatArray]:
        log_density = self._by_rows(
            self._mixture.predictive(), X, (), lambda seen: seen.log_evidence, is_density=True
        )
        return log_density, np.zeros_like(log_density)

    def elbo(self, X: Tabular) -> tuple[FloatArray, FloatArray]:
        elbo = self._by_rows(self._mixture, X, (), lambda seen: seen.log_evidence, is_density=True)
        return elbo, np.zeros_like(elbo)

    def log_conditionals(self, X: Tabular) -> FloatArray:
        frame = self._frame
        out = np.empty(X.shape, dtype=X.dtype)
        predictive = self._mixture.predictive().into(frame)
        return map_conditionals(predictive, Rows(X, None, frame), out)

    def kl_to_prior(self, X: Tabular) -> FloatArray:
        log_prior = self._mixture.q.weights.expected_log
        return self._by_rows(self._mixture, X, (), lambda seen: seen.kl(log_prior))

    def posterior_mean(self, X: Tabular) -> FloatArray:
        return self._by_rows(self._mixture, X, (self.n_latent_,), lambda seen: seen.weight)

    def expected_rows(self, Z: FloatArray) -> FloatArray:
        return Z @ self.means_.astype(Z.dtype)

    def draw(self, n: int, rng: np.random.RandomState) -> tuple[FloatArray, IntArray]:
        return self._mixture.predictive().sample(n, rng)

    def _by_rows(
        self,
        mixture: core.BayesianMixture | core.Predictive,
        X: Any,
        columns: tuple[int, ...],
        function: Callable[[Posterior], Any],
        *,
        is_density: bool = False,
    ) -> Any:
        frame = self._frame
        offset = frame.log_volume if is_density else 0
        out = np.empty((X.shape[0], *columns), dtype=X.dtype)
        rows = Rows(X, None, frame)
        return map_rows(mixture.into(frame), rows, lambda seen: function(seen) - offset, out)

    @property
    def _frame(self) -> Frame:
        components = self._mixture.q.components
        return frame_of(self.weights_, components.mean, components.covariance)

    def _set(self, mixture: core.BayesianMixture) -> Self:
        """Set the fitted attributes from q, in the units of X."""
        q = mixture.q
        covariance = q.components.covariance
        k, d = q.components.mean.shape
        self._mixture = mixture
        self.weights_ = q.weights.mean
        self.means_ = q.components.mean
        self.covariances_ = covariance.public(covariance.values)
        self.precisions_ = covariance.public(covariance.precisions)
        self.weight_concentration_ = q.weights.public
        self.mean_precision_ = q.components.mean_precision
        self.degrees_of_freedom_ = q.components.dof
        self.n_active_components_ = int(mixture.is_active.sum())
        self.n_parameters_ = k - 1 + k * d + covariance.n_parameters
        return self
