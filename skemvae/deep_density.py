"""Methods of a fitted VAE: densities, latent means, reconstructions, samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_scalar
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skemvae.array_api import in_kind
from skemvae.base import LatentDensityEstimator, with_error
from skemvae.core.decomposition import BoundDecomposition
from skemvae.core.iterate import Result, Status
from skemvae.tables.reading import check_rows
from skemvae.typing import Array, ArrayLike, FloatArray, IntArray, MatrixLike, Scores

# Rows whose codes are in memory at a time.
_CHUNK_ROWS = 2**14


def _has_mixture_prior(estimator: Any) -> bool:
    fitted = getattr(estimator, "_design", None)
    prior = estimator.prior if fitted is None else fitted["architecture"].prior
    if prior != "mixture":
        raise AttributeError(
            f"prior={prior!r} has no components to predict: fit with prior='mixture'."
        )
    return True


class DeepDensity(LatentDensityEstimator):
    """Methods of an estimator that has a ``module_`` and a table of codes, ``_table``.

    ``_score_seed`` fixes the points for estimates, and ``_optimiser`` is the
    state that ``partial_fit`` keeps.
    """

    _optimiser: Any

    @in_kind
    def score_samples(self, X: MatrixLike, return_std: bool = False) -> Scores:
        """Estimate log p(x) of each row by importance sampling.

        The value is the logarithm of an estimate of p(x). On average it lies
        below log p(x), and it converges to log p(x) as ``n_score_samples``
        grows. With few points it can lie below ``elbo``, because about a tenth
        of the points come from the prior. All rows use the same quasi-random
        points, so the value of a row depends neither on the other rows nor on
        the call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score. float32 is processed in float32, all else in float64.
        return_std : bool, default=False
            Whether to return standard errors, too.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats and the units of X: log density for continuous columns, log
            probability for discrete ones. The lower, the more anomalous.
        std : ndarray of shape (n_samples,)
            Standard error of each value, from independent sets of points.
            Only if ``return_std``. An error near 1 means that a few points
            carry all the weight; the value is then only a lower bound.

        References
        ----------
        Burda, Grosse and Salakhutdinov (2016), "Importance weighted
        autoencoders". For the proposal, about 0.9 q(z|x) + 0.1 p(z), see
        Hesterberg (1995), "Weighted average importance sampling and defensive
        mixture distributions".
        """
        if return_std:
            self._check_errors("return_std=True")
        both = self._by_chunks(
            X,
            lambda inference, codes: np.stack(
                inference.log_evidence(codes, self.n_score_samples, self._score_seed), -1
            ),
            exact=True,
        )
        log_density = both[:, 0] - both.dtype.type(self._table.log_volume)
        return with_error(log_density, both[:, 1], return_std)

    @in_kind
    def elbo(self, X: MatrixLike) -> FloatArray:
        """Evidence lower bound of each row, E_q[log p(x, z)] + H[q].

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats and the units of X. It lies below log p(x) by
            KL(q(z|x) || p(z|x)).
        """
        bound = self._by_chunks(
            X,
            lambda inference, codes: inference.elbo(codes, self.n_score_samples, self._score_seed),
            exact=True,
        )
        return bound - bound.dtype.type(self._table.log_volume)

    @in_kind
    def decompose_bound(self, X: MatrixLike) -> BoundDecomposition:
        """Split the bound of each row into what z explains, what q costs, and the gaps.

        For the amortisation gap, each row is searched for the best q of the
        encoder's family. This takes about forty times as long as
        ``score_samples``; a few hundred rows are enough for a mean.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to explain.

        Returns
        -------
        BoundDecomposition
            In nats for each row. ``log_likelihood`` is estimated with the best q
            as proposal, and so is more precise than ``score_samples``. If the
            search misses the very best q, a part of the amortisation gap is
            counted as approximation gap.

        Raises
        ------
        ValueError
            If ``n_score_samples`` is below 16, too few to estimate errors.
        """
        self._check_errors("decompose_bound")
        columns = self._by_chunks(
            X,
            lambda inference, codes: inference.decompose(
                codes, self.n_score_samples, self._score_seed
            ),
            exact=True,
        ).T
        columns[:2] -= columns.dtype.type(self._table.log_volume)
        return BoundDecomposition(*columns)

    @in_kind
    def transform(self, X: MatrixLike) -> FloatArray:
        """Posterior mean E_q[z | x] of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            In float32 if X is float32, else in float64.
        """
        return self._by_chunks(
            X, lambda inference, codes: inference.posterior_mean(codes), exact=False
        )

    @available_if(_has_mixture_prior)
    @in_kind
    def predict_proba(self, X: MatrixLike) -> FloatArray:
        """Posterior probability of each component of the prior, p(c | x).

        Only with ``prior="mixture"``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to assign.

        Returns
        -------
        ndarray of shape (n_samples, n_prior_components)
            E[p(c | z) | x] by importance sampling with the points of
            ``score_samples``, so every call gives the same values. Rows sum to 1.
        """
        return self._by_chunks(
            X,
            lambda inference, codes: inference.prior_components(
                codes, self.n_score_samples, self._score_seed
            ),
            exact=True,
        )

    @available_if(_has_mixture_prior)
    @in_kind
    def predict(self, X: MatrixLike) -> IntArray:
        """The most probable component of the prior for each row.

        Only with ``prior="mixture"``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to assign.

        Returns
        -------
        ndarray of shape (n_samples,)
            Component labels, starting from 0.
        """
        return self.predict_proba(X).argmax(axis=1)

    @in_kind
    def inverse_transform(self, Z: ArrayLike) -> Array:
        """Mean of the decoder, E[x | z], at each z.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Latent points, such as those that ``transform`` returns.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In the units of the training rows. Labels have no mean; their columns
            hold the most probable one. Of dtype object if labels are not numbers.
        """
        check_is_fitted(self)
        points = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
        if points.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z has {points.shape[1]} columns, but n_components={self._n_features_out}."
            )
        return self._table.decode(self._inference(points.dtype).decode(points))

    # What these methods share.

    def _draw(self, n: int, rng: np.random.RandomState) -> tuple[Any, Any]:
        codes, Z = self._inference(np.float64).sample(n, rng)
        return self._table.decode(codes), Z

    @property
    def _n_features_out(self) -> int:
        return int(self.module_.n_components)

    def _check_errors(self, wanted: str) -> None:
        if self.n_score_samples < 16:
            raise ValueError(
                f"n_score_samples={self.n_score_samples} leaves no error to estimate: "
                f"{wanted} needs at least 16."
            )

    def _inference(self, dtype: Any) -> Any:
        from skemvae.networks.answers import Inference

        return Inference(self.module_, dtype, self.device)

    def _by_chunks(self, X: Any, function: Callable[[Any, Any], Any], *, exact: bool) -> Any:
        """Concatenate ``function(inference, codes)`` over chunks of rows."""
        return self._each_chunk(self._rows(X), function, exact=exact)

    def _rows(self, X: Any) -> Any:
        check_is_fitted(self)
        return check_rows(self, X, numeric=self._table.numeric, reset=False, n_min=1)

    def _log_conditionals(self, rows: Any) -> Any:
        return self._table.in_order(
            self._each_chunk(
                rows,
                lambda inference, codes: inference.log_conditionals(
                    codes, self.n_score_samples, self._score_seed
                ),
                exact=False,
            )
        )

    def _each_chunk(self, rows: Any, function: Callable[[Any, Any], Any], *, exact: bool) -> Any:
        check_scalar(self.n_score_samples, "n_score_samples", Integral, min_val=1)
        dtype = np.float32 if getattr(rows, "dtype", None) == np.float32 else np.float64
        inference = self._inference(dtype)
        chunks = (rows[i : i + _CHUNK_ROWS] for i in range(0, rows.shape[0], _CHUNK_ROWS))
        return np.concatenate(
            [function(inference, self._table.encode(x, dtype, exact=exact)) for x in chunks]
        )

    # Pickles hold arrays and plain values only.

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "module_" not in state:
            return state
        from skemvae.networks.state import optimiser_state, vae_state

        state = {**state, "module_": vae_state(self.module_)}
        if self._optimiser is not None:
            state["_optimiser"] = optimiser_state(self._optimiser)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "module_" not in state:
            return
        from skemvae.networks.state import optimiser_of, vae_of

        self.module_ = vae_of(state["module_"], self._design["architecture"], self._table)
        if self._optimiser is not None:
            self._optimiser = optimiser_of(self._optimiser, self.module_)


def report(estimator: DeepDensity, result: Result[Any]) -> None:
    """Raise or warn unless a fit ended well.

    Parameters
    ----------
    estimator : VAEEstimator
        With its fitted attributes.
    result : Result
        Of the training loop.

    Raises
    ------
    FloatingPointError
        If the bound became non-finite at every learning rate.

    Warns
    -----
    ConvergenceWarning
        If the fit was interrupted, did not converge, or left z unused.
    """
    if result.status is Status.DIVERGED:
        raise FloatingPointError(
            f"The bound became non-finite after epoch {result.n_iter}, at every learning rate; "
            "the best weights before that are kept. Lower learning_rate_init, look for "
            "extreme values in X, or raise the floor of the variance."
        )
    if result.status is Status.INTERRUPTED:
        message = f"Interrupted after {result.n_iter} epochs: the best weights are kept."
    elif result.status is Status.MAX_ITER and estimator.max_iter > 0:
        message = (
            f"max_iter={estimator.max_iter} epochs were not enough: the bound still rises. "
            "Increase max_iter or learning_rate_init, or set learning_rate='cosine' to end there."
        )
    elif estimator.n_active_units_ == 0 and estimator.max_iter > 0:
        message = (
            "Posterior collapse: n_active_units_=0, q(z|x) is the same for all rows, and z "
            "explains nothing. Increase kl_warmup, or choose a smaller n_components or a "
            "larger learning_rate_init, unless the columns are independent."
        )
    else:
        return
    warnings.warn(message, ConvergenceWarning, stacklevel=3)
