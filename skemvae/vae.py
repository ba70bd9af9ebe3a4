"""``VAEEstimator``: amortised variational inference with networks."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import _safe_indexing, check_random_state, check_scalar

from skemvae.callbacks import LoopProgress, with_callbacks
from skemvae.core.iterate import Patience, Result, Status, iterate
from skemvae.deep_density import DeepDensity
from skemvae.validation import check_choice, check_weights

_CHOICES = {
    "activation": {"identity", "logistic", "tanh", "relu", "softplus", "elu", "silu", "gelu"},
    "prior": {"normal", "mixture", "vamp"},
    "objective": {"elbo", "iwae"},
    "gradient": {"reparameterization", "doubly_reparameterized", "score_function"},
    "update": {"joint", "alternating"},
    "learning_rate": {"adaptive", "constant", "cosine"},
}
_INTEGERS = {
    "n_components": 1,
    "n_prior_components": 1,
    "n_importance_samples": 1,
    "n_score_samples": 1,
    "n_iter_no_change": 1,
    "kl_warmup": 0,
    "max_iter": 0,
    "verbose": 0,
}
# An adaptive rate is divided by 3 that often before a plateau ends the fit.
_PLATEAUS = 3


class VAEEstimator(DeepDensity):
    def __init__(
        self,
        n_components: int = 2,
        *,
        hidden_layer_sizes: Any = (128, 128),
        activation: str = "relu",
        likelihood: Any = "gaussian",
        prior: str = "normal",
        n_prior_components: int = 16,
        objective: str = "elbo",
        n_importance_samples: int = 1,
        gradient: str = "reparameterization",
        update: str = "joint",
        kl_warmup: int = 0,
        learning_rate: str = "adaptive",
        learning_rate_init: float = 1e-3,
        batch_size: Any = "auto",
        max_iter: int = 500,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-3,
        standardize: bool = True,
        n_score_samples: int = 256,
        device: str = "auto",
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.prior = prior
        self.n_prior_components = n_prior_components
        self.objective = objective
        self.n_importance_samples = n_importance_samples
        self.gradient = gradient
        self.update = update
        self.kl_warmup = kl_warmup
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.standardize = standardize
        self.n_score_samples = n_score_samples
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        self._check_parameters()
        warm = self.warm_start and hasattr(self, "module_")
        trainer = self._trainer(X, sample_weight, warm=warm, early_stopping=self.early_stopping)
        earlier = self._histories() if warm else ((), ())
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        told = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        context = self._init_callback_context(max_subtasks=self.max_iter)
        loop = LoopProgress(self, context, "epoch", 10, told)

        def on_step(so_far: Result[Any]) -> bool:
            bound = so_far.bounds[-1] - self._table.log_volume
            return loop.end_step(
                so_far.n_iter,
                bound,
                lambda: self._attributes(trainer, so_far, earlier),
            )

        result = iterate(
            loop.step(trainer.step),
            trainer.start(),
            stop=trainer.schedule.patience,
            max_iter=self.max_iter,
            on_step=on_step,
        )
        if result.status is Status.MAX_ITER and self.learning_rate == "cosine":
            result = replace(result, status=Status.CONVERGED)  # it has gone its way
        self._set(**self._attributes(trainer, result, earlier))
        loop.end()
        self._report(result)
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        self._check_parameters()
        going_on = hasattr(self, "module_")
        trainer = self._trainer(X, sample_weight, warm=going_on, early_stopping=False)
        if going_on and hasattr(self, "_optimiser"):
            trainer.optimiser.load_state_dict(self._optimiser)
        earlier = self._histories() if going_on else ((), ())
        n_iter = self.n_iter_ if going_on else 0
        result = iterate(
            trainer.step, trainer.start(), stop=trainer.schedule.patience, max_iter=1
        )
        self._set(**self._attributes(trainer, result, earlier))
        self._set(n_iter_=n_iter + result.n_iter, _optimiser=trainer.optimiser.state_dict())
        return self

    # The fit.

    def _trainer(self, X: Any, sample_weight: Any, *, warm: bool, early_stopping: bool) -> Any:
        """Encode the rows, and make networks to train on them, or take over the present ones."""
        import torch

        from skemvae.likelihoods.table import Table, assign_columns, is_numeric
        from skemvae.networks.architecture import Architecture
        from skemvae.networks.gradients import ESTIMATORS
        from skemvae.networks.inference import device_of
        from skemvae.networks.training import Codes, Schedule, Trainer

        frame = X
        X = self._check_rows(X, numeric=is_numeric(self.likelihood), reset=not warm, n_min=2)
        weight = check_weights(sample_weight, X)
        if weight is None:
            weight = np.ones(X.shape[0])
        elif weight.min() == 0:
            X, weight = _safe_indexing(X, np.flatnonzero(weight)), weight[weight > 0]
        rng = check_random_state(self.random_state)
        generator = torch.Generator().manual_seed(int(rng.randint(2**31)))
        architecture = Architecture(
            self.n_components,
            self._hidden_layer_sizes,
            self.activation,
            self.prior,
            self.n_prior_components,
            shared_encoder=self.update == "joint",
        )
        if warm:
            self._check_unchanged(architecture)
            table, vae = self._table, copy.deepcopy(self.module_)
        else:
            names = getattr(self, "feature_names_in_", range(X.shape[1]))
            blocks = assign_columns(self.likelihood, frame, names)
            table = Table.of(blocks, X, names, weight, self.standardize)
        codes = Codes.of(table.encode(X, np.float32, exact=False), weight)
        if not warm:
            heads = [head for head, _ in blocks]
            vae = architecture.build(heads, table.blocks, table.slices, codes, generator)
            score_seed = int(rng.randint(2**31))
            self._set(_table=table, _architecture=architecture, _score_seed=score_seed)

        device = device_of(self.device)
        n_held_out = math.ceil(self.validation_fraction * len(codes)) if early_stopping else 0
        held_out, training = codes.to(device).split(n_held_out, generator)
        if device.type != "cpu":
            generator = torch.Generator(device).manual_seed(int(rng.randint(2**31)))
        return Trainer(
            vae.to(device),
            training,
            held_out,
            estimator=ESTIMATORS[self.objective, self.gradient],
            schedule=Schedule(
                self.learning_rate,
                self.learning_rate_init,
                self.max_iter,
                self.kl_warmup,
                self._patience(),
            ),
            batch_size=self._batch_size(len(training)),
            n_samples=self.n_importance_samples,
            alternating=self.update == "alternating",
            generator=generator,
        )

    def _histories(self) -> tuple[list[float], list[float]]:
        """What an earlier fit has recorded."""
        validation = self.validation_lower_bounds_
        return list(self.lower_bounds_), [] if validation is None else list(validation)

    def _patience(self) -> Patience:
        if self.learning_rate == "cosine":  # ends when its rate is 0
            return Patience(self.max_iter + 1, self.tol)
        n_plateaus = _PLATEAUS if self.learning_rate == "adaptive" else 1
        return Patience(self.n_iter_no_change, self.tol, self.kl_warmup, n_plateaus)

    def _batch_size(self, n: int) -> int:
        if self.batch_size == "auto":
            return min(max(n // 20, 32), 256)
        return min(int(self.batch_size), n)

    def _attributes(
        self, trainer: Any, result: Result[Any], earlier: tuple[list[float], list[float]]
    ) -> dict[str, Any]:
        """Everything that fit sets, at the best weights so far."""
        from skemvae.networks.training import n_active_units

        vae = copy.deepcopy(trainer.vae)
        vae.load_state_dict(result.state.best)
        vae.requires_grad_(True).eval()
        log_volume = self._table.log_volume
        histories = [
            [*before, *(np.array(bounds[bool(before) :]) - log_volume)]
            for before, bounds in zip(
                earlier, (result.state.training_bounds, result.state.watched), strict=True
            )
        ]
        return {
            "lower_bounds_": np.array(histories[0]),
            "validation_lower_bounds_": np.array(histories[1]) if len(trainer.held_out) else None,
            "lower_bound_": trainer.evaluate(trainer.training, vae) - log_volume,
            "n_active_units_": n_active_units(vae, trainer.training),
            "converged_": result.status is Status.CONVERGED,
            "status_": str(result.status),
            "n_iter_": result.n_iter,
            "n_parameters_": vae.n_parameters,
            "module_": vae.to("cpu"),
        }

    def _report(self, result: Result[Any]) -> None:
        """Say how the fit ended, unless all is well."""
        if result.status is Status.DIVERGED:
            raise FloatingPointError(
                f"The bound became non-finite after epoch {result.n_iter}, at any learning rate; "
                "the best weights before that are kept. Lower learning_rate_init, look for "
                "extreme values in X, or raise the floor of the variance."
            )
        if result.status is Status.INTERRUPTED:
            message = f"Interrupted after {result.n_iter} epochs: the best weights are kept."
        elif result.status is Status.MAX_ITER and self.max_iter > 0:
            message = (
                f"max_iter={self.max_iter} epochs were not enough: the bound still rises. Increase "
                "max_iter or learning_rate_init, or set learning_rate='cosine' to end there."
            )
        elif self.n_active_units_ == 0 and self.max_iter > 0:
            message = (
                "Posterior collapse: n_active_units_=0, q(z|x) is the same for all rows, and z "
                "explains nothing. Set kl_warmup, choose a smaller n_components or a larger "
                "learning_rate_init; or the columns are independent."
            )
        else:
            return
        warnings.warn(message, ConvergenceWarning, stacklevel=4)

    # Parameters.

    def _check_parameters(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name, smallest in _INTEGERS.items():
            value = getattr(self, name)
            if isinstance(value, bool):
                raise TypeError(f"{name}={value} must be an int.")
            check_scalar(value, name, Integral, min_val=smallest)
        check_scalar(self.tol, "tol", Real, min_val=0)
        check_scalar(
            self.learning_rate_init, "learning_rate_init", Real, min_val=0, include_boundaries="neither"
        )
        check_scalar(
            self.validation_fraction,
            "validation_fraction",
            Real,
            min_val=0,
            max_val=1,
            include_boundaries="neither",
        )
        if self.batch_size != "auto":
            check_scalar(self.batch_size, "batch_size", Integral, min_val=1)
        if self.gradient == "score_function" and self.n_importance_samples < 2:
            raise ValueError(
                f"gradient='score_function' takes the other samples as a baseline: "
                f"n_importance_samples={self.n_importance_samples} must be at least 2."
            )

    @property
    def _hidden_layer_sizes(self) -> tuple[int, ...]:
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object)).tolist()
        for size in sizes:
            if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
                raise ValueError(
                    f"hidden_layer_sizes={self.hidden_layer_sizes} must hold positive integers; "
                    "() means linear maps."
                )
        return tuple(int(size) for size in sizes)

    def _check_unchanged(self, architecture: Any) -> None:
        if architecture != self._architecture:
            raise ValueError(
                f"The fitted networks are {self._architecture}, but the parameters now ask for "
                f"{architecture}: set warm_start=False, or fit anew."
            )
