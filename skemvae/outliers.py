"""``DensityOutlierDetector``: a threshold for any density, and why a row lies below it."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils import _safe_indexing, check_scalar, indexable
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skemvae.array_api import as_numpy, in_kind
from skemvae.base import DensityEstimator, fitting, scores_of
from skemvae.core.arrays import quietly
from skemvae.em_gaussian_mixture import EMGaussianMixture
from skemvae.tables.frames import as_set
from skemvae.tables.numbers import check_is_table
from skemvae.thresholds import Occurrences, lower_tail
from skemvae.typing import ArrayLike, FloatArray, IntArray, MatrixLike, Scores, Splits, Tabular
from skemvae.validation import check_splits, check_weights, keywords_named, shown

# Steps that shift and stretch each column by itself: they leave feature scores as they are.
_COLUMNWISE = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)


class DensityOutlierDetector(OutlierMixin, BaseEstimator):
    """Flag rows whose log density is below a threshold.

    A row is an outlier if its log density is lower than that of nearly all
    rows that the density has not been fitted to. Works around every estimator
    with ``score_samples``: those of skemvae, scikit-learn's ``GaussianMixture``
    and ``KernelDensity``, a ``Pipeline`` that ends in one.

    Parameters
    ----------
    estimator : estimator, default=None
        A density, with ``fit`` and ``score_samples``. None means
        ``EMGaussianMixture()``.
    contamination : "auto" or float, default="auto"
        - "auto": the threshold lets through all but ``false_alarm_rate`` of the
          training rows, scored as new rows will be: those that recur by the
          fit to all rows, all others by a fit that has not seen them. Such a
          rate holds for new rows like the training rows. A threshold from the
          scores of rows on their own fit does not: they are too high.
        - float in (0, 0.5]: this share of the training rows is flagged, by
          the scores of the fit to all of them; scikit-learn's meaning, for
          tables in which the outliers are to be found.
    false_alarm_rate : float, default=0.05
        For "auto": the share of new rows, like the training rows, to be
        flagged, at most and on average. Where many rows are equal, all or none
        of them are flagged, and the share may be smaller. Outliers among the
        training rows use it up, so that fewer of the others are flagged. With
        fewer than 1 / ``false_alarm_rate`` rows the threshold is the lowest
        held-out score.
    cv : int, splitter or iterable of (training, held_out), default=5
        For "auto": number of folds, a splitter such as ``TimeSeriesSplit``, or
        positions of rows. Folds of a number are made of the distinct rows: the
        few copies of a row share a fold, so that none is scored by a fit to
        its copy. A row that recurs (a sensor that idles, an empty basket)
        will come again, and is scored by the fit to all rows: one that is
        repeated more than twice as often as 95 % of the distinct rows, or
        more than twice where these occur more than three times on average.
        Costs as many fits again.

    Attributes
    ----------
    estimator_ : estimator
        Fitted to all rows.
    offset_ : float
        The threshold: a log density in nats, in the units of X, or of the last
        step of a Pipeline.
    n_features_in_ : int
    feature_names_in_ : ndarray
        As far as ``estimator_`` has them.

    References
    ----------
    Bishop (1994), "Novelty detection and neural network validation"; Barber,
    Candès, Ramdas and Tibshirani (2021), "Predictive inference with the
    jackknife+", on held-out scores of cross-validation.

    Examples
    --------
    >>> import numpy as np
    >>> from skemvae import DensityOutlierDetector, EMGaussianMixture
    >>> rng = np.random.RandomState(0)
    >>> X = rng.normal(size=(1000, 2)) @ [[1.0, 0.9], [0.0, 0.4]]
    >>> detector = DensityOutlierDetector(EMGaussianMixture(), false_alarm_rate=0.01).fit(X)
    >>> odd = [[2.0, -2.0], [2.0, 2.0]]  # each value by itself is no surprise
    >>> detector.predict(odd)
    array([-1,  1])
    >>> detector.feature_scores(odd) > 5
    array([[ True,  True],
           [False, False]])
    """

    @keywords_named
    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        contamination: float | str = "auto",
        false_alarm_rate: float = 0.05,
        cv: Splits = 5,
    ):
        self.estimator = estimator
        self.contamination = contamination
        self.false_alarm_rate = false_alarm_rate
        self.cv = cv

    def fit(self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the density, and find the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, of any kind that the density takes.
        y : Ignored
            Present for the API only.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts, for the density (of a Pipeline, for its
            last step) and for the threshold.

        Returns
        -------
        self
            Fitted.

        Raises
        ------
        ValueError
            If a parameter is out of range, if there is a ``sample_weight`` that
            the density does not take, or what the density raises.
        TypeError
            If the density has no ``score_samples``.
        """
        self._check_parameters()
        check_is_table(X)
        with fitting(self) as draft:
            draft._fit(as_numpy(X), as_numpy(sample_weight))
        return self

    def _fit(self, X: Any, sample_weight: Any) -> None:
        """Fit the density and the threshold, with valid parameters."""
        fitted = self._fit_density(X, sample_weight)
        if self.contamination != "auto":
            scores = fitted.score_samples(X)
            weight = check_weights(sample_weight, scores)
            self.offset_ = lower_tail(scores, weight, float(self.contamination))
        elif isinstance(self.cv, Integral):
            self.offset_ = self._threshold_for_new_rows(fitted, X, sample_weight, int(self.cv))
        else:
            scores, weight = self._scores_of_splits(X, sample_weight)
            one_more = 1.0 if weight is None else weight.mean()
            self.offset_ = lower_tail(scores, weight, self.false_alarm_rate, one_more)
        self.estimator_ = fitted
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(fitted, name):
                setattr(self, name, getattr(fitted, name))
            elif hasattr(self, name):
                delattr(self, name)

    @in_kind
    def score_samples(self, X: MatrixLike, return_std: bool = False) -> Scores:
        """Log density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        return_std : bool, default=False
            Whether to return standard errors, too; zeros where the density
            has none.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            ``estimator_.score_samples(X)``, nats: the lower, the more anomalous.
        std : ndarray of shape (n_samples,)
            Standard errors. Only if ``return_std``.
        """
        check_is_fitted(self)
        return scores_of(self.estimator_, X, return_std)

    @in_kind
    def decision_function(self, X: MatrixLike) -> FloatArray:
        """How far the log density of each row is above the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to judge.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``, nats: negative for outliers.
        """
        scores = self.score_samples(X)
        above = quietly(np.subtract, scores, self.offset_)
        # Densities of 0 are no outliers where most training rows have them, too.
        return np.where(np.isneginf(scores) & np.isneginf(self.offset_), 0.0, above)

    @in_kind
    def predict(self, X: MatrixLike) -> IntArray:
        """Whether each row is an outlier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to judge.

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for outliers, 1 for all others.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def _can_explain(self) -> bool:
        is_fitted = hasattr(self, "estimator_")
        _density_behind_scalers(self.estimator_ if is_fitted else self._chosen_density())
        return True

    @available_if(_can_explain)
    @in_kind
    def feature_scores(self, X: MatrixLike) -> Tabular:
        """How surprising each value of a row is, given all its other values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to explain.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or a frame
            ``-log p(x_j | x_-j)``, less its mean over the training rows, in nats; of
            an estimator of skemvae, also behind scalers in a Pipeline, or behind a
            transformer of each column alone in a ``TransformedDensity``. The
            detector transforms nothing, so it has no ``set_output``: it returns
            what the one of ``estimator`` asks for.

        See Also
        --------
        EMGaussianMixture.feature_scores : What they mean.
        """
        check_is_fitted(self)
        density = _density_behind_scalers(self.estimator_)
        scaled = X
        if density is not self.estimator_ and len(self.estimator_) > 1:
            scaled = self.estimator_[:-1].transform(X)
        return as_set(density, np.asarray(density.feature_scores(scaled)), self, X)

    # Behind these.

    def _check_parameters(self) -> None:
        if isinstance(self.contamination, str):
            if self.contamination != "auto":
                raise ValueError(
                    f"contamination={shown(self.contamination)} must be 'auto' or a number in "
                    "(0, 0.5]."
                )
        else:
            check_scalar(
                self.contamination,
                "contamination",
                Real,
                min_val=0,
                max_val=0.5,
                include_boundaries="right",
            )
        check_scalar(
            self.false_alarm_rate,
            "false_alarm_rate",
            Real,
            min_val=0,
            max_val=0.5,
            include_boundaries="right",
        )
        for name in ("contamination", "false_alarm_rate"):
            value = getattr(self, name)
            if value != value:
                raise ValueError(f"{name}={value} must be a number in (0, 0.5].")
        if isinstance(self.cv, Integral):
            check_scalar(self.cv, "cv", Integral, min_val=2)

    def _chosen_density(self) -> Any:
        return EMGaussianMixture() if self.estimator is None else self.estimator

    def _fit_density(self, X: Any, weight: Any) -> Any:
        density = clone(self._chosen_density())
        if not hasattr(density, "score_samples"):
            raise TypeError(
                f"estimator={density!r} has no score_samples: a density is needed, such as "
                "EMGaussianMixture()."
            )
        if weight is None:
            return density.fit(X)
        last, prefix = density, ""
        if isinstance(density, Pipeline):
            name, last = density.steps[-1]
            prefix = f"{name}__"
        if not has_fit_parameter(last, "sample_weight"):
            raise ValueError(f"sample_weight is given, but {last!r} takes none: leave it out.")
        return density.fit(X, **{f"{prefix}sample_weight": weight})

    def _threshold_for_new_rows(
        self, fitted: Any, X: Any, sample_weight: Any, n_folds: int
    ) -> float:
        """From rows that recur, as ``fitted`` scores them, and from all others, held out."""
        (X,) = indexable(X)
        weight = check_weights(sample_weight, np.empty(np.shape(X)[:1]))
        table = Occurrences.of(X, weight)
        first, recurs = table.first, table.recurs
        if len(first) < 3 and not recurs.any():
            raise ValueError(
                f"X has n_samples={len(table.rows)} rows, of which {len(first)} are distinct: too "
                "few to hold some out. Set contamination to a number."
            )
        scores = np.full(len(first), -np.inf)
        if recurs.any():
            scores[recurs] = fitted.score_samples(_safe_indexing(X, first[recurs]))
        for rows, share, held_out in table.folds(n_folds):
            if len(first) - len(held_out) < 2:
                continue  # where all rows are equal, every other one is impossible
            if weight is None:
                part = self._fit_density(_safe_indexing(X, table.thinned(rows, share)), None)
            else:
                part = self._fit_density(_safe_indexing(X, rows), weight[rows] * share)
            scores[held_out] = part.score_samples(_safe_indexing(X, first[held_out]))
        one_more = np.where(recurs, 0.0, table.unit)
        return lower_tail(scores, table.weight, self.false_alarm_rate, one_more)

    def _scores_of_splits(self, X: Any, sample_weight: Any) -> tuple[Any, Any]:
        """Scores of rows by fits that have not seen them, and their weights or None."""
        (X,) = indexable(X)
        weight = check_weights(sample_weight, np.empty(np.shape(X)[:1]))
        scores, held_outs = [], []
        for training, held_out in check_splits(self.cv, X):
            fitted = self._fit_density(
                _safe_indexing(X, training), None if weight is None else weight[training]
            )
            scores.append(fitted.score_samples(_safe_indexing(X, held_out)))
            held_outs.append(held_out)
        return np.concatenate(scores), None if weight is None else weight[np.concatenate(held_outs)]


def _density_behind_scalers(estimator: Any) -> Any:
    """The estimator that explains rows: itself, or the last step of a Pipeline."""
    steps: list[Any] = []
    if isinstance(estimator, Pipeline):
        *steps, (_, estimator) = estimator.steps
    for name, step in steps:
        if step is None or step == "passthrough":
            continue
        if type(step) not in _COLUMNWISE or getattr(step, "clip", False):
            raise AttributeError(
                f"feature_scores cannot look through step {name!r}, {step!r}: it sees scalers "
                "that shift and stretch each column by itself, such as StandardScaler."
            )
    try:
        estimator.feature_scores  # noqa: B018
    except AttributeError as error:
        if isinstance(estimator, DensityEstimator):  # it knows itself why
            raise AttributeError(str(error.__cause__ or error)) from None
        raise AttributeError(
            f"{estimator!r} has no feature_scores: choose an estimator of skemvae, such as "
            "EMGaussianMixture."
        ) from None
    return estimator
