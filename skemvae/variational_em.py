"""``VariationalEM``: EM for models with an intractable posterior."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import clone

from skemvae.callbacks import with_callbacks
from skemvae.core.iterate import Fit, Result
from skemvae.doubts import warn_of_doubts
from skemvae.engine.passes.threads import in_region
from skemvae.fitting import best_of_starts, fitting, warn_unless_converged
from skemvae.model_density import ModelDensity
from skemvae.models import MODELS, Model
from skemvae.parameters import (
    check_parameters,
    choice,
    flag,
    integer,
    number,
    optional,
    verbosity,
)
from skemvae.tables.reading import check_rows, read
from skemvae.typing import ArrayLike, MatrixLike, RandomState
from skemvae.validation import check_choice, check_random_state, counting_rows, keywords_named

_RULES = {
    "tol": number(),
    "max_iter": integer(0),
    "n_init": integer(1),
    "acceleration": optional(choice(("auto",))),
    "warm_start": flag,
    "verbose": verbosity,
    "verbose_interval": integer(1),
}


class VariationalEM(ModelDensity):
    """Variational EM for a model p(x, z) of your choice.

    The E step finds the best q in the model's family, and the M step the best
    parameters (or their q, if they have a prior). The bound never falls.

    Parameters
    ----------
    model : Model, str or None, default=None
        An object of ``skemvae.models``, or "bayesian_mixture" or
        "factor_model" for one with default parameters; None means the
        Bayesian Gaussian mixture. In a search, name its parameters as
        ``model__n_components`` and so on.
    tol : float, default=1e-3
        The fit stops when the remaining gain is estimated to be below ``tol``,
        in nats per sample (by Aitken extrapolation, or from the slowest rate
        that the acceleration has seen). 0 runs to ``max_iter``.
    max_iter : int, default=200
        Largest number of iterations of a start. 0 returns the start itself.
    n_init : int, default=1
        Number of starts; the one with the best bound is kept.
    acceleration : {"auto"} or None, default="auto"
        "auto" speeds up slow iterations of the Bayesian mixture and of factor
        models by quasi-Newton extrapolation, as in ``EMGaussianMixture``; the
        bound never falls. Models that you write are not accelerated. None is
        plain variational EM.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the starts, and of ``sample``.
    warm_start : bool, default=False
        Whether ``fit`` continues from the fitted model, if there is one. The
        history ``lower_bounds_`` then continues, provided that the data are
        the same.
    verbose : int or None, default=None
        None shows one line, on a terminal only, if a fit takes more than ten
        seconds; 0 is silent. 1 prints the iterations, 2 also bound, gain and
        time. For a progress bar use scikit-learn's callbacks (from version 1.9
        on).
    verbose_interval : int, default=10
        Number of iterations between prints.

    Attributes
    ----------
    model_ : Model
        The fitted model, with its parameters under their own names.
    lower_bound_ : float
        The bound at the returned parameters, in nats per sample and the units
        of X: the mean of ``elbo`` over the training rows. If the parameters have
        a prior, the bound is lower by their cost divided by the number of rows:
        KL(q || prior) and, if the prior is fitted, the cost of the prior.
    lower_bounds_ : ndarray of shape (n_iter + 1,)
        The bound at the start and after each iteration.
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
    Neal and Hinton (1998), "A view of the EM algorithm that justifies
    incremental, sparse, and other variants".

    Examples
    --------
    >>> import numpy as np
    >>> from skemvae import VariationalEM
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.normal(-5, 1, (200, 1)), rng.normal(5, 1, (200, 1))])
    >>> em = VariationalEM(random_state=0).fit(X)
    >>> em.model_.n_active_components_
    2
    >>> bool(em.lower_bound_ < em.score(X))
    True
    """

    @keywords_named
    def __init__(
        self,
        model: Model | str | None = None,
        *,
        tol: float = 1e-3,
        max_iter: int = 200,
        n_init: int = 1,
        acceleration: str | None = "auto",
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int | None = None,
        verbose_interval: int = 10,
    ):
        self.model = model
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.acceleration = acceleration
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    def set_params(self, **params: object) -> Self:
        """Set parameters; those of the model are called ``model__name``.

        Parameters
        ----------
        **params : dict
            Parameters by name. ``model__name`` replaces a model that is None or a string
            by an object.

        Returns
        -------
        self
            The changed estimator.

        Raises
        ------
        ValueError
            If a parameter does not exist. For one of the model, the message suggests
            ``model__name``.
        """
        own = {name: value for name, value in params.items() if not name.startswith("model__")}
        unknown = own.keys() - self.get_params(deep=False).keys()
        for name in sorted(unknown & self._chosen_model().get_params().keys() if unknown else ()):
            raise ValueError(
                f"Invalid parameter {name!r} for estimator {self!r}: it belongs to its model, so "
                f"set it as 'model__{name}'."
            )
        super().set_params(**own)
        if len(own) < len(params):
            if self.model is None or isinstance(self.model, str):
                self.model = self._chosen_model()
            super().set_params(**{name: params[name] for name in params.keys() - own.keys()})
        return self

    def fit(self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the model by variational EM.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows; a frame or an array of objects if the model takes
            labels that are not numbers. For a Bayesian mixture also rows that
            are not in memory, as in ``EMGaussianMixture``.
        y : Ignored
            Present for the API only.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts: integer weights equal repeated rows.

        Returns
        -------
        self
            The fitted estimator; after Ctrl-C, with the best parameters so far.
            If there are none yet, KeyboardInterrupt is raised.

        Raises
        ------
        ValueError
            If X holds NaN, inf or a value to which the model gives no density,
            or if a parameter is out of range.

        Warns
        -----
        ConvergenceWarning
            If the best start did not converge or was interrupted.
        DoubtfulFitWarning
            For Bayesian mixtures, if columns determine each other linearly, if
            components have collapsed on repeated values, or if there are 5
            components or more and all hold rows, so that there may be too few.
        """
        check_parameters(self, _RULES)
        model = self._chosen_model()
        with fitting(self) as draft:
            result, doubts = in_region(lambda _: draft._fit(model, X, y, sample_weight))
        remedy = "Increase max_iter or tol, try another random_state, or a smaller model."
        warn_unless_converged(result, self.max_iter, remedy)
        warn_of_doubts(doubts)
        return self

    @with_callbacks
    def _fit(
        self, model: Model, X: Any, y: Any, sample_weight: Any
    ) -> tuple[Result[Any], list[str]]:
        """Fit a model, with valid parameters; also return the doubts about it."""
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        rows, weight = self._read(model, X, sample_weight)
        fit, earlier = self._begin(model, rows, weight)
        doubts: list[str] = []

        def look_back(result: Result[Any]) -> None:
            if model.reads_tables:
                self._remember_surprise_of(rows)
            else:
                self._remember_surprise(rows, weight)
            names = getattr(self, "feature_names_in_", range(self.n_features_in_))
            doubts.extend(fit.doubts(result, names))

        result = best_of_starts(
            self,
            fit,
            lambda state: self._parameters(fit.fitted(state)),
            n_init=1 if earlier else self.n_init,
            earlier=earlier,
            told={"X": X, "y": y, "metadata": metadata},
            look_back=look_back,
        )
        return result, doubts

    def _read(self, model: Model, X: Any, sample_weight: Any) -> tuple[Any, Any]:
        """Validated rows in the form that the model reads, and their weights."""
        if model.reads_tables:
            return read(self, X, sample_weight), None
        rows = check_rows(self, X, numeric=model.is_numeric, reset=True)
        return counting_rows(rows, sample_weight)

    def _begin(self, model: Model, rows: Any, weight: Any) -> tuple[Fit, Any]:
        """The fit of a model to these rows, and the bounds of the fit that it continues."""
        names = getattr(self, "feature_names_in_", range(self.n_features_in_))
        rng = check_random_state(self.random_state)
        if not (self.warm_start and hasattr(self, "model_")):
            return model.begin(rows, weight, names, rng, None), ()
        if type(self.model_) is not type(model):
            raise ValueError(
                f"warm_start=True goes on from {self.model_!r}, but model asks for {model!r}: set "
                "warm_start=False."
            )
        return model.begin(rows, weight, names, rng, self.model_), tuple(self.lower_bounds_)

    def _parameters(self, model: Model) -> dict[str, Any]:
        return {"model_": model, "n_parameters_": model.n_parameters_}

    def _chosen_model(self) -> Model:
        """A new unfitted model, as ``model`` asks for it."""
        if self.model is None:
            return MODELS["bayesian_mixture"]()
        if isinstance(self.model, str):
            check_choice("model", self.model, MODELS)
            return MODELS[self.model]()
        if not isinstance(self.model, Model):
            raise TypeError(
                f"model={self.model!r} must be None, one of {sorted(MODELS)}, or an object of "
                "skemvae.models."
            )
        model: Model = clone(self.model)
        return model
