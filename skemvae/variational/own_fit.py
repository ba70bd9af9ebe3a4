"""Variational EM for models that users write, one fit for each kind of posterior."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from skemvae.core.iterate import Fit
from skemvae.posteriors.ascent import diagonal, full
from skemvae.posteriors.expectations import Expected, by_nodes, fixed_points
from skemvae.posteriors.gaussians import FullGaussian
from skemvae.variational.blocks import Blocks

# Steps that take q from its start to its optimum, and quasi-Newton iterations of an M step.
FIRST_STEPS = 100
_QUASI_NEWTON = 10
# Least gain of a jump, in nats per sample, that makes it worth continuing.
_WORTH_A_JUMP = 1e-3
# Points within this many standard deviations of q count as seen.
_SEEN = 3.0
# Standard deviation of q at its start.
_START_SCALE = 0.2

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class LogJoint:
    """The user's log p(x, z) for some rows, under given parameters.

    Attributes
    ----------
    model : LatentVariableModel
    X : Tensor of shape (n, d)
    parameters : dict of Tensor
    noise : Tensor of shape (1, S, k)
        Points of q at which it is evaluated if q is normal, else all states.
    """

    model: Any
    X: Tensor
    parameters: Parameters
    noise: Tensor

    def rows(self, rows: Any) -> LogJoint:
        """The same for some of the rows."""
        return LogJoint(self.model, self.X[rows], self.parameters, self.noise)

    def at(self, z: Tensor) -> Tensor:
        """log p(x, z), shape (n, S)."""
        X = self.X[:, None]
        log_joint = self.model.log_joint(X, z, self.parameters)
        shape = (len(X), z.shape[1])
        return self._checked("log_joint", log_joint, shape, z, f"X has shape {tuple(X.shape)}, ")

    def columns(self, z: Tensor) -> Tensor:
        """log p(x_j | z, x_-j), shape (n, S, d)."""
        X = self.X[:, None]
        log_probs = self.model.log_probs(X, z, self.parameters)
        shape = (len(X), z.shape[1], X.shape[2])
        return self._checked("log_probs", log_probs, shape, z, f"X has shape {tuple(X.shape)}, ")

    def prior(self, z: Tensor) -> Tensor:
        """log p(z), shape (n or 1, S)."""
        log_prior = self.model.log_prior(z, self.parameters)
        return self._checked("log_prior", log_prior, (len(z), z.shape[1]), z)

    def _checked(
        self, method: str, value: Any, shape: tuple[int, ...], z: Tensor, also: str = ""
    ) -> Tensor:
        is_tensor = isinstance(value, Tensor)
        if not is_tensor or value.shape != shape:
            found = tuple(value.shape) if is_tensor else type(value).__name__
            per_column = " and column" if len(shape) > 2 else ""
            raise ValueError(
                f"{type(self.model).__name__}.{method} returned {found!r}, expected a tensor of "
                f"shape {shape}: one number for each row and point{per_column}. "
                f"{also}Z {tuple(z.shape)}."
            )
        tensor: Tensor = value.to(torch.float64)
        return tensor

    def __call__(self, q: FullGaussian) -> Expected:
        return by_nodes(self.at, q, self.noise)

    def start(self, seen: FullGaussian | None = None) -> FullGaussian:
        """A narrow q at the best of some points on the scale of N(0, I).

        A posterior may have several modes, and q finds the nearest. Points near
        ``seen``, another q, are left out.
        """
        k = self.noise.shape[2]
        centre = torch.zeros(1, 1, k, dtype=self.X.dtype)
        points = torch.cat([centre, self.noise, 2 * self.noise], 1)
        values = torch.nan_to_num(self.at(points), nan=-torch.inf)
        if seen is not None:
            standard = (points - seen.mean[:, None]) @ seen.precision_cholesky
            values[(standard**2).sum(-1) < _SEEN**2] = -torch.inf
        best = values.argmax(-1)
        cholesky = torch.eye(k, dtype=self.X.dtype) / _START_SCALE
        return FullGaussian(points[0, best], cholesky.expand(len(best), k, k))


@dataclass(frozen=True)
class OwnState:
    """Parameters, the q of each row, and the bound at both.

    Attributes
    ----------
    parameters : dict of Tensor
    posterior : FullGaussian or Tensor of shape (n, K)
        The q of each row; responsibilities if the states are enumerated.
    bound : float
        Nats per sample.
    """

    parameters: Parameters
    posterior: Any
    bound: float


class OwnFit(Fit):
    """Base of the fits: parameters, the M step, and the bound."""

    def __init__(self, model: Any, X: Any, weight: Any, rng: Any, previous: Any):
        self._model = model
        self._X = torch.tensor(np.ascontiguousarray(X, dtype=np.float64))
        self._weight = torch.ones(len(self._X), dtype=torch.float64)
        if weight is not None:
            self._weight = torch.tensor(weight, dtype=torch.float64)
        self._rng = rng
        self._previous = previous
        self._seed = int(rng.randint(2**31))
        self._noise = self._points(int(rng.randint(2**31)))
        if previous is not None:
            self._check_same_model(X.shape[1])
            self._seed, self._noise = previous._seed, previous._noise
        self._blocks = Blocks(len(X), self._noise.shape[1] * (X.shape[1] + self._noise.shape[2]))

    def _check_same_model(self, d: int) -> None:
        def design(model: Any, n_features: int) -> str:
            return f"{model.get_params()}, posterior {model.posterior!r}, {n_features} features"

        fitted, asked = design(self._previous, self._previous._n_features), design(self._model, d)
        if fitted != asked:
            raise ValueError(
                f"The fitted model has parameters {fitted}, but model and X now ask for {asked}: "
                "set warm_start=False."
            )

    @abstractmethod
    def _points(self, seed: int) -> Tensor:
        """The points or states at which the log joint is evaluated."""

    @abstractmethod
    def _e_step(self, log_joint: LogJoint, posterior: Any) -> tuple[Any, Tensor]:
        """The posterior, found from an earlier one or from None, and the bound of each row."""

    @abstractmethod
    def _expected(self, log_joint: LogJoint, posterior: Any, rows: slice) -> Tensor:
        """E_q[log p(x, z)] of some rows, differentiable in the parameters."""

    def start(self) -> tuple[OwnState, bool]:
        initial = self._initial_parameters()
        for name, value in initial.items():
            if not value.isfinite().all():
                raise ValueError(
                    f"{type(self._model).__name__}.initial_parameters returned a {name!r} that "
                    "is not finite."
                )
        return self._state(initial, None), False

    def step(self, state: OwnState) -> OwnState:
        parameters = {name: value.clone() for name, value in state.parameters.items()}
        log_joint = LogJoint(self._model, self._X, parameters, self._noise)
        total = self._weight.sum()

        def value(rows: slice) -> Tensor:
            each = self._expected(log_joint.rows(rows), state.posterior, rows)
            return (self._weight[rows] @ each) / total

        self._blocks.climb_parameters(list(parameters.values()), value, _QUASI_NEWTON)
        new = self._state(parameters, state.posterior)
        # In exact arithmetic the bound never falls; this guards against rounding.
        return new if new.bound >= state.bound else state

    def fitted(self, state: OwnState) -> Any:
        values = {name: value.numpy().copy() for name, value in state.parameters.items()}
        return clone(self._model)._set(values, self._noise, self._seed, self._X.shape[1])

    def _state(self, parameters: Parameters, posterior: Any) -> OwnState:
        log_joint = LogJoint(self._model, self._X, parameters, self._noise)
        posterior, each = self._e_step(log_joint, posterior)
        bound = float(self._weight @ each / self._weight.sum())
        if not np.isfinite(bound):
            raise ValueError(
                f"The bound of {type(self._model).__name__} is {bound}: its log_joint is not "
                "finite somewhere. Check its initial_parameters and the range of X, and let z "
                "take any value in R^k."
            )
        return OwnState(parameters, posterior, bound)

    def _initial_parameters(self) -> Parameters:
        if self._previous is not None:
            initial = self._previous.parameters_
        else:
            initial = self._model.initial_parameters(self._X.numpy().copy(), self._rng)
            if not isinstance(initial, dict) or not initial:
                raise TypeError(
                    f"{type(self._model).__name__}.initial_parameters returned {initial!r}, "
                    "expected a dict of arrays by name."
                )
        return {
            name: torch.tensor(np.asarray(value, dtype=np.float64))
            for name, value in initial.items()
        }


class EnumeratedFit(OwnFit):
    """Exact EM, with the posterior over all states from Bayes' rule."""

    def _points(self, seed: int) -> Tensor:
        return torch.arange(self._model.n_latent)[None, :, None]

    def _e_step(self, log_joint: LogJoint, posterior: Any) -> tuple[Tensor, Tensor]:
        parts = self._blocks.map(lambda rows: enumerate_states(log_joint.rows(rows)))
        weight, evidence = zip(*parts, strict=True)
        return torch.cat(weight), torch.cat(evidence)

    def _expected(self, log_joint: LogJoint, posterior: Tensor, rows: slice) -> Tensor:
        weight, each = posterior[rows], log_joint.at(self._noise[..., 0])
        # An impossible state has log p = -inf and weight 0.
        return (weight * torch.where(weight > 0, each, torch.zeros_like(each))).sum(-1)


