"""``TransformedDensity``: a density behind a transformer, in the units before it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import has_fit_parameter

from skemvae.base import unchanged_if_refused
from skemvae.bijections import Bijection, bijection_of
from skemvae.bijections.base import check_known, rows_where
from skemvae.bijections.function import differentiate
from skemvae.callbacks import fit_part, with_callbacks
from skemvae.original_units import DensityInOriginalUnits
from skemvae.tables.numbers import naming_columns
from skemvae.truncation import log_mass_within
from skemvae.validation import check_weights

# A row comes back from its transform if it moves by less than this share of its distance from the
# mean, or of the mean distance. Tables are rounded as coarsely, and densities bear that.
_ROUNDING = 0.05
# Some rows may be so extreme that their transforms are rounded to the edge of the image.
_MOST_LOST = 0.1


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


class TransformedDensity(DensityInOriginalUnits):
    """A density behind a transformer, with scores and samples in the units before it.

    Fits the transformer T, then a density p_Y to the transformed rows, and
    reports the density that this means for X itself,

        ``log p(x) = log p_Y(T(x)) + log |det dT/dx| - log mass``,

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
        ``log |det|`` of shape (n,); -inf where the function is not defined. A
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
                self._fit_transformer(transformer, rows, y, weight if takes_weight else None)
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

    def _fit_transformer(self, transformer: Any, X: Any, y: Any, weight: Any) -> None:
        # A ColumnTransformer may leave columns without numbers to a density that takes labels.
        by_columns = isinstance(transformer, ColumnTransformer)
        with nullcontext() if by_columns else naming_columns(X):
            transformer.fit(X, y, **({} if weight is None else {"sample_weight": weight}))

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
