"""A fit of ``VAEEstimator``, from rows to networks to fitted attributes. Imports torch."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from skemvae.array_api import as_numpy
from skemvae.core.iterate import Patience, Result, Status, iterate
from skemvae.doubts import DoubtfulFitWarning
from skemvae.engine.passes.torch_device import device_of
from skemvae.likelihoods.columns import Table, assign_columns, is_numeric
from skemvae.networks.architecture import Architecture
from skemvae.networks.codes import Codes
from skemvae.networks.factors import factor_model
from skemvae.networks.gradients import ESTIMATORS
from skemvae.networks.priors import PRIORS
from skemvae.networks.training import Progress, Schedule, Trainer
from skemvae.networks.vae import n_active_units
from skemvae.tables.reading import check_rows
from skemvae.validation import check_choice, check_random_state, counting_rows, escaped

# With an adaptive rate, a fit ends only after the rate has fallen at least once.
_PLATEAUS = 2
_SMALLEST_WEIGHT = 1e-20


class VAEFit:
    """One call of ``fit`` or ``partial_fit``.

    Parameters
    ----------
    estimator : VAEEstimator
        With valid parameters.
    X, sample_weight : array-like
        As passed by the user.
    going_on : bool
        Whether to continue training the networks that the estimator has.
    early_stopping : bool
        Whether to hold out rows.
    kl_warmup : int
        Epochs over which the weight of the KL term rises.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        sample_weight: Any,
        going_on: bool,
        early_stopping: bool,
        kl_warmup: int,
    ):
        self.estimator = estimator
        check_choice("prior", estimator.prior, PRIORS)
        frame = as_numpy(X)
        X = check_rows(estimator, X, numeric=is_numeric(estimator.likelihood), reset=not going_on)
        X, weight = counting_rows(X, sample_weight)
        self.rows, self.weight = X, weight
        weight = _relative(weight, X.shape[0])
        names = getattr(estimator, "feature_names_in_", range(X.shape[1]))
        blocks = assign_columns(estimator.likelihood, frame, names)
        self.design = {
            "architecture": self._architecture(),
            "likelihood": [(repr(head), columns.tolist()) for head, columns in blocks],
            "standardize": estimator.standardize,
        }
        self.n_epochs = estimator._n_epochs if going_on else 0
        rng = check_random_state(estimator.random_state)
        # Each call gets other noise, even with the same random_state.
        entropy = np.random.SeedSequence([rng.randint(2**31), self.n_epochs])
        seeds = [int(seed) for seed in entropy.generate_state(3)]
        generator = torch.Generator().manual_seed(seeds[0])
        if going_on:
            self._check_design()
            self.table, vae = estimator._table, copy.deepcopy(estimator.module_)
            codes = self._codes(X, weight)
            self.score_seed = estimator._score_seed
            self.earlier = _history(estimator)
        else:
            self.table = Table.of(blocks, X, names, weight, estimator.standardize)
            codes = self._codes(X, weight)
            heads = [head for head, _ in blocks]
            vae = self.design["architecture"].build(heads, self.table, codes, generator)
            self.score_seed = seeds[1]
            self.earlier = ([], [])

        device = device_of(estimator.device)
        n_held_out = math.ceil(estimator.validation_fraction * len(codes)) if early_stopping else 0
        held_out, training = codes.split(min(n_held_out, len(codes) - 1), generator)
        rival = None
        if not going_on and vae.decoder.real:
            linear = factor_model(vae, self.table, training, generator)
            if self.design["architecture"].hidden_layer_sizes:
                rival = linear.to(device)
            else:
                vae = linear
        if device.type != "cpu":
            generator = torch.Generator(device).manual_seed(seeds[2])
        self.trainer = Trainer(
            vae.to(device),
            training.to(device),
            held_out.to(device),
            estimator=ESTIMATORS[estimator.objective, estimator.gradient],
            schedule=self._schedule(kl_warmup),
            batch_size=self._batch_size(len(training)),
            n_samples=estimator.n_importance_samples,
            alternating=estimator.update == "alternating",
            first_epoch=self.n_epochs,
            generator=generator,
            rival=rival,
        )

    def run(
        self,
        max_iter: int,
        step: Callable[[Any], Any] | None = None,
        on_step: Callable[[Result[Progress]], bool] | None = None,
    ) -> Result[Progress]:
        """Train for at most ``max_iter`` epochs; ``step`` may wrap the trainer's step."""
        result = iterate(
            step or self.trainer.step,
            self.trainer.start(),
            stop=self.trainer.schedule.patience,
            max_iter=max_iter,
            on_step=on_step,
        )
        if result.status is Status.MAX_ITER and self.trainer.schedule.kind == "cosine":
            return replace(result, status=Status.CONVERGED)  # the schedule is complete
        return result

    def attributes(self, result: Result[Progress], last: bool = False) -> dict[str, Any]:
        """Everything that fit sets, at the best weights so far or, if ``last``, at the latest."""
        vae = copy.deepcopy(self.trainer.vae)
        vae.load_state_dict(result.state.weights if last else result.state.best)
        vae.requires_grad_(True).eval()
        log_volume = self.table.log_volume
        training, validation = (
            np.array([*before, *(np.array(bounds[bool(before) :]) - log_volume)])
            for before, bounds in zip(
                self.earlier, (result.state.training_bounds, result.state.watched), strict=True
            )
        )
        if not len(self.trainer.held_out):
            validation[len(self.earlier[1]) :] = np.nan
        lower_bound = self.trainer.evaluate(self.trainer.training, vae) - log_volume
        active = n_active_units(vae, self.trainer.training)
        return {
            "lower_bounds_": training,
            "validation_lower_bounds_": None if np.isnan(validation).all() else validation,
            "lower_bound_": lower_bound,
            "n_active_units_": active,
            "converged_": result.status is Status.CONVERGED,
            "status_": str(result.status),
            "n_iter_": result.n_iter,
            "n_parameters_": vae.n_parameters,
            "module_": vae.to("cpu"),
            "_table": self.table,
            "_design": self.design,
            "_n_epochs": self.n_epochs + result.n_iter,
            "_score_seed": self.score_seed,
            "_optimiser": None,
            "_mean_surprise": None,
        }

    def _check_design(self) -> None:
        for name, asked in self.design.items():
            fitted = self.estimator._design[name]
            if asked != fitted:
                raise ValueError(
                    f"The fitted networks have {name} {fitted}, but the parameters now ask for "
                    f"{asked}: set warm_start=False, or fit again from scratch."
                )

    def _codes(self, X: Any, weight: Any) -> Codes:
        codes = self.table.encode(X, np.float32, exact=False)
        for j in np.flatnonzero(~np.isfinite(codes).all(0)):
            raise ValueError(
                f"Code column {j} leaves the range of float32, in which networks are trained: set "
                "standardize=True, or change its unit."
            )
        if grey := self.table.probabilities(codes):
            warnings.warn(
                f"{len(grey)} columns, such as {escaped(grey[0])}, hold values between 0 and 1, "
                "which a Bernoulli likelihood trains on as probabilities. But it scores 0 and 1 "
                "only: score and score_samples refuse such rows, and a search over them ends "
                "with NaN. To score them, threshold them or draw bits before the fit.",
                DoubtfulFitWarning,
                stacklevel=4,
            )
        return Codes.of(codes, weight)

    def _architecture(self) -> Architecture:
        chosen = self.estimator
        return Architecture(
            chosen.n_components,
            tuple(int(size) for size in np.atleast_1d(chosen.hidden_layer_sizes)),
            chosen.activation,
            chosen.prior,
            chosen.n_prior_components,
            shared_encoder=chosen.update == "joint",
        )

    def _schedule(self, kl_warmup: int) -> Schedule:
        chosen = self.estimator
        if chosen.learning_rate == "cosine":  # it ends when its rate is 0, never on a plateau
            patience = Patience(chosen.max_iter + 1, chosen.tol)
        else:
            n_plateaus = _PLATEAUS if chosen.learning_rate == "adaptive" else 1
            patience = Patience(chosen.n_iter_no_change, chosen.tol, kl_warmup, n_plateaus)
        return Schedule(
            chosen.learning_rate,
            chosen.learning_rate_init,
            chosen.max_iter,
            kl_warmup,
            patience,
        )

    def _batch_size(self, n: int) -> int:
        if self.estimator.batch_size == "auto":
            return min(max(n // 16, 64), 256, n)
        return min(int(self.estimator.batch_size), n)


def _relative(weight: Any, n: int) -> Any:
    """Weights divided by the largest one."""
    if weight is None:
        return np.ones(n)
    weight = weight / weight.max()
    if weight.min() < _SMALLEST_WEIGHT:
        raise ValueError(
            f"sample_weight holds weights that are {weight.min():.3g} of the largest, too small "
            "for float32: set them to 0."
        )
    return weight


def _history(estimator: Any) -> tuple[list[float], list[float]]:
    """Bounds recorded by earlier calls; NaN for epochs without held-out rows."""
    training, validation = estimator.lower_bounds_, estimator.validation_lower_bounds_
    validation = [] if validation is None else list(validation)
    return list(training), validation + [np.nan] * (len(training) - len(validation))
