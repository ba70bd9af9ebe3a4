"""``EMGaussianMixture``: exact EM for Gaussian mixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from skemvae.callbacks import with_callbacks
from skemvae.core.bound import POSTERIORS
from skemvae.core.covariance import Covariance
from skemvae.core.iterate import Result, Status
from skemvae.doubts import warn_of_doubts
from skemvae.em_fit import ExactEM, framed_table
from skemvae.engine.climbs.whole_steps import State
from skemvae.engine.passes.threads import in_region
from skemvae.engine.starts.initialisation import METHODS
from skemvae.fitting import best_of_starts, fitting, warn_unless_converged
from skemvae.mixtures.stream import Stream
from skemvae.parameters import (
    check_parameters,
    choice,
    either,
    flag,
    integer,
    number,
    optional,
    verbosity,
)
from skemvae.partial_fit import OnlineMixture, remembered
from skemvae.structures.registry import STRUCTURES
from skemvae.typing import ArrayLike, IntArray, MatrixLike, RandomState
from skemvae.validation import (
    check_choice,
    keywords_named,
)

_RULES = {
    "n_components": integer(1),
    "covariance_type": choice(STRUCTURES),
    "tol": number(),
    "reg_covar": either("auto", number()),
    "max_iter": integer(0),
    "n_init": integer(1),
    "n_factors": integer(1),
    "posterior": choice(POSTERIORS),
    "acceleration": optional(choice(("auto",))),
    "warm_start": flag,
    "verbose": verbosity,
    "verbose_interval": integer(1),
    "learning_decay": number(0, 1),
}


class EMGaussianMixture(OnlineMixture):
    """Gaussian mixture fitted by exact EM.

    A drop-in replacement for scikit-learn's ``GaussianMixture``: parameters
    mean the same, except as stated here. It maximises the mean log likelihood,
    with the exact posterior in the E step and a closed form in the M step, so
    the bound never falls. It takes sample weights, is a transformer, and keeps
    its precision at any offset and scale. It reads X block by block, so memory
    beyond X does not grow with the number of rows.

    Parameters
    ----------
    n_components : int, default=1
        Number of components K.
    covariance_type : str, default="full"
        "full" is one matrix for each component, "tied" one matrix for all, "diag" one
        variance for each feature and component, and "spherical" one variance for each
        component. "factor_analytic" is ``n_factors`` factors for each component and one
        noise variance for each feature and component: with many columns it has far fewer
        parameters than "full".
    tol : float, default=1e-3
        Stop when the estimated remaining gain is below ``tol``, in nats per
        sample. The estimate is by Aitken extrapolation of the last three bounds,
        or from the slowest rate that the acceleration has seen. It assumes that
        an iteration gains at most 1 % of what remains. scikit-learn compares
        only the last gain with ``tol``, which stops too early where EM is slow.
        0 runs to ``max_iter``.
    reg_covar : float or "auto", default="auto"
        The ridge, *relative* to each feature: the fit maximises the expected
        log likelihood of x with added noise of variance ``reg_covar * s_j ** 2``.
        ``s_j`` is the standard deviation of the feature, or the *width of its grain*
        if that is smaller: the median gap between neighbouring distinct values,
        times the number of gaps, divided by 2.6. For a normal distribution it equals
        the standard deviation. Distances between groups, codes or far-away rows do
        not change the gaps within a group, so they do not blur close values; with K
        groups that do not overlap, the width is about K times that of one. The ridge
        does not depend on units. It enters both steps of EM, so the bound still
        never falls. The standard deviation of the noise is at least 4096 units in
        the last place of the largest absolute value of the feature (of 1 if it is
        zero everywhere), which keeps constant features finite.
        "auto" is 1e-6 if the rows determine all covariances, which for "full"
        takes d + 1 rows per component. With fewer rows it is
        ``1 - (n / K - 1) / d`` ("full") or ``1 - (n - K) / d`` ("tied"), the share of the
        directions that the rows do not span. Repeating the whole table adds no rows.
    max_iter : int, default=100
        Maximum number of iterations (passes over the rows) of a start. 0 returns
        the start itself.
    n_init : int, default=1
        Number of starts. The best fit is the one whose ``lower_bound_`` would be
        highest with covariances that the rows determine, so that a spike on a few
        rows does not win. Several starts first run on a bounded sample of the
        distinct rows, in rounds that drop the worse half. Only the best, and at
        most two others that the sample cannot tell from it, run on all rows;
        callbacks and ``n_iter_`` see only these iterations. Ignored if
        ``init_params`` is an array, if ``means_init`` is given, and by warm
        starts.
    init_params : str, array or callable, default="auto"
        - ``"auto"``: a tournament of cheap starts (k-means in standardised
          and in whitened units, slices along random directions, random
          rows). They run for a few iterations on a bounded sample, which
          grows as the worse ones drop out; the best one wins. Row order and
          multiplicity do not matter.
        - ``"kmeans"``, ``"k-means++"``, ``"random_from_data"``, ``"random"``:
          as in scikit-learn, but weighted, in standardised units, on a
          bounded sample, with each row assigned to the nearest centre, and
          never with singular covariances.
        - array of shape (n_samples, n_components): initial responsibilities;
          covariances of components on fewer than d + 1 rows are averaged with
          the pooled covariance. Or of shape (n_samples,): the component of each
          row, counted from 0, such as the ``labels_`` of ``KMeans``.
        - callable: ``init_params(X, n_components, random_state)`` returns such
          an array.
    weights_init : array-like of shape (n_components,), default=None
        Initial weights, which replace those of ``init_params``.
    means_init : array-like of shape (n_components, n_features), default=None
        Initial means. If ``init_params`` is a string, the initial weights and
        covariances then come from the rows nearest to each mean, unless they
        are given too.
    precisions_init : array-like, default=None
        Initial inverse covariances, in the layout of ``precisions_``; for
        "factor_analytic", the fit starts from the nearest covariances of that structure.
    n_factors : int, default=2
        Number of factors of each component with ``covariance_type="factor_analytic"``.
        Other structures ignore it.
    posterior : str, default="exact"
        The posterior in the E step of ``fit``: "exact" for Bayes' rule, or the name of your
        own approximation q in ``skemvae.core.bound.POSTERIORS``. The bound of such a fit is
        that of q; scores are always exact.
    acceleration : {"auto"} or None, default="auto"
        "auto" extrapolates iterations by a quasi-Newton method, and on long
        tables first fits a sample of the rows. A result of either is used only
        if the bound does not fall; otherwise it costs one iteration that leaves
        the parameters unchanged. None is plain EM.
    device : str, default="cpu"
        Where ``fit`` computes its passes over the rows: "cpu", "cuda" or "cuda:1"
        for a GPU (through torch: ``pip install "skemvae[vae]"``), or "auto", a GPU
        if there is one. A GPU also computes in float64, and agrees to about 1e-9.
        Starts are always found on the CPU.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the starts, and of ``sample``.
    warm_start : bool, default=False
        Whether ``fit`` continues from the parameters of the last fit, if any.
        It then also continues the history ``lower_bounds_``, which makes sense
        only for the same data. Components that hold too few of the new rows get
        others, if that raises the bound.
    verbose : int or None, default=None
        None shows one line, on terminals only, if a fit takes more than ten
        seconds; 0 is silent; 1 prints the iterations, 2 also bound, gain and
        time. For a progress bar, use scikit-learn's callbacks (from version 1.9
        on).
    verbose_interval : int, default=10
        Number of iterations between prints.
    learning_decay : float, default=1.0
        How fast the steps of ``partial_fit`` get shorter (see its notes). Use 1 for
        rows of one distribution; smaller values forget old rows sooner, and 0 keeps
        only the last batch. ``fit`` ignores it.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
    means_ : ndarray of shape (n_components, n_features)
    covariances_, precisions_, precisions_cholesky_ : ndarray
        Of shape (n_components, n_features, n_features) for "full",
        (n_features, n_features) for "tied", (n_components, n_features) for
        "diag" and (n_components,) for "spherical". "factor_analytic" has the shape of
        "full", and no ``precisions_cholesky_``.
    loadings_ : ndarray of shape (n_components, n_features, n_factors)
        Only with "factor_analytic": how each feature depends on the factors of a
        component, up to a rotation of the factors.
    noise_variances_ : ndarray of shape (n_components, n_features)
        Only with "factor_analytic": the variances that the factors do not explain.
    lower_bound_ : float
        The bound at the returned parameters, in nats per sample and the units of
        X. It is below ``score(X)`` by the mean penalty of the ridge. With
        ``reg_covar=0`` the penalty is only rounding ("factor_analytic" keeps a ridge
        of 1e-10), unless a component has no more variance in some column than the
        minimum noise: each such column costs half a nat.
    lower_bounds_ : ndarray of shape (n_iter + 1,)
        The bound at the start and after each iteration: ``lower_bounds_[i]`` is
        what ``max_iter=i`` would return. Warm starts append to it. ``partial_fit``
        appends the bound of its batch before the step, at the climbing parameters,
        which have not seen the batch; ``lower_bound_`` is then that value, too.
    converged_ : bool
        Whether the stopping rule was met.
    status_ : str
        "converged", "max_iter", "interrupted", "stopped_by_callback", or
        "ongoing" after ``partial_fit``.
    n_iter_ : int
        Iterations of the best start in this call of ``fit``, plus the calls of
        ``partial_fit`` since.
    n_samples_seen_ : int
        Number of rows of positive weight in ``fit`` and in all calls of
        ``partial_fit`` since; a row that comes twice counts twice.
    reg_covar_ : float
        ``reg_covar`` as a number, also for "auto".
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

    @keywords_named
    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float | str = "auto",
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str | ArrayLike | Callable[..., ArrayLike] = "auto",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        n_factors: int = 2,
        posterior: str = "exact",
        acceleration: str | None = "auto",
        device: str = "cpu",
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int | None = None,
        verbose_interval: int = 10,
        learning_decay: float = 1.0,
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
        self.n_factors = n_factors
        self.posterior = posterior
        self.acceleration = acceleration
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.learning_decay = learning_decay

    def fit(self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the mixture by EM.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows. float32 stays as it is, other types become float64.
            The rows need not be in memory: X may be a memmap, anything else that
            has a ``shape`` and can be sliced by rows, batches (``from_batches``) or
            a dask array.
        y : Ignored
            Present for the API only.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts: integer weights equal repeated rows.
            Batches have their own weights.

        Returns
        -------
        self
            After Ctrl-C it is usable, with the best parameters so far; if there
            are none yet, KeyboardInterrupt is raised.

        Raises
        ------
        ImportError
            If ``device`` asks for a GPU and torch is not installed.
        ValueError
            If X contains NaN or inf, fewer rows than components, or values
            whose squares exceed the range of float64; if weights are negative or
            all zero; if a parameter is out of range; if there is no such
            ``device``; if batches do not match, or cannot be read again for each
            pass.

        Warns
        -----
        ConvergenceWarning
            If the best start did not converge, or was interrupted.
        DoubtfulFitWarning
            If columns are linearly dependent; if components have collapsed on
            repeated values; if ``reg_covar`` is a number and there are too few rows,
            so that only the ridge limits the density; or if a component holds no
            rows.
        """
        structure = self._check_parameters()
        with fitting(self) as draft:
            result, doubts = in_region(lambda _: draft._fit(structure, X, y, sample_weight))
        remedy = "Try different init parameters, or increase max_iter, tol, or check for degenerate"
        warn_unless_converged(result, self.max_iter, f"{remedy} data.")
        warn_of_doubts(doubts)
        return self

    def fit_predict(
        self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> IntArray:
        """Fit the mixture and return the most probable component of each row.

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

    @with_callbacks
    def _fit(
        self, structure: type[Covariance], X: Any, y: Any, sample_weight: Any
    ) -> tuple[Result[State], list[str]]:
        """Fit the mixture, whose parameters are valid; return the result and any doubts."""
        warm = self.warm_start and hasattr(self, "means_")
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        table, extent, summary = framed_table(self, structure, X, sample_weight)
        ascent = ExactEM(self, structure, table, summary, warm)
        grain, regularisation = ascent.grain, ascent.regularisation
        stream = Stream.of(extent, summary, grain, regularisation.noise(summary, grain))
        doubts: list[str] = []

        def look_back(result: Result[State]) -> None:
            self._remember_surprise_of(table)
            names = getattr(self, "feature_names_in_", range(self.n_features_in_))
            doubts.extend(ascent.doubts(result, names))

        result = best_of_starts(
            self,
            ascent,
            lambda state: ascent.attributes(state) | remembered(stream, regularisation),
            n_init=ascent.n_init,
            earlier=self._history() if warm else (),
            told={"X": X, "y": y, "metadata": metadata},
            look_back=look_back,
        )
        return result, doubts

    def _history(self) -> Any:
        """The bounds that a warm start continues; none after batches, which are other rows."""
        ongoing = getattr(self, "status_", None) == Status.ONGOING
        return () if ongoing else getattr(self, "lower_bounds_", ())

    # Parameters.

    def _check_parameters(self) -> type[Covariance]:
        check_parameters(self, _RULES)
        if not callable(self.init_params) and np.ndim(self.init_params) not in (1, 2):
            check_choice("init_params", self.init_params, METHODS)
        return STRUCTURES[self.covariance_type].with_factors(self.n_factors)
