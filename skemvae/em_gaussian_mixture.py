"""``EMGaussianMixture``: exact EM for Gaussian mixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from skemvae.callbacks import with_callbacks
from skemvae.core.arrays import power_of_two
from skemvae.core.bound import POSTERIORS
from skemvae.core.covariance import Covariance
from skemvae.core.iterate import Result, Status
from skemvae.core.rows import Frame, Rows
from skemvae.core.table import Table
from skemvae.doubts import warn_of_doubts
from skemvae.em_fit import ExactEM
from skemvae.engine.climbs.whole_steps import State
from skemvae.engine.passes.threads import in_region
from skemvae.engine.samples.summary import Extent, Summary
from skemvae.engine.starts.initialisation import METHODS
from skemvae.fitting import best_of_starts, fitting, warn_unless_converged
from skemvae.mixture_density import MixtureDensity
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
from skemvae.partial_fit import remembered, step_on_batch
from skemvae.structures.registry import STRUCTURES
from skemvae.tables.reading import check_extent, check_rows, read
from skemvae.typing import ArrayLike, IntArray, MatrixLike, RandomState
from skemvae.validation import (
    check_choice,
    check_enough,
    check_range,
    check_weights,
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
    covariance_type : str, default="full"
        "full" is a matrix for each component, "tied" one for all, "diag" variances for
        each feature and component, "spherical" one variance for each component, and
        "factor_analytic" ``n_factors`` factors for each component, with noise of each
        feature: for many columns it has far fewer parameters than "full".
    tol : float, default=1e-3
        Stop when the gain that remains is estimated to be below ``tol``, in
        nats per sample (by Aitken extrapolation of the last three bounds, or
        by the slowest rate that the acceleration has seen). Each step is
        assumed to gain at most 1 % of what is left. scikit-learn compares the
        last gain alone, which stops too early where EM is slow.
        0 runs to ``max_iter``.
    reg_covar : float or "auto", default="auto"
        Regularisation, *relative* to each feature: the objective is the
        expected log likelihood of x with noise of variance ``reg_covar * s_j ** 2``.
        ``s_j`` is the standard deviation of the feature, or the *width of its grain*
        where that is smaller: the median gap between neighbouring distinct values,
        times the number of gaps, over 2.6, which is the standard deviation if they are
        normal. Groups, codes and rows that lie far away do not change the
        gaps within a group, so no distance between them blurs what is close; of K
        groups that do not overlap the width is about K times that of one. It does
        not depend on units, and enters both steps of EM, hence the objective stays
        monotone. However small it is, the noise has at least a standard
        deviation of 4096 units in the last place of the largest absolute value of
        the feature (of 1 if it is zero everywhere), which keeps constant
        features finite.
        "auto" is 1e-6 where the rows determine all covariances, which for "full"
        takes d + 1 of them for each component. Of fewer rows it is
        ``1 - (n / K - 1) / d`` ("full") or ``1 - (n - K) / d`` ("tied"), the part of the
        directions that they leave open. Repetition of the whole table adds no rows.
    max_iter : int, default=100
        Most iterations of a start: passes over the rows. 0 returns the start
        itself.
    n_init : int, default=1
        Number of starts. The best is kept, by what ``lower_bound_`` would be with
        covariances that the rows determine, so that a spike on a few rows does
        not win. Several starts first climb on a bounded sample of the distinct
        rows, where the worse half is left behind again and again; only the
        best, and at most two more that the sample cannot tell from it, climb on
        all rows. Callbacks and ``n_iter_`` see the climbs on all rows. Ignored if
        ``init_params`` is an array, if ``means_init`` is given, and by warm
        starts.
    init_params : str, array or callable, default="auto"
        - ``"auto"``: a tournament of cheap starts (k-means in standardised
          and in whitened units, slices along random directions, random
          rows), a few iterations each on a bounded sample that grows while
          the worse of them are left behind; the best goes on. Row order and
          multiplicity do not matter.
        - ``"kmeans"``, ``"k-means++"``, ``"random_from_data"``, ``"random"``:
          as in scikit-learn, but weighted, in standardised units, on a
          bounded sample, each row assigned to the nearest centre, and never
          from singular covariances.
        - array of shape (n_samples, n_components): initial responsibilities;
          components on fewer than d + 1 rows borrow from the pooled covariance.
          Or of shape (n_samples,): the component of each row, from 0 on, such
          as the ``labels_`` of ``KMeans``.
        - callable: ``init_params(X, n_components, random_state)`` returns such
          an array.
    weights_init : array-like of shape (n_components,), default=None
        Initial weights, replacing those of ``init_params``.
    means_init : array-like of shape (n_components, n_features), default=None
        Initial means. If ``init_params`` is a string, initial weights and
        covariances then come from the rows nearest to each mean, unless they
        are given too.
    precisions_init : array-like, default=None
        Initial inverse covariances, in the layout of ``precisions_``; for
        "factor_analytic" the nearest of that structure are taken.
    n_factors : int, default=2
        Of ``covariance_type="factor_analytic"``: how many factors the features of a
        component share. Other structures do not look at it.
    posterior : str, default="exact"
        How ``fit`` shares a row among the components: "exact" by Bayes' rule, or by an
        approximation q of your own, under its name in ``skemvae.core.bound.POSTERIORS``. The
        bound of such a fit is that of q; scores are exact in any case.
    acceleration : {"auto"} or None, default="auto"
        "auto" extrapolates iterations by a quasi-Newton method, and lets a
        sample go ahead where rows are many. What that leads to is taken only
        if the objective does not fall; otherwise it costs an iteration that
        leaves the parameters as they were. None is plain EM.
    device : str, default="cpu"
        Where ``fit`` passes over the rows: "cpu", "cuda" or "cuda:1" for a GPU
        (by torch: ``pip install "skemvae[vae]"``), or "auto", a GPU if there is
        one. A GPU computes in float64, too, and agrees to about 1e-9. Starts
        are sought on the CPU.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the starts, and of ``sample``.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the parameters of the last one, if any.
        The history ``lower_bounds_`` then continues, provided that the data
        are the same. Components that few of other rows belong to are given new
        ones where the objective then is higher.
    verbose : int or None, default=None
        None shows one line, on a terminal only, while a fit takes more than
        ten seconds; 0 is silent. 1 prints the iterations, 2 also bound,
        gain and time. For a progress bar use scikit-learn's callbacks (from
        version 1.9 on).
    verbose_interval : int, default=10
        Number of iterations between prints.
    learning_decay : float, default=1.0
        How fast the steps of ``partial_fit`` get shorter, which says how: 1 for
        rows of one distribution; the smaller, the sooner old rows are forgotten;
        0 keeps the last batch only. ``fit`` does not look at it.

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
        Only of "factor_analytic": how each feature depends on the factors of a component,
        up to a rotation of these.
    noise_variances_ : ndarray of shape (n_components, n_features)
        Only of "factor_analytic": the variance that the factors do not explain.
    lower_bound_ : float
        The objective at the returned parameters, in nats per sample and the
        units of X. It lies below ``score(X)`` by the mean penalty of the
        ridge. With ``reg_covar=0`` that is nothing but rounding ("factor_analytic" keeps
        a ridge of 1e-10), unless
        a component has no more variance in some column than the least noise:
        each such column costs half a nat.
    lower_bounds_ : ndarray of shape (n_iter + 1,)
        The objective at the start and after each iteration:
        ``lower_bounds_[i]`` is what ``max_iter=i`` would return. Warm starts
        append to it. ``partial_fit`` appends the objective of its batch where it
        climbs, before the step, at parameters that have not seen the batch; then
        ``lower_bound_`` is that, too.
    converged_ : bool
        Whether the stopping rule was met.
    status_ : str
        "converged", "max_iter", "interrupted", "stopped_by_callback", or
        "ongoing" after ``partial_fit``.
    n_iter_ : int
        Iterations of the best start in this call of ``fit``, and the calls of
        ``partial_fit`` since.
    n_samples_seen_ : int
        Rows of positive weight in ``fit`` and in all calls of ``partial_fit``
        since; a row that comes twice counts twice.
    reg_covar_ : float
        ``reg_covar`` as a number: what "auto" has come to.
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
        ImportError
            If ``device`` asks for a GPU, and torch is not installed.
        ValueError
            If X holds NaN or inf, has fewer rows than components or values
            whose squares leave float64; if weights are negative or all zero;
            if a parameter is out of range; if there is no such ``device``; if
            batches do not fit together, or do not come anew for each pass.

        Warns
        -----
        ConvergenceWarning
            If the best start did not converge, or was interrupted.
        DoubtfulFitWarning
            If columns determine each other linearly, if components have collapsed
            on values that are repeated, or if there are too few rows for a number as
            ``reg_covar``: the density then has no bound but that. If a component
            holds no rows.
        """
        structure = self._check_parameters()
        with fitting(self) as draft:
            result, doubts = in_region(lambda _: draft._fit(structure, X, y, sample_weight))
        remedy = "Try different init parameters, or increase max_iter, tol, or check for degenerate"
        warn_unless_converged(result, self.max_iter, f"{remedy} data.")
        warn_of_doubts(doubts)
        return self

    def partial_fit(
        self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Take one step of on-line EM on a batch of rows.

        The expected moments of the batch are averaged with those of all rows
        before it, and the parameters follow by the M step. No row is kept.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The batch. The first one also gives the start, so it needs at least
            as many rows as there are components, and should be a fair sample of
            5 rows or more for each free parameter; later ones can be of any size.
        y : Ignored
            Present for the API only.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, relative to all rows of all batches.

        Returns
        -------
        self
            After the first batch every method can be used.

        Raises
        ------
        ValueError
            As ``fit``; or if X has not the columns of the first batch. The
            estimator is then as it was before.
        KeyboardInterrupt
            After Ctrl-C, with the parameters before: the loop is yours.

        See Also
        --------
        fit : Batch EM, for a table that can be read again and again.

        Notes
        -----
        After ``fit`` the steps go on from its parameters, and the rows of the
        fit count as the first batch. After ``from_parameters`` the first batch
        takes an ordinary iteration of EM from them.

        A batch that holds the share s of the weight of all rows so far, its own
        included, moves the moments by ``min(1, 3 s ** learning_decay)`` of the way;
        of batches of one size the t-th has s = 1 / t. E steps are taken at other
        parameters, which climb by ``min(1, 5 s ** (learning_decay / 2))``. Fewer than 5
        rows for each free parameter move either by ``max(s, n_samples / (5 *
        n_parameters_))`` at most: what is forgotten must not be missed.

        Regularisation is that of ``fit``, with running averages of the variances and
        of the grain of the features, in which batches count by their gaps: a few rows
        do not show what lies close. When to stop is yours to say. ``lower_bound_`` is
        the objective of the batch at the parameters that climb, *before* the step: of
        rows that these have never seen, if none comes twice.

        Rows must come in random order. A sorted table is a stream that drifts:
        the components follow it, and forget how it began.

        References
        ----------
        Cappé and Moulines (2009), "On-line expectation-maximization algorithm for
        latent data models"; Liang and Klein (2009), "Online EM for unsupervised models";
        Polyak and Juditsky (1992), "Acceleration of stochastic approximation by averaging".

        Examples
        --------
        Two passes over a table, in another order each time:

        >>> import numpy as np
        >>> from skemvae import EMGaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> X = np.concatenate([rng.normal(-3, 1, (5000, 1)), rng.normal(3, 1, (5000, 1))])
        >>> mixture = EMGaussianMixture(2, random_state=0)
        >>> for _ in range(2):
        ...     for rows in np.array_split(rng.permutation(len(X)), 10):
        ...         mixture = mixture.partial_fit(X[rows])
        >>> mixture.n_samples_seen_, mixture.n_iter_
        (20000, 20)
        >>> bool(mixture.score(X) > EMGaussianMixture(2, random_state=0).fit(X).score(X) - 0.01)
        True
        """
        structure = self._check_parameters()
        with fitting(self) as draft:
            in_region(lambda _: draft._take(structure, X, sample_weight))
        return self

    def fit_predict(
        self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> IntArray:
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

    @with_callbacks
    def _fit(
        self, structure: type[Covariance], X: Any, y: Any, sample_weight: Any
    ) -> tuple[Result[State], list[str]]:
        """Fit the mixture, of valid parameters; what there is to doubt, too."""
        warm = self.warm_start and hasattr(self, "means_")
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        table, extent, summary = self._read(structure, X, sample_weight)
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

    def _take(self, structure: type[Covariance], X: Any, sample_weight: Any) -> None:
        """Take a step on a batch."""
        going_on = hasattr(self, "means_")
        n_min = 1 if going_on else 2
        X = check_rows(self, X, numeric=True, reset=not going_on, n_min=n_min)
        rows = Rows.of(X, check_weights(sample_weight, X))
        self._set(**step_on_batch(self, structure, rows))

    def _read(
        self, structure: type[Covariance], X: Any, sample_weight: Any
    ) -> tuple[Table, Extent, Summary]:
        """Valid rows in a frame of their own, and what they are like."""
        table = read(self, X, sample_weight)
        extent = check_extent(table, getattr(self, "feature_names_in_", None))
        check_enough(extent, self.n_components)
        weight_unit = power_of_two(np.asarray(extent.heaviest))
        table = table.framed(table.frame, float(weight_unit))
        summary = Summary.of(table, extent)
        check_range(summary)
        frame = Frame(summary.mean, structure.units(summary.scale))
        return table.framed(frame), extent, summary

    def _history(self) -> Any:
        """The bounds that a warm start continues; those of batches are of other rows."""
        ongoing = getattr(self, "status_", None) == Status.ONGOING
        return () if ongoing else getattr(self, "lower_bounds_", ())

    # Parameters.

    def _check_parameters(self) -> type[Covariance]:
        check_parameters(self, _RULES)
        if not callable(self.init_params) and np.ndim(self.init_params) not in (1, 2):
            check_choice("init_params", self.init_params, METHODS)
        return STRUCTURES[self.covariance_type].with_factors(self.n_factors)
