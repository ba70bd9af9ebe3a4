"""``EMGaussianMixture``: exact EM for Gaussian mixtures."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.utils import check_scalar

from skemvae.base import unchanged_if_refused
from skemvae.callbacks import with_callbacks
from skemvae.core.arrays import power_of_two
from skemvae.core.covariance import Covariance
from skemvae.core.parallel import parallel_region
from skemvae.core.rows import Frame
from skemvae.core.structures import STRUCTURES
from skemvae.core.summary import Summary
from skemvae.core.table import Table
from skemvae.em_fit import ExactEM
from skemvae.initialisation import METHODS
from skemvae.mixture_density import MixtureDensity
from skemvae.multistart import best_of_starts, warn_unless_converged
from skemvae.tables.reading import check_extent, read
from skemvae.validation import (
    check_choice,
    check_range,
)


class EMGaussianMixture(MixtureDensity):
    """Gaussian mixture fitted by exact EM.

    A drop-in for scikit-learn's ``GaussianMixture``: same parameters, same
    meanings, except where said here. It maximises the mean log likelihood
    with the exact posterior as E step and a closed form as M step, so the
    objective never falls. It takes weights, is a transformer, keeps its
    digits at any offset and scale, and reads X block by block: memory beyond
    X does not grow with the number of rows.

    Parameters
    ----------
    n_components : int, default=1
        Number of components K.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        A matrix for each component, one for all, variances for each feature
        and component, or one variance for each component.
    tol : float, default=1e-3
        Stop when the gain that remains is estimated to be below ``tol``, in
        nats per sample (Aitken extrapolation of the last three bounds).
        scikit-learn compares the last gain alone, which stops too early where
        EM is slow. 0 runs to ``max_iter``.
    reg_covar : float, default=1e-6
        Regularisation, *relative* to the variance of each feature: the
        objective is the expected log likelihood of x with noise of variance
        ``reg_covar * var(x_j)``. It does not depend on units and enters both
        steps of EM, hence the objective stays monotone. However small it is,
        the noise has at least a standard deviation of 4096 units in the last
        place of the largest absolute value of the feature (of 1 if it is zero
        everywhere), which keeps constant features finite.
    max_iter : int, default=100
        Most iterations of a start. 0 returns the start itself.
    n_init : int, default=1
        Number of starts. The best is kept: sound fits before collapsed ones
        (a component without variance in some feature, or on fewer than d + 1
        distinct rows), then by ``lower_bound_``.
    init_params : str, array or callable, default="auto"
        - ``"auto"``: a tournament of cheap starts (k-means in standardised
          and in whitened units, k-means++, slices along random directions,
          random rows), a few iterations each on a bounded sample; the best
          goes on. Row order and multiplicity do not matter.
        - ``"kmeans"``, ``"k-means++"``, ``"random_from_data"``, ``"random"``:
          as in scikit-learn, but weighted, in standardised units, on a
          bounded sample, each row assigned to the nearest centre, and never
          from singular covariances.
        - array of shape (n_samples, n_components): initial responsibilities;
          components on fewer than d + 1 rows borrow from the pooled covariance.
        - callable: ``init_params(X, n_components, random_state)`` returns such
          an array.
    weights_init : array-like of shape (n_components,), default=None
        Initial weights, replacing those of ``init_params``.
    means_init : array-like of shape (n_components, n_features), default=None
        Initial means. If ``init_params`` is a string, initial weights and
        covariances then come from the rows nearest to each mean, unless they
        are given too.
    precisions_init : array-like, default=None
        Initial inverse covariances, in the layout of ``precisions_``.
    random_state : int, RandomState instance or None, default=None
        Seed of the starts, and of ``sample``.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the parameters of the last one, if any.
        The history ``lower_bounds_`` then continues, provided that the data
        are the same.
    verbose : int, default=0
        1 prints the iterations, 2 also bound, gain and time. For a progress
        bar use scikit-learn's callbacks (from version 1.9 on).
    verbose_interval : int, default=10
        Number of iterations between prints.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
    means_ : ndarray of shape (n_components, n_features)
    covariances_, precisions_, precisions_cholesky_ : ndarray
        Of shape (n_components, n_features, n_features) for "full",
        (n_features, n_features) for "tied", (n_components, n_features) for
        "diag" and (n_components,) for "spherical".
    lower_bound_ : float
        The objective at the returned parameters, in nats per sample and the
        units of X. With ``reg_covar=0`` it equals ``score(X)``; otherwise it
        lies below by the mean penalty of the regularisation.
    lower_bounds_ : ndarray of shape (n_iter + 1,)
        The objective at the start and after each iteration:
        ``lower_bounds_[i]`` is what ``max_iter=i`` would return. Warm starts
        append to it.
    converged_ : bool
        Whether the stopping rule was met.
    status_ : str
        "converged", "max_iter", "interrupted" or "stopped_by_callback".
    n_iter_ : int
        Iterations of the best start in this call of ``fit``.
    n_parameters_ : int
        Number of free parameters.
    n_features_in_ : int
    feature_names_in_ : ndarray
        Only if X has string column names.

    References
    ----------
    Dempster, Laird and Rubin (1977), "Maximum likelihood from incomplete data".

    Examples
    --------
    >>> import numpy as np
    >>> from skemvae import EMGaussianMixture
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (500, 1)), rng.normal(3, 1, (500, 1))])
    >>> mixture = EMGaussianMixture(n_components=2, random_state=0).fit(X)
    >>> np.sort(mixture.means_, axis=0).round()
    array([[-3.],
           [ 3.]])
    >>> bool(np.isclose(mixture.lower_bound_, mixture.score(X), atol=1e-5))
    True
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: Any = "auto",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the mixture by EM.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows. float32 stays as it is, other types become float64.
            Rows that need not be in memory: a memmap, anything else with
            ``shape`` that slices by rows, batches (``from_batches``), a dask
            array.
        y : Ignored
            Present for the API only.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts: integer weights equal repeated rows.
            Batches bring their own.

        Returns
        -------
        self
            After Ctrl-C usable, with the best parameters so far; before there
            are any, KeyboardInterrupt is raised.

        Raises
        ------
        ValueError
            If X holds NaN or inf, has fewer rows than components or values
            whose squares leave float64; if weights are negative or all zero;
            if a parameter is out of range; if batches do not fit together, or
            do not come anew for each pass.

        Warns
        -----
        ConvergenceWarning
            If the best start did not converge, or was interrupted.
        """
        structure = self._check_parameters()
        warm = self.warm_start and hasattr(self, "means_")
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        with unchanged_if_refused(self), parallel_region():
            table, summary = self._read(structure, X, sample_weight)
            ascent = ExactEM(self, structure, table, summary, warm)
            result = best_of_starts(
                self,
                ascent,
                ascent.attributes,
                n_init=ascent.n_init,
                earlier=getattr(self, "lower_bounds_", ()) if warm else (),
                told={"X": X, "y": y, "metadata": metadata},
            )
        self._remember_surprise_of(table)
        remedy = "Try different init parameters, or increase max_iter, tol, or check for degenerate"
        warn_unless_converged(result, self.max_iter, f"{remedy} data.")
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit the mixture, and return the most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : Ignored
            Present for the API only.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``fit(X, y, sample_weight).predict(X)``.
        """
        return self.fit(X, y, sample_weight).predict(X)

    def _read(
        self, structure: type[Covariance], X: Any, sample_weight: Any
    ) -> tuple[Table, Summary]:
        """Valid rows in a frame of their own, and their summary."""
        table = read(self, X, sample_weight)
        extent = check_extent(table)
        if extent.n_counting < self.n_components:
            raise ValueError(
                f"Expected n_samples >= n_components but got n_components = {self.n_components}, "
                f"n_samples = {extent.n_counting} (rows of weight 0 do not count)."
            )
        weight_unit = power_of_two(np.asarray(extent.heaviest))
        table = table.framed(table.frame, float(weight_unit))
        summary = Summary.of(table, extent)
        check_range(summary)
        return table.framed(Frame(summary.mean, structure.units(summary.scale))), summary

    # Parameters.

    def _check_parameters(self) -> type[Covariance]:
        check_choice("covariance_type", self.covariance_type, STRUCTURES)
        if isinstance(self.n_components, bool):
            raise TypeError(f"n_components={self.n_components} must be an int.")
        check_scalar(self.n_components, "n_components", Integral, min_val=1)
        check_scalar(self.max_iter, "max_iter", Integral, min_val=0)
        check_scalar(self.n_init, "n_init", Integral, min_val=1)
        check_scalar(self.verbose, "verbose", Integral, min_val=0)
        check_scalar(self.verbose_interval, "verbose_interval", Integral, min_val=1)
        check_scalar(self.tol, "tol", Real, min_val=0)
        check_scalar(self.reg_covar, "reg_covar", Real, min_val=0)
        for name in ("tol", "reg_covar"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)} must be finite.")
        if not callable(self.init_params) and np.ndim(self.init_params) != 2:
            check_choice("init_params", self.init_params, METHODS)
        return STRUCTURES[self.covariance_type]
