"""``DensityOutlierDetector``: outlier detection by a threshold on any log density."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skemvae.array_api import as_numpy, in_kind
from skemvae.base import DensityEstimator, scores_of
from skemvae.core.arrays import quietly
from skemvae.em_gaussian_mixture import EMGaussianMixture
from skemvae.fitting import fitting
from skemvae.parameters import check_parameters, either, integer, number
from skemvae.tables.frames import as_set
from skemvae.tables.numbers import check_is_table
from skemvae.thresholds import Occurrences, lower_tail
from skemvae.typing import ArrayLike, FloatArray, IntArray, MatrixLike, Scores, Splits, Tabular
from skemvae.validation import check_splits, check_weights, keywords_named

# Steps that shift and scale each column separately, which leaves feature scores unchanged.
_COLUMNWISE = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)


_RATE = number(0, 0.5, boundaries="right")
_RULES = {"contamination": either("auto", _RATE), "false_alarm_rate": _RATE}


class DensityOutlierDetector(OutlierMixin, BaseEstimator):
    """Flag rows whose log density is below a threshold.

    A row is an outlier if its log density is lower than that of nearly all
    rows that the density was not fitted to. Works with every estimator that
    has ``score_samples``: those of skemvae, scikit-learn's ``GaussianMixture``
    and ``KernelDensity``, or a ``Pipeline`` that ends in one.

    Parameters
    ----------
    estimator : estimator, default=None
        A density, with ``fit`` and ``score_samples``. None means
        ``EMGaussianMixture()``.
    contamination : "auto" or float, default="auto"
        - "auto": the threshold flags ``false_alarm_rate`` of the training
          rows, each scored as a new row would be: rows that recur (see ``cv``)
          by the fit to all rows, all others by a fit without them. This rate
          then holds for new rows like the training rows. It would not hold
          for scores of rows by their own fit, which are too high.
        - float in (0, 0.5]: the threshold flags this share of the training
          rows, scored by the fit to all of them. This is scikit-learn's
          meaning, for finding the outliers in the training table itself.
    false_alarm_rate : float, default=0.05
        For "auto": largest expected share of flagged rows among new rows like
        the training rows. Equal rows are all flagged or all not, so the share
        may be smaller. Outliers among the training rows count towards it, so
        fewer of the others are flagged. With fewer than
        1 / ``false_alarm_rate`` rows the threshold is the lowest held-out
        score.
    cv : int, splitter or iterable of (training, held_out), default=5
        For "auto": number of folds, a splitter such as ``TimeSeriesSplit``, or
        positions of rows. A number makes folds of the distinct rows: copies
        of a row share a fold, so no row is scored by a fit to its copy. Rows
        that recur (an idle sensor, an empty basket) are expected again, and
        scored by the fit to all rows. These are rows repeated more than twice
        as often as 95 % of the distinct rows, or more than twice if rows occur
        more than three times on average. Each fold costs one more fit.

    Attributes
    ----------
    estimator_ : estimator
        Fitted to all rows.
    offset_ : float
        The threshold: a log density in nats, in the units of X, or of the last
        step of a Pipeline.
    n_features_in_ : int
    feature_names_in_ : ndarray
        Both only if ``estimator_`` has them.

    References
    ----------
    Bishop (1994), "Novelty detection and neural network validation"; Barber,
    Candès, Ramdas and Tibshirani (2021), "Predictive inference with the
    jackknife+", on the use of cross-validated scores.

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
        """Fit the density, and compute the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, of any type that the density accepts.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts, for the density (in a Pipeline, for its
            last step) and for the threshold.

        Returns
        -------
        self
            Fitted.

        Raises
        ------
        ValueError
            If a parameter is out of range, if ``sample_weight`` is given but
            the density takes none, or if the density raises it.
        TypeError
            If the density has no ``score_samples``.
        """
        self._check_parameters()
        check_is_table(X)
        with fitting(self) as draft:
            draft._fit(as_numpy(X), as_numpy(sample_weight))
        return self

    def _fit(self, X: Any, sample_weight: Any) -> None:
        """Fit the density and compute the threshold; the parameters are valid."""
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
            Whether to also return standard errors; zeros if the density has
            none.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            ``estimator_.score_samples(X)``, in nats: the lower, the more
            anomalous.
        std : ndarray of shape (n_samples,)
            Standard errors. Only if ``return_std``.
        """
        check_is_fitted(self)
        return scores_of(self.estimator_, X, return_std)

    @in_kind
    def decision_function(self, X: MatrixLike) -> FloatArray:
        """Log density of each row minus the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``, in nats: negative for outliers.
        """
        scores = self.score_samples(X)
        above = quietly(np.subtract, scores, self.offset_)
        # Rows of density 0 are not outliers if the threshold is also -inf.
        return np.where(np.isneginf(scores) & np.isneginf(self.offset_), 0.0, above)

    @in_kind
    def predict(self, X: MatrixLike) -> IntArray:
        """Predict whether each row is an outlier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to classify.

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
        """Score how surprising each value of a row is, given all its other values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to explain.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or a frame
            ``-log p(x_j | x_-j)`` minus its mean over the training rows, in
            nats. Only for estimators of skemvae, also behind scalers in a
            Pipeline, or behind a transformer of each column alone in a
            ``TransformedDensity``. The detector itself has no ``set_output``;
            that of ``estimator`` decides the container.

        See Also
        --------
        EMGaussianMixture.feature_scores : What the scores mean.
        """
        check_is_fitted(self)
        density = _density_behind_scalers(self.estimator_)
        scaled = X
        if density is not self.estimator_ and len(self.estimator_) > 1:
            scaled = self.estimator_[:-1].transform(X)
        return as_set(density, np.asarray(density.feature_scores(scaled)), self, X)

    # Shared by these.

    def _check_parameters(self) -> None:
        check_parameters(self, _RULES)
        if isinstance(self.cv, Integral):
            integer(2)("cv", self.cv)

    def _chosen_density(self) -> Any:
        return EMGaussianMixture() if self.estimator is None else self.estimator

    def _fit_density(self, X: Any, weight: Any) -> Any:
        density = clone(self._chosen_density())
        if not hasattr(density, "score_samples"):
            raise TypeError(
                f"estimator={density!r} has no score_samples: give a density, such as "
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
        """Threshold from scores of rows that recur, by ``fitted``, and of all others, held out."""
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
                continue  # one distinct row left to fit: held-out rows keep density 0
            if weight is None:
                part = self._fit_density(_safe_indexing(X, table.thinned(rows, share)), None)
            else:
                part = self._fit_density(_safe_indexing(X, rows), weight[rows] * share)
            scores[held_out] = part.score_samples(_safe_indexing(X, first[held_out]))
        one_more = np.where(recurs, 0.0, table.unit)
        return lower_tail(scores, table.weight, self.false_alarm_rate, one_more)

    def _scores_of_splits(self, X: Any, sample_weight: Any) -> tuple[Any, Any]:
        """Scores of rows by fits without them, and their weights or None."""
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
    """The estimator for ``feature_scores``: itself, or the last step of a Pipeline of scalers."""
    steps: list[Any] = []
    if isinstance(estimator, Pipeline):
        *steps, (_, estimator) = estimator.steps
    for name, step in steps:
        if step is None or step == "passthrough":
            continue
        if type(step) not in _COLUMNWISE or getattr(step, "clip", False):
            raise AttributeError(
                f"feature_scores cannot look through step {name!r}, {step!r}: before the density "
                "it accepts only scalers of each column, such as StandardScaler."
            )
    try:
        estimator.feature_scores  # noqa: B018
    except AttributeError as error:
        if isinstance(estimator, DensityEstimator):  # its own error says why
            raise AttributeError(str(error.__cause__ or error)) from None
        raise AttributeError(
            f"{estimator!r} has no feature_scores: choose an estimator of skemvae, such as "
            "EMGaussianMixture."
        ) from None
    return estimator
