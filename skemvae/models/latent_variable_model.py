"""``LatentVariableModel``: the base class for user-defined models."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skemvae.core.iterate import Fit
from skemvae.models.base import Model
from skemvae.optional import require
from skemvae.parameters import check_parameters, choice, integer
from skemvae.typing import Array, ArrayLike, FloatArray, Tabular, TrainingRows

if TYPE_CHECKING:  # torch is imported when a model is fitted
    from torch import Tensor


class LatentVariableModel(Model):
    """Base class for a model p(x, z) that you write: log density, initial parameters, samples.

    A subclass has constructor parameters like any scikit-learn estimator, the
    property ``n_latent``, and the three methods ``initial_parameters``,
    ``log_joint`` and ``sample``. ``VariationalEM`` does the rest: the E step,
    the M step, scores and their errors. ``mean``, ``log_prior`` and
    ``log_probs`` are optional.

    ``posterior`` names the family of q(z) of each row:

    - ``"full"``: normal with a full covariance, z in R^k with k = ``n_latent``;
    - ``"diagonal"``: normal with independent coordinates;
    - ``"enumerated"``: z is one of K = ``n_latent`` states; the posterior is then
      exact, and so are the E step and ``score_samples``.

    If q is normal, expectations are means over fixed points with mean 0 and
    covariance I, at least 16 for each dimension of z. The points stay fixed, so
    the bound of ``lower_bounds_`` never falls. ``elbo`` uses other points and
    has an error.

    Requirements:

    - z may take any value in R^k; let its scale be that of N(0, I).
    - Parameters may take any real value, so use log sigma instead of sigma.
    - A trial step may be extreme: write plain formulas, or pass
      ``validate_args=False`` to ``torch.distributions``.
    - ``initial_parameters`` sees each row once, whatever its weight.

    Attributes
    ----------
    parameters_ : dict of ndarray
        Fitted parameters by name.
    n_parameters_ : int
        The total size of all parameters.

    Examples
    --------
    A curved line with noise around it:

    >>> import numpy as np
    >>> import torch
    >>> from skemvae import VariationalEM
    >>> from skemvae.models import LatentVariableModel
    >>> class Curve(LatentVariableModel):
    ...     n_latent = 1
    ...
    ...     def initial_parameters(self, X, rng):
    ...         d = X.shape[1]
    ...         return {"W": np.eye(2, d), "b": X.mean(0), "log_s": np.zeros(d)}
    ...
    ...     def log_joint(self, X, Z, parameters):
    ...         W, b, log_s = parameters.values()
    ...         mean = torch.cat([Z, Z**2], -1) @ W + b
    ...         p_x = torch.distributions.Normal(mean, log_s.exp()).log_prob(X).sum(-1)
    ...         return p_x + torch.distributions.Normal(0.0, 1.0).log_prob(Z).sum(-1)
    ...
    ...     def sample(self, n, parameters, rng):
    ...         W, b, log_s = parameters.values()
    ...         Z = rng.normal(size=(n, 1))
    ...         return np.c_[Z, Z**2] @ W + b + np.exp(log_s) * rng.normal(size=(n, len(b))), Z
    >>> rng = np.random.RandomState(0)
    >>> z = rng.normal(size=200)
    >>> X = np.c_[z, z**2] + 0.1 * rng.normal(size=(200, 2))
    >>> em = VariationalEM(Curve(), random_state=0).fit(X)
    >>> em.model_.parameters_["W"].shape, bool(em.score(X) > -1.3)
    ((2, 2), True)
    """

    posterior = "full"
    n_score_samples = 256

    @property
    @abstractmethod
    def n_latent(self) -> int:
        """The dimension of z, or its number of states."""

    @abstractmethod
    def initial_parameters(self, X: FloatArray, rng: np.random.RandomState) -> dict[str, ArrayLike]:
        """Initial values of the parameters: arrays of any shape that may take any real value.

        Parameters
        ----------
        X : ndarray of shape (n, d)
            The training rows.
        rng : RandomState
            Source of randomness.

        Returns
        -------
        dict of ndarray
            Parameters by name.
        """

    @abstractmethod
    def log_joint(self, X: Tensor, Z: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """log p(x, z) in nats, in torch and float64, with all constants.

        Parameters
        ----------
        X : Tensor of shape (n, 1, d)
            Rows.
        Z : Tensor of shape (n, S, k), or of integers (1, K)
            S points for each row, or all states.
        parameters : dict of Tensor
            Parameters by name.

        Returns
        -------
        Tensor of shape (n, S) or (n, K)
            One number for each row and point or state.
        """

    @abstractmethod
    def sample(
        self, n: int, parameters: dict[str, Array], rng: np.random.RandomState
    ) -> tuple[Array, Array]:
        """Draw rows and their z.

        Parameters
        ----------
        n : int
            Number of rows.
        parameters : dict of ndarray
            Parameters by name.
        rng : RandomState
            Source of randomness.

        Returns
        -------
        X : ndarray of shape (n, d)
            Rows.
        Z : ndarray of shape (n, k) or (n,)
            The latent point or the state of each row.
        """

    def mean(self, Z: FloatArray, parameters: dict[str, Array]) -> ArrayLike:
        """E[x | z], for ``inverse_transform``; optional.

        Parameters
        ----------
        Z : ndarray of shape (n, k) or (n, K)
            Latent points, or responsibilities of the states.
        parameters : dict of ndarray
            Parameters by name.

        Returns
        -------
        ndarray of shape (n, d)
            Expected rows, in the units of X.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define E[x | z]: write its method "
            "mean(Z, parameters) to use inverse_transform."
        )

    def log_prior(self, Z: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """log p(z) in torch, for the parts of ``decompose_bound``; optional.

        Parameters
        ----------
        Z : Tensor of shape (n, S, k), or of integers (1, K)
            Points, or all states.
        parameters : dict of Tensor
            Parameters by name.

        Returns
        -------
        Tensor of shape (n, S) or (1, K)
            In nats.
        """
        raise NotImplementedError

    def log_probs(self, X: Tensor, Z: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """log p(x_j | z, all other columns) in torch, for ``feature_scores``; optional.

        If columns are independent given z, this is log p(x_j | z).

        Parameters
        ----------
        X : Tensor of shape (n, 1, d)
            Rows.
        Z : Tensor of shape (n, S, k), or of integers (1, K)
            Points, or all states.
        parameters : dict of Tensor
            Parameters by name.

        Returns
        -------
        Tensor of shape (n, S, d) or (n, K, d)
            In nats.
        """
        raise NotImplementedError

    @property
    def has_discrete_latent(self) -> bool:
        return self.posterior == "enumerated"

    def begin(
        self,
        X: TrainingRows,
        weight: FloatArray | None,
        names: Sequence[object],
        rng: np.random.RandomState,
        previous: Self | None,
    ) -> Fit:
        require("torch", purpose=type(self).__name__)
        from skemvae.variational.own_fit import FITS

        check_parameters(self, {"posterior": choice(FITS), "n_latent": integer(1)})
        return FITS[self.posterior](self, X, weight, rng, previous)

    # Fitted.

    @property
    def n_latent_(self) -> int:
        return self._n_latent

    def log_density(self, X: Tabular) -> tuple[FloatArray, FloatArray]:
        both: tuple[FloatArray, FloatArray] = self._inference(X).log_density()
        return both

    def elbo(self, X: Tabular) -> tuple[FloatArray, FloatArray]:
        both: tuple[FloatArray, FloatArray] = self._inference(X).elbo()
        return both

    def log_conditionals(self, X: Tabular) -> FloatArray:
        if not self._writes("log_probs"):
            raise NotImplementedError(
                f"{type(self).__name__} does not define the log density of each column: write its "
                "method log_probs(X, Z, parameters) to use feature_scores."
            )
        return self._inference(X).log_conditionals()

    def kl_to_prior(self, X: Tabular) -> FloatArray:
        if not self._writes("log_prior"):  # the model defines p(x, z), but not p(z)
            return np.full(X.shape[0], np.nan, dtype=X.dtype)
        return self._inference(X).kl_to_prior()

    def posterior_mean(self, X: Tabular) -> FloatArray:
        return self._inference(X).posterior_mean()

    def expected_rows(self, Z: FloatArray) -> Array:
        return np.asarray(self.mean(Z, self.parameters_)).astype(Z.dtype)

    def draw(self, n: int, rng: np.random.RandomState) -> tuple[Array, Array]:
        return self.sample(n, self.parameters_, rng)

    def _writes(self, optional: str) -> bool:
        """Whether the model defines an optional method."""
        return getattr(type(self), optional) is not getattr(LatentVariableModel, optional)

    def _inference(self, X: Any) -> Any:
        from skemvae.variational.own_answers import INFERENCES

        return INFERENCES[self.posterior](self, X)

    def _set(self, parameters: dict[str, Any], noise: Any, seed: int, n_features: int) -> Self:
        self.parameters_ = parameters
        self.n_parameters_ = sum(value.size for value in parameters.values())
        self._n_latent = int(self.n_latent)
        self._noise = noise
        self._seed = seed
        self._n_features = n_features
        return self

    # Pickles hold arrays and plain values only.

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {**state, "_noise": self._noise.numpy()} if "_noise" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_noise" in state:
            import torch

            self._noise = torch.tensor(state["_noise"])
