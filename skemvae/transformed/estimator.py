"""``TransformedDensity``: a density behind a transformer, in the units before it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import has_fit_parameter

from skemvae.bijections import bijection_of
from skemvae.bijections.base import check_known, rows_where
from skemvae.bijections.elementary import ELEMENTARY
from skemvae.bijections.function import differentiate
from skemvae.bijections.in_place import InPlace
from skemvae.bijections.one_to_one import check_one_to_one
from skemvae.callbacks import fit_part, with_callbacks
from skemvae.fitting import fitting
from skemvae.tables.numbers import naming_columns
from skemvae.transformed.answers import DensityInOriginalUnits
from skemvae.transformed.truncation import log_mass_within
from skemvae.typing import ArrayLike, Columns, LogAbsDet, MatrixLike
from skemvae.validation import check_choice, check_weights, keywords_named, shown


class TransformedDensity(DensityInOriginalUnits):
    """A density behind a transformer, with scores and samples in the units before it.

    Fits the transformer T, then a density p_Y to the transformed rows, and
    returns the resulting density of X itself,

        ``log p(x) = log p_Y(T(x)) + log |det dT/dx| - log mass``,

    where ``mass`` is the mass of p_Y in the image of T. Densities behind
    different transformers are therefore on one scale, so a search can compare
    transformers. A ``Pipeline`` leaves out the last two terms.

    Parameters
    ----------
    transformer : str, transformer or None
        "log", "log1p", "sqrt", "logit" or "arcsinh" of each value; or a
        one-to-one transformer: StandardScaler, MinMaxScaler, MaxAbsScaler,
        RobustScaler, PowerTransformer, PCA that keeps all components,
        FunctionTransformer with ``log_abs_det``, Pipelines and
        ColumnTransformers of these, and any transformer registered in
        ``skemvae.bijections``. "passthrough" and None leave X unchanged.
    estimator : estimator
        A density with ``fit`` and ``score_samples``, from this library, from
        scikit-learn or your own. If the image of the transformer is not all of
        R^d, it also needs ``sample``.
    columns : names, positions, mask, slice or callable, default=None
        Columns to transform, as in ``ColumnTransformer``. The others stay
        unchanged, and all keep their order. None means all columns.
    log_abs_det : callable or dict, default=None
        For a FunctionTransformer of a function of your own: maps its rows, of
        shape (n, d), to ``log |det|`` of shape (n,); -inf where the function
        is not defined. For several functions, a dict with one callable for
        each ``func``. The functions named above do not need it.

    Attributes
    ----------
    transformer_ : transformer
        Fitted.
    estimator_ : estimator
        The density, fitted to the transformed rows.
    bijection_ : skemvae.bijections.Bijection
        The log determinant, image and inverse of ``transformer_``.
    log_mass_ : float
        Log of the mass that ``estimator_`` has in the image of
        ``transformer_``, in nats: 0 if the image is all of R^d, otherwise
        estimated from 131,072 draws, the same in each fit.
    log_mass_std_ : float
        Standard error of ``log_mass_``, which all scores share.
    n_parameters_ : int
        Number of free parameters of the density, plus the powers of
        PowerTransformers. Shifts, scales and rotations do not count, because
        the density has its own. Only if ``estimator_`` has it.
    n_features_in_ : int
    feature_names_in_ : ndarray
        Only if X has string column names.

    See Also
    --------
    sklearn.compose.TransformedTargetRegressor : The same idea for targets.

    Notes
    -----
    The density is fitted to transformed rows as if the image were all of R^d,
    and truncated to the image afterwards.

    References
    ----------
    Papamakarios, Nalisnick, Rezende, Mohamed and Lakshminarayanan (2021),
    "Normalizing flows for probabilistic modeling and inference", section 2.

    Examples
    --------
    Scalers do not change the units of the scores: they stay those of X. Behind
    a power transformation, the density is that of x, not of its power.

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

    Take logarithms of one column only: its draws are positive.

    >>> table = np.c_[prices, np.random.RandomState(1).normal(size=1000)]
    >>> amounts = TransformedDensity("log", EMGaussianMixture(), columns=[0]).fit(table)
    >>> round(amounts.score(table), 3)
    -5.76
    >>> X, components = amounts.sample(1000, random_state=0)
    >>> bool((X[:, 0] > 0).all())
    True
    """

    @keywords_named
    def __init__(
        self,
        transformer: BaseEstimator | str,
        estimator: BaseEstimator,
        *,
        columns: Columns | None = None,
        log_abs_det: LogAbsDet | None = None,
    ):
        self.transformer = transformer
        self.estimator = estimator
        self.columns = columns
        self.log_abs_det = log_abs_det

    def fit(self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the transformer, then the density to the transformed rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows. A frame is passed on unchanged.
        y : array-like of shape (n_samples,), default=None
            Passed on to both; densities ignore it.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts. The density must accept weights; a
            transformer without weights sees each row of positive weight once.

        Returns
        -------
        self
            Fitted.

        Raises
        ------
        ValueError
            If the transformer, or a part of it, has no density, if all mass
            lies outside its image, or if the transformer or the estimator
            rejects the rows.
        TypeError
            If the estimator is not a density.
        """
        self._check_parameters(sample_weight)
        with fitting(self) as draft:
            draft._fit(X, y, sample_weight)
        return self

    @with_callbacks
    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        """Fit both; the parameters are valid."""
        context = self._init_callback_context(max_subtasks=2)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        rows, targets, weight = self._counting(self._rows(X, reset=True), y, sample_weight)
        transformer = self._new_transformer()
        takes_weight = weight is not None and has_fit_parameter(transformer, "sample_weight")
        with fit_part(context, "fit-transformer", self, transformer, rows, targets):
            self._fit_transformer(transformer, rows, targets, weight if takes_weight else None)
        bijection = bijection_of(transformer)
        differentiate(bijection, self.log_abs_det)
        transformed, log_abs_det = bijection.forward(rows)
        self._check_domain(bijection, rows, log_abs_det, "would be 0 whatever the fit")
        check_one_to_one(bijection, rows, transformed)
        density = clone(self.estimator)
        with fit_part(context, "fit-density", self, density, transformed, targets):
            weights = {} if weight is None else {"sample_weight": weight}
            density.fit(transformed, targets, **weights)
        self.log_mass_, self.log_mass_std_ = log_mass_within(bijection, density)
        self.transformer_, self.estimator_, self.bijection_ = transformer, density, bijection
        self._mean_log_slopes = None
        if bijection.acts_by_column:
            log_slopes = bijection.by_columns(rows)[1]
            self._mean_log_slopes = np.average(log_slopes, axis=0, weights=weight)
        if hasattr(density, "n_parameters_"):
            self.n_parameters_ = density.n_parameters_ + bijection.n_parameters
        elif hasattr(self, "n_parameters_"):  # of an earlier density
            del self.n_parameters_
        context.call_on_fit_task_end(estimator=self, X=X, y=y)

    def _fit_transformer(self, transformer: Any, X: Any, y: Any, weight: Any) -> None:
        # A ColumnTransformer may pass on columns of labels to a density that takes them.
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

    def _new_transformer(self) -> Any:
        if self.transformer is None or self.transformer == "passthrough":
            return FunctionTransformer()
        if isinstance(self.transformer, str):
            transformer = ELEMENTARY[self.transformer].transformer()
        else:
            transformer = clone(self.transformer)
        return transformer if self.columns is None else InPlace(transformer, self.columns)

    def _check_parameters(self, sample_weight: Any) -> None:
        if isinstance(self.transformer, str):
            check_choice("transformer", self.transformer, {*ELEMENTARY, "passthrough"})
        elif self.transformer is not None:
            if not hasattr(self.transformer, "fit"):
                raise TypeError(
                    f"transformer={self.transformer!r} is no transformer: give one, such as "
                    f"StandardScaler(), or one of {sorted(ELEMENTARY)}, 'passthrough', None."
                )
            check_known(self.transformer)
        if not (self.log_abs_det is None or callable(self.log_abs_det)) and not isinstance(
            self.log_abs_det, Mapping
        ):
            raise TypeError(
                f"log_abs_det={shown(self.log_abs_det)} must be None, a callable, or a dict of "
                "callables."
            )
        name = type(self.estimator).__name__
        for method in ("fit", "score_samples"):
            if not hasattr(self.estimator, method):
                raise TypeError(
                    f"estimator={self.estimator!r} has no {method}: give a density, such as "
                    "EMGaussianMixture()."
                )
        if sample_weight is not None and not has_fit_parameter(self.estimator, "sample_weight"):
            raise ValueError(f"{name}.fit takes no sample_weight: leave it out, or repeat rows.")
