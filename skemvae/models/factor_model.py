"""``FactorModel``: linear factors behind columns of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skemvae.core.iterate import Fit
from skemvae.models.base import Model
from skemvae.optional import require
from skemvae.parameters import check_parameters, integer
from skemvae.typing import Array, FloatArray, LikelihoodLike, Tabular, TrainingRows

if TYPE_CHECKING:  # torch is imported when a factor model is fitted
    from skemvae.likelihoods.columns import Table
    from skemvae.variational.factor_parameters import Factors


class FactorModel(Model):
    """Generalised latent factor model: x_j | z ~ likelihood(W_j z + b_j), z ~ N(0, I).

    Each row has its own q(z), normal with a full covariance, so there is no
    encoder and no amortisation gap. Fitted by ``VariationalEM``.

    Parameters
    ----------
    n_factors : int, default=2
        Dimension of z.
    likelihood : str, Likelihood or list of pairs, default="gaussian"
        The distribution of x_j given z: "gaussian" (factor analysis),
        "lognormal" (positive amounts), "student_t", "bernoulli" (logistic:
        binary PCA, item-response models), "poisson" (counts),
        "negative_binomial", "categorical", an object of
        ``skemvae.likelihoods``, or pairs ``(likelihood, columns)`` for mixed
        tables, with columns as in scikit-learn's ``ColumnTransformer``.
    n_score_samples : int, default=256
        Number of points with which ``score_samples`` estimates log p(x) of each
        row if it has no closed form; at least 16.

    Attributes
    ----------
    loadings_ : ndarray of shape (n_outputs, n_factors)
        W, with orthogonal columns, the largest first. There is one output for
        each column, or for each label of a categorical column, in the order of
        the likelihoods. Real columns are scaled to mean 0 and variance 1.
    intercept_ : ndarray of shape (n_outputs,)
        b.
    likelihoods_ : list of Likelihood
        With their fitted parameters.
    n_parameters_ : int
        Number of free parameters; rotations of z change nothing and do not count.

    References
    ----------
    Bartholomew, Knott and Moustaki (2011), "Latent variable models and factor
    analysis"; Chiquet, Mariadassou and Robin (2018), "Variational inference for
    probabilistic Poisson PCA".

    Examples
    --------
    >>> import numpy as np
    >>> from skemvae import VariationalEM
    >>> from skemvae.models import FactorModel
    >>> rng = np.random.RandomState(0)
    >>> ability = rng.normal(size=(500, 1))
    >>> answers = (rng.logistic(size=(500, 6)) < 2 * ability).astype(int)
    >>> em = VariationalEM(FactorModel(n_factors=1, likelihood="bernoulli")).fit(answers)
    >>> bool(abs(np.corrcoef(em.transform(answers)[:, 0], ability[:, 0])[0, 1]) > 0.8)
    True
    """

    def __init__(
        self,
        n_factors: int = 2,
        likelihood: LikelihoodLike = "gaussian",
        n_score_samples: int = 256,
    ):
        self.n_factors = n_factors
        self.likelihood = likelihood
        self.n_score_samples = n_score_samples

    has_discrete_latent = False

    @property
    def is_numeric(self) -> bool:
        if hasattr(self, "_table"):
            return self._table.numeric
        require("torch", purpose="FactorModel")
        from skemvae.likelihoods.columns import is_numeric

        return is_numeric(self.likelihood)

    def begin(
        self,
        X: TrainingRows,
        weight: FloatArray | None,
        names: Sequence[object],
        rng: np.random.RandomState,
        previous: Self | None,
    ) -> Fit:
        require("torch", purpose="FactorModel")
        from skemvae.variational.factor_fit import FactorFit

        check_parameters(self, {"n_factors": integer(1), "n_score_samples": integer(16)})
        return FactorFit(self, X, weight, names, rng, previous)

    # Fitted.

    @property
    def n_latent_(self) -> int:
        return int(self.loadings_.shape[1])

    def log_density(self, X: Tabular) -> tuple[FloatArray, FloatArray]:
        both: tuple[FloatArray, FloatArray] = self._inference(X).log_density()
        return both

    def elbo(self, X: Tabular) -> tuple[FloatArray, FloatArray]:
        both: tuple[FloatArray, FloatArray] = self._inference(X).elbo()
        return both

    def log_conditionals(self, X: Tabular) -> FloatArray:
        return self._table.in_order(self._inference(X).log_conditionals())

    def kl_to_prior(self, X: Tabular) -> FloatArray:
        return self._inference(X).kl_to_prior()

    def posterior_mean(self, X: Tabular) -> FloatArray:
        return self._inference(X).posterior_mean()

    def posterior_covariance(self, X: Tabular) -> FloatArray:
        """The covariance of q(z) of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_factors, n_factors)
            How uncertain the factor scores of ``transform`` are.
        """
        return self._inference(X).posterior_covariance()

    def expected_rows(self, Z: FloatArray) -> Array:
        from skemvae.variational.factor_answers import expected_codes

        return self._table.decode(expected_codes(self._factors, Z))

    def draw(self, n: int, rng: np.random.RandomState) -> tuple[Array, Array]:
        from skemvae.variational.factor_answers import draw_codes

        codes, Z = draw_codes(self._factors, n, rng)
        return self._table.decode(codes), Z

    def _inference(self, X: Any) -> Any:
        from skemvae.variational.factor_answers import FactorInference

        return FactorInference(
            self._factors, self._table, X, self.n_score_samples, self._points, self._seed
        )

    def _set(self, factors: Factors, table: Table, points: Any, seed: int, design: Any) -> Self:
        self._as_fitted = factors  # not rotated, because the points of the fit use its axes of z
        self._factors = factors.rotated()
        self._table = table
        self._points = points
        self._seed = seed
        self._design = design
        self.loadings_ = np.concatenate([W.numpy() for W in self._factors.loadings])
        self.intercept_ = self._factors.intercept.numpy()
        self.likelihoods_ = list(self._factors.heads)
        self.n_parameters_ = self._factors.n_parameters
        return self

    # Pickles hold arrays and plain values only.

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "_factors" not in state:
            return state
        return {
            **{name: value for name, value in state.items() if name != "likelihoods_"},
            "_as_fitted": self._as_fitted.state,
            "_factors": self._factors.state,
            "_points": {name: part.numpy() for name, part in self._points._asdict().items()},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_factors" not in state:
            return
        import torch

        from skemvae.posteriors.expectations import Points
        from skemvae.variational.factor_parameters import Factors

        self._as_fitted = Factors.of(state["_as_fitted"], self._table)
        self._factors = Factors.of(state["_factors"], self._table)
        points = {name: torch.tensor(part) for name, part in state["_points"].items()}
        self._points = Points(**points)
        self.likelihoods_ = list(self._factors.heads)