def enumerate_states(log_joint: LogJoint) -> tuple[Tensor, Tensor]:
    """Responsibilities of shape (n, K), and log p(x) of shape (n,)."""
    each = log_joint.at(log_joint.noise[..., 0])
    return torch.softmax(each, -1), torch.logsumexp(each, -1)


class GaussianFit(OwnFit):
    """Variational EM with a normal q of full covariance for each row."""

    family = staticmethod(full)

    def _points(self, seed: int) -> Tensor:
        return fixed_points(self._model.n_latent, seed)

    def _e_step(self, log_joint: LogJoint, posterior: Any) -> tuple[FullGaussian, Tensor]:
        if posterior is not None:
            q, expected = self._blocks.climb(log_joint, posterior, self.family)
        else:
            starts = self._blocks.map(lambda rows: log_joint.rows(rows).start())
            start = FullGaussian.of_blocks(starts)
            q, expected = self._blocks.climb(log_joint, start, self.family, FIRST_STEPS)
        return q, expected.value + q.entropy

    def jump(self, state: OwnState) -> OwnState | None:
        """Restart each q and keep the new one if it is better, for example at another mode."""
        log_joint = LogJoint(self._model, self._X, state.parameters, self._noise)
        old, bound = self._e_step(log_joint, state.posterior)
        new, new_bound = self._e_step(log_joint, None)
        better = new_bound > bound
        old.mean[better] = new.mean[better]
        old.precision_cholesky[better] = new.precision_cholesky[better]
        each = torch.where(better, new_bound, bound)  # also refuses NaN
        bound = float(self._weight @ each / self._weight.sum())
        if bound <= state.bound + _WORTH_A_JUMP:
            return None
        return OwnState(state.parameters, FullGaussian(old.mean, old.precision_cholesky), bound)

    def _expected(self, log_joint: LogJoint, posterior: FullGaussian, rows: slice) -> Tensor:
        return log_joint.at(posterior.rows(rows).at(self._noise)).mean(-1)


class DiagonalFit(GaussianFit):
    """The same with a diagonal covariance (mean field)."""

    family = staticmethod(diagonal)


FITS: dict[str, type[OwnFit]] = {
    "full": GaussianFit,
    "diagonal": DiagonalFit,
    "enumerated": EnumeratedFit,
}
