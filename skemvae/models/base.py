"""The interface between ``VariationalEM`` and its models: fitting and scoring."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator

from skemvae.core.iterate import Fit
from skemvae.typing import Array, FloatArray, Tabular, TrainingRows


class Model(BaseEstimator, ABC):
    """A family of densities p_theta(x, z), with its family of q(z).

    Constructor parameters choose the family; they can be cloned and searched.
    A fit makes another instance, which holds the fitted parameters, with names
    that end in an underscore, and supports all methods below. Rows are already
    validated.
    """

    @property
    @abstractmethod
    def has_discrete_latent(self) -> bool:
        """Whether z is one of K states, so that E[z] is a vector of K responsibilities."""

    @property
    def is_numeric(self) -> bool:
        """Whether rows are checked to be finite numbers before the model sees them."""
        return True

    @property
    def reads_tables(self) -> bool:
        """Whether ``begin`` takes a ``core.table.Table``, which need not be in memory."""
        return False

    @abstractmethod
    def begin(
        self,
        X: TrainingRows,
        weight: FloatArray | None,
        names: Sequence[object],
        rng: np.random.RandomState,
        previous: Self | None,
    ) -> Fit:
        """Check the parameters and prepare the ascent on training rows.

        Parameters
        ----------
        X : array or frame of shape (n, d), or Table
            A table, with its weights, if the model ``reads_tables``.
        weight : array of shape (n,) or None
            Positive; counts of rows.
        names : sequence of length d
            Of the columns.
        rng : RandomState
        previous : Model or None
            The fitted model from which a warm start continues.

        Returns
        -------
        Fit
            Its ``fitted`` method turns a state into a fitted model.
        """

    # Fitted.

    n_parameters_: int

    @property
    @abstractmethod
    def n_latent_(self) -> int:
        """The number of columns of E[z]."""

    @abstractmethod
    def log_density(self, X: Tabular) -> tuple[FloatArray, FloatArray]:
        """log p(x) of each row and its standard error, each of shape (n,), in nats."""

    @abstractmethod
    def elbo(self, X: Tabular) -> tuple[FloatArray, FloatArray]:
        """The bound of each row and its standard error, each of shape (n,), in nats."""

    @abstractmethod
    def log_conditionals(self, X: Tabular) -> FloatArray:
        """``log p(x_j | x_-j)`` up to a constant of each column, shape (n, d), in nats."""

    @abstractmethod
    def kl_to_prior(self, X: Tabular) -> FloatArray:
        """KL(q(z|x) || p(z)) of each row, shape (n,), in nats."""

    @abstractmethod
    def posterior_mean(self, X: Tabular) -> FloatArray:
        """E_q[z] of each row, shape (n, ``n_latent_``)."""

    @abstractmethod
    def expected_rows(self, Z: FloatArray) -> Array:
        """E[x | z], shape (n, d), in the units of X."""

    @abstractmethod
    def draw(self, n: int, rng: np.random.RandomState) -> tuple[Array, Array]:
        """Draw n rows and their z."""
