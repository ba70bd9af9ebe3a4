"""``TransformedDensity``: a density behind a transformer, in the units before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from skemvae.base import DensityEstimator, unchanged_if_refused, weighted_sum
from skemvae.bijections import Bijection, bijection_of
from skemvae.bijections.base import check_known, rows_where
from skemvae.bijections.function import differentiate
from skemvae.callbacks import fit_part, with_callbacks
from skemvae.core.decomposition import BoundDecomposition
from skemvae.truncation import draw_within, log_mass_within
from skemvae.validation import check_weights

# A row comes back from its transform if it moves by less than this share of its distance from the
# mean, or of the mean distance. Tables are rounded as coarsely, and densities bear that.
_ROUNDING = 0.05
# Some rows may be so extreme that their transforms are rounded to the edge of the image.
_MOST_LOST = 0.1


def _density_has(name: str) -> Callable[[Any], bool]:
    """Whether the density within has a method; raises its AttributeError if not."""

    def check(estimator: Any) -> bool:
        getattr(getattr(estimator, "estimator_", estimator.estimator), name)
        return True

    return check


def _check_one_to_one(bijection: Bijection, X: Any, Y: Any, log_abs_det: Any) -> None:
    """Raise ValueError unless training rows have transforms that tell them apart."""
    for i in np.flatnonzero(log_abs_det == -np.inf):
        raise ValueError(
            f"Row {i} of X is not in the domain of {bijection.transformer}: its density would be "
            "0 whatever the fit. Leave it out, or choose another transformer."
        )
    if np.shape(Y) != np.shape(X):
        raise ValueError(
            f"{bijection.transformer} turns rows of shape {np.shape(X)} into {np.shape(Y)}, which "
            "has no density: a bijection keeps rows and columns."
        )
    rows = np.asarray(X)
    if not bijection.has_inverse or rows.dtype.kind == "O":  # labels cannot be subtracted
        return
    rows = rows.astype(np.float64)
    spread = np.abs(rows - rows.mean(axis=0)).mean(axis=0)
    again, inside = bijection.inverse(np.asarray(Y))
    error, unit = np.abs(again - rows[inside]), spread + np.abs(rows[inside] - rows.mean(axis=0))
    returned = int((error <= _ROUNDING * unit + 1e-9 * np.abs(again)).all(axis=1).sum())
    if returned < (1 - _MOST_LOST) * len(inside):
        raise ValueError(
            f"{bijection.transformer} is not one-to-one in float64: {len(inside) - returned} of "
            f"{len(inside)} rows do not come back from it. Scale X before it, in a Pipeline, or "
            "choose another transformer."
        )


class TransformedDensity(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityEstimator):
    """A density behind a transformer, with scores and samples in the units before it.

    Fits the transformer T, then a density p_Y to the transformed rows, and
    reports the density that this means for X itself,

        log p(x) = log p_Y(T(x)) + log |det dT/dx| - log mass,

    where ``mass`` is what p_Y has in the image of T. So densities behind
    different transformers are on one scale, and a search over transformers
    compares what it should. In a ``Pipeline`` the last two terms are missing.

    Parameters
    ----------
    transformer : transformer, "passthrough" or None
        One-to-one: StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler,
        PowerTransformer, PCA that keeps all components, FunctionTransformer
        with ``log_abs_det``, Pipelines and ColumnTransformers of these, and
        what has been entered in ``skemvae.bijections``. "passthrough" and
        None leave X as it is.
    estimator : estimator
        A density: anything with ``fit`` and ``score_samples``, of this
        library, of scikit-learn or your own. A transformer whose image is not
        all of space also needs its ``sample``.
    log_abs_det : callable or dict, default=None
        For a FunctionTransformer: maps its rows, of shape (n, d), to
        log |det| of shape (n,); -inf where the function is not defined. A
        dict has one for each ``func``, where there are several.

    Attributes
    ----------
    transformer_ : transformer
        Fitted.
    estimator_ : estimator
        The density, fitted to the transformed rows.
    bijection_ : skemvae.bijections.Bijection
        How ``transformer_`` changes volumes, its image and the way back.
    log_mass_ : float
        Log of the mass that ``estimator_`` has in the image of
        ``transformer_``, in nats: 0 if the image is all of space, else
        estimated from 131,072 draws, the same in each fit.
    log_mass_std_ : float
        Its standard error, which all scores have in common.
    n_parameters_ : int
        Free parameters of the density, and the powers of PowerTransformers.
        Shifts, scales and rotations do not count: a density has its own. Only
        if ``estimator_`` has it.
    n_features_in_ : int
    feature_names_in_ : ndarray
        Only if X has string column names.

    See Also
    --------
    sklearn.compose.TransformedTargetRegressor : The like, for targets.

    Notes
    -----
    The density is fitted to transformed rows as if the image were all of
    space, and cut off at its edge afterwards.

    References
    ----------
    Papamakarios, Nalisnick, Rezende, Mohamed and Lakshminarayanan (2021),
    "Normalizing flows for probabilistic modeling and inference", section 2.

    Examples
    --------
    Euros and cents: a change of units moves a log density by log 100, whatever
    the scaler. Behind a logarithm the density is that of x, not of log x.

    >>> import numpy as np
    >>> from sklearn.preprocessing import PowerTransformer, StandardScaler
    >>> from skemvae import EMGaussianMixture, TransformedDensity
    >>> prices = np.random.RandomState(0).lognormal(3, 1, (1000, 1))
    >>> scaled = TransformedDensity(StandardScaler(), EMGaussianMixture()).fit(prices)
    >>> round(scaled.score(prices), 3)
    -5.042
    >>> round(EMGaussianMixture().fit(prices).score(prices), 3)
    -5.042
    >>> power = TransformedDensity(PowerTransformer("box-cox"), EMGaussianMixture()).fit(prices)
    >>> round(power.score(prices), 3)
    -4.361
    >>> X, components = power.sample(3, random_state=0)
    >>> bool((X > 0).all())
    True
    """

    def __init__(self, transformer: Any, estimator: Any, *, log_abs_det: Any = None):
        self.transformer = transformer
        self.estimator = estimator
        self.log_abs_det = log_abs_det

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the transformer, then the density to the transformed rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows. A frame is passed on as it is.
        y : array-like of shape (n_samples,), default=None
            Passed on to both; densities ignore it.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts. The density must take weights; a
            transformer that does not sees each row of positive weight once.

        Returns
        -------
        self
            Fitted.

        Raises
        ------
        ValueError
            If the transformer, or a part of it, has no density, if all mass
            lies outside of its image, or if the transformer or the estimator
            refuses the rows.
        TypeError
            If the estimator is no density.
        """
        self._check_parameters(sample_weight)
        context = self._init_callback_context(max_subtasks=2)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        with unchanged_if_refused(self):
            rows, y, weight = self._counting(self._rows(X, reset=True), y, sample_weight)
            identity = self.transformer is None or isinstance(self.transformer, str)
            transformer = FunctionTransformer() if identity else clone(self.transformer)
            takes_weight = weight is not None and has_fit_parameter(transformer, "sample_weight")
            with fit_part(context, "fit-transformer", self, transformer, rows, y):
                transformer.fit(rows, y, **({"sample_weight": weight} if takes_weight else {}))
            bijection = bijection_of(transformer)
            differentiate(bijection, self.log_abs_det)
            transformed, log_abs_det = bijection.forward(rows)
            _check_one_to_one(bijection, rows, transformed, log_abs_det)
            density = clone(self.estimator)
            with fit_part(context, "fit-density", self, density, transformed, y):
                weights = {} if weight is None else {"sample_weight": weight}
                density.fit(transformed, y, **weights)
            self.log_mass_, self.log_mass_std_ = log_mass_within(bijection, density)
            self.transformer_, self.estimator_, self.bijection_ = transformer, density, bijection
            if hasattr(density, "n_parameters_"):
                self.n_parameters_ = density.n_parameters_ + bijection.n_parameters
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    # Densities.

    def score_samples(self, X: Any, return_std: bool = False) -> Any:
        """Log density log p(x) of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        return_std : bool, default=False
            Whether to return the standard errors of the density's scores,
            too. Only for densities that have them.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Nats, in the units of X; -inf where the transformer is not
            defined, such as at x <= 0 for Box-Cox: no such x can occur.
        std : ndarray of shape (n_samples,)
            Standard errors. Only if ``return_std``.
        """
        return self._log_density("score_samples", X, return_std)

    @available_if(_density_has("elbo"))
    def elbo(self, X: Any, return_std: bool = False) -> Any:
        """Evidence lower bound of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        return_std : bool, default=False
            Whether to return standard errors, too. Only for densities that
            have them.

        Returns
        -------
        elbo : ndarray of shape (n_samples,)
            Nats, in the units of X: as far below ``score_samples`` as that of
            the density is.
        std : ndarray of shape (n_samples,)
            Standard errors. Only if ``return_std``.
        """
        return self._log_density("elbo", X, return_std)

    @available_if(_density_has("decompose_bound"))
    def decompose_bound(self, X: Any) -> BoundDecomposition:
        """Explain the bound of each row: what z explains, what q costs, what is lost.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to explain.

        Returns
        -------
        BoundDecomposition
            That of the density, with likelihoods in the units of X.
        """
        transformed, log_volume = self._within(X)
        parts: BoundDecomposition = self.estimator_.decompose_bound(transformed)
        return replace(
            parts,
            log_likelihood=parts.log_likelihood + log_volume,
            elbo=parts.elbo + log_volume,
        )

    @available_if(_density_has("aic"))
    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Akaike's information criterion; the lower, the better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows that the density was fitted to.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        float
            Minus twice the total log likelihood in nats, plus twice the
            number of free parameters, powers of the transformer included.
        """
        return self._criterion("aic", X, sample_weight, lambda n: 2)

    @available_if(_density_has("bic"))
    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Bayesian information criterion; the lower, the better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows that the density was fitted to.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        float
            Minus twice the total log likelihood in nats, plus log n for each
            free parameter, powers of the transformer included.
        """
        return self._criterion("bic", X, sample_weight, math.log)

    # What the density says of transformed rows.

    @available_if(_density_has("predict"))
    def predict(self, X: Any) -> Any:
        """Predict of the density, such as the most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to assign.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``estimator_.predict`` of the transformed rows.
        """
        transformed, _ = self._within(X)
        return self.estimator_.predict(transformed)

    @available_if(_density_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the density's components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to assign.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            ``estimator_.predict_proba`` of the transformed rows.
        """
        transformed, _ = self._within(X)
        return self.estimator_.predict_proba(transformed)

    def transform(self, X: Any) -> Any:
        """What the density knows of the latent z of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to transform.

        Returns
        -------
        ndarray of shape (n_samples, n_latent)
            ``estimator_.transform`` of the transformed rows.
        """
        transformed, _ = self._within(X)
        return self.estimator_.transform(transformed)

    @available_if(_density_has("sample"))
    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[Any, Any]:
        """Draw rows in the units of X.

        Parameters
        ----------
        n_samples : int, default=1
            How many rows, at least 1.
        random_state : int, RandomState instance or None, default=None
            None uses the density's own ``random_state``, if it has one: an
            integer there repeats the same draws at every call.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Draws of the density, transformed back; those outside of the image
            of the transformer are drawn again.
        Z : ndarray of shape (n_samples, ...) or None
            What the density returns with its draws: components, or points z.

        Raises
        ------
        ValueError
            If a FunctionTransformer has no ``inverse_func``, or the density's
            draws keep outside of the image.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        own = getattr(self.estimator_, "random_state", None)
        rng = check_random_state(own if random_state is None else random_state)
        mass = math.exp(self.log_mass_)
        return draw_within(self.bijection_, self.estimator_, n_samples, mass, rng)

    # Behind all of these.

    @property
    def _n_features_out(self) -> int:
        return len(self.estimator_.get_feature_names_out())

    def _log_density(self, method: str, X: Any, return_std: bool) -> Any:
        """A log density of ``estimator_`` in the units of X, and its standard error."""
        X = self._rows(X)
        transformed, log_abs_det = self.bijection_.forward(X)
        inside = log_abs_det != -np.inf
        value, std = np.empty(0), np.empty(0)
        if inside.any():
            answer = getattr(self.estimator_, method)
            value = answer(transformed, return_std=True) if return_std else answer(transformed)
            value, std = value if return_std else (value, np.zeros_like(value))
        log_density = np.full(len(inside), -np.inf, dtype=value.dtype)
        log_density[inside] = value + log_abs_det[inside] - self.log_mass_
        if not return_std:
            return log_density
        error = np.zeros(len(inside), dtype=std.dtype)
        error[inside] = std
        return log_density, error

    def _within(self, X: Any) -> tuple[Any, Any]:
        """Transformed rows and their log volumes, where all rows lie in the domain."""
        X = self._rows(X)
        transformed, log_abs_det = self.bijection_.forward(X)
        for i in np.flatnonzero(log_abs_det == -np.inf):
            raise ValueError(
                f"Row {i} of X is not in the domain of {self.transformer_}: its density is 0, and "
                "nothing else is known of it. Leave it out."
            )
        return transformed, log_abs_det - self.log_mass_

    def _criterion(
        self, name: str, X: Any, sample_weight: Any, price: Callable[[float], float]
    ) -> float:
        """A criterion of ``estimator_`` in the units of X; ``price`` is that of a parameter."""
        transformed, log_volume = self._within(X)
        weight = check_weights(sample_weight, log_volume)
        n = len(log_volume) if weight is None else float(weight.sum())
        weights = {} if weight is None else {"sample_weight": weight}
        criterion = getattr(self.estimator_, name)(transformed, **weights)
        gain = 2 * weighted_sum(log_volume, weight) - price(n) * self.bijection_.n_parameters
        return float(criterion - gain)

    def _rows(self, X: Any, *, reset: bool = False) -> Any:
        """Valid rows: numbers, or a frame as it is, for a ColumnTransformer may ask for names."""
        if not reset:
            check_is_fitted(self)
        is_frame = hasattr(X, "columns")
        rows = validate_data(self, X, dtype=None if is_frame else "numeric", reset=reset)
        return X if is_frame else rows

    def _counting(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        """The rows of positive weight, their targets and weights."""
        weight = check_weights(sample_weight, X)
        if weight is None:
            return X, y, None
        counts = weight > 0
        y = None if y is None else rows_where(y, counts)
        return rows_where(X, counts), y, weight[counts]

    def _check_parameters(self, sample_weight: Any) -> None:
        if not (self.transformer is None or self.transformer == "passthrough"):
            if not hasattr(self.transformer, "fit"):
                raise TypeError(
                    f"transformer={self.transformer!r} is no transformer: give one, such as "
                    "StandardScaler(), or 'passthrough'."
                )
            check_known(self.transformer)
        name = type(self.estimator).__name__
        for method in ("fit", "score_samples"):
            if not hasattr(self.estimator, method):
                raise TypeError(
                    f"estimator={self.estimator!r} has no {method}: give a density, such as "
                    "EMGaussianMixture()."
                )
        if sample_weight is not None and not has_fit_parameter(self.estimator, "sample_weight"):
            raise ValueError(f"{name}.fit takes no sample_weight: leave it out, or repeat rows.")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if not hasattr(self, "transform"):
            tags.transformer_tags = None
        return tags


# Where the density does not transform, this must not, either. scikit-learn wraps ``transform`` for
# ``set_output`` when the class is made, and would drop the condition if it stood in the class.
for _name in ("transform", "fit_transform", "get_feature_names_out"):
    _method = available_if(_density_has("transform"))(getattr(TransformedDensity, _name))
    setattr(TransformedDensity, _name, _method)
