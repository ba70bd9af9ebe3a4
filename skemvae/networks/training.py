"""Stochastic ascent of the bound; an epoch is one step of ``core.iterate``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skemvae.core.iterate import DivergenceError, Patience
from skemvae.networks.codes import Codes
from skemvae.networks.gradients import ESTIMATORS, Estimator
from skemvae.networks.vae import VAE
from skemvae.posteriors.threads import Region, in_region

# The gradient of the mean bound is clipped to this norm, so that no single batch undoes an epoch.
_LONGEST_GRADIENT = 100.0
# Parameters of likelihoods, such as a log variance, move further than weights do, but a step of
# Adam is only about as long as its rate.
_HEAD_SPEED = 10.0
# How often in a row the rate is halved after a non-finite bound.
_ATTEMPTS = 8
# The bound is watched at the mean of the weights over this many steps, or over an epoch if that is
# longer: in each step weights jitter by about the rate, which costs more the less noisy the data.
_MEAN_OF_STEPS = 100
# Multiplications in a part of a batch that make it worth a thread.
_PRODUCTS_OF_A_PART = 10**8
_MOST_PARTS = 4
# Samples of z for each row to compare the densities of two networks.
_DENSITY_SAMPLES = 16


@dataclass(frozen=True)
class Schedule:
    """Learning rate and weight of the KL term in each epoch.

    Parameters
    ----------
    kind : {"adaptive", "constant", "cosine"}
    rate : float
        The initial rate.
    n_epochs : int
        Epochs after which a cosine reaches 0.
    kl_warmup : int
        Epochs over which the weight of the KL term rises to 1.
    patience : Patience
        Finds plateaus; each of them divides an adaptive rate by 3.
    """

    kind: str
    rate: float
    n_epochs: int
    kl_warmup: int
    patience: Patience

    def learning_rate(self, epoch: int, bounds: Sequence[float]) -> float:
        """Rate in epoch 0, 1, ..., given the history of the watched bound."""
        if self.kind == "cosine":
            return self.rate * 0.5 * (1 + math.cos(math.pi * epoch / max(1, self.n_epochs)))
        if self.kind == "adaptive":
            return float(self.rate / 3 ** len(self.patience.plateaus(bounds)))
        return self.rate

    def beta(self, epoch: int) -> float:
        """Weight of the KL term in epoch 0, 1, ..."""
        return min(1.0, (epoch + 1) / (self.kl_warmup + 1))


def _sum(terms: list[Tensor | None]) -> Tensor | None:
    """Sum of the parts' gradients; None if no part depends on the parameter."""
    found = [term for term in terms if term is not None]
    return sum(found[1:], found[0]) if found else None


def adam(vae: VAE) -> torch.optim.Adam:
    """A new optimiser of all parameters."""
    slow: list[Tensor] = []
    fast: list[Tensor] = []
    for name, parameter in vae.named_parameters():
        (fast if name.startswith("decoder.heads") else slow).append(parameter)
    groups = [{"params": slow, "speed": 1.0}, {"params": fast, "speed": _HEAD_SPEED}]
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)


Weights = dict[str, Tensor]


class RunningMean:
    """The approximate mean of the parameters of networks over their last steps.

    References
    ----------
    Polyak and Juditsky (1992), "Acceleration of stochastic approximation by
    averaging".
    """

    def __init__(self, vae: VAE, n_steps: int):
        self._parameters = [parameter.data for parameter in vae.parameters()]
        self._n_steps = n_steps
        self.restart()

    def restart(self) -> None:
        """Start again at the current parameters."""
        self._n_seen = 0
        self._mean = [parameter.clone() for parameter in self._parameters]

    def update(self) -> None:
        """Take in the parameters after a step."""
        self._n_seen += 1
        share = 1 / min(self._n_seen, self._n_steps)
        torch._foreach_lerp_(self._mean, self._parameters, share)

    def swap(self) -> None:
        """Exchange the mean and the parameters."""
        for mean, parameter in zip(self._mean, self._parameters, strict=True):
            now = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(now)


@dataclass(frozen=True)
class Progress:
    """The state of training after an epoch; bounds are those of the codes, in nats per sample.

    Attributes
    ----------
    watched : tuple of float
        The bound at the start and after each epoch, at the running mean of the
        parameters: on held-out rows, or on the training rows if there are none.
    training_bounds : tuple of float
        The bound at the start, then its mean over each epoch.
    weights : dict
        Parameters after the epoch.
    best : dict
        The running mean of the parameters with the best bound since the warm-up.
    best_bound : float
    """

    watched: tuple[float, ...]
    training_bounds: tuple[float, ...]
    weights: Weights
    best: Weights
    best_bound: float

    @property
    def bound(self) -> float:
        """The last watched bound."""
        return self.watched[-1]

    def followed_by(
        self, watched: float, training_bound: float, weights: Weights, mean: Weights
    ) -> Progress:
        """The state after the next epoch, where ``watched`` is the bound at ``mean``."""
        leads = watched > self.best_bound
        return Progress(
            (*self.watched, watched),
            (*self.training_bounds, training_bound),
            weights,
            mean if leads else self.best,
            watched if leads else self.best_bound,
        )


class Trainer:
    """Maximises the bound by Adam, epoch by epoch.

    At each plateau, training continues from the best weights. At the first it
    continues from the ``rival`` instead, if that has the higher density.

    Parameters
    ----------
    vae : VAE
        Trained in place.
    training, held_out : Codes
        ``held_out`` may have no rows.
    estimator : Estimator
        Of the gradient; see ``gradients``.
    schedule : Schedule
    batch_size, n_samples : int
        Rows per batch, and samples of z per row.
    alternating : bool
        Whether even epochs update φ alone (an E step) and odd ones θ alone (an
        M step).
    first_epoch : int
        Epochs for which the networks have been trained before.
    generator : torch.Generator
        On the device of the networks.
    rival : VAE, optional
        The same networks with other weights.
    """

    def __init__(
        self,
        vae: VAE,
        training: Codes,
        held_out: Codes,
        *,
        estimator: Estimator,
        schedule: Schedule,
        batch_size: int,
        n_samples: int,
        alternating: bool,
        first_epoch: int,
        generator: torch.Generator,
        rival: VAE | None = None,
    ):
        self.vae = vae
        self.rival = rival
        self.training = training
        self.held_out = held_out
        self.estimator = estimator
        self.schedule = schedule
        self.batch_size = batch_size
        self.n_samples = n_samples
        self.alternating = alternating
        self.first_epoch = first_epoch
        self.generator = generator
        self.parameters = list(vae.parameters())
        self.optimiser = adam(vae)
        # A cosine needs no mean, because its rate falls to 0.
        n_steps = max(_MEAN_OF_STEPS, math.ceil(len(training) / batch_size))
        self._mean = RunningMean(vae, 1 if schedule.kind == "cosine" else n_steps)
        self._caution = 1.0
        # Each part of a batch has its own random numbers, whichever thread computes it.
        self._generators = [
            torch.Generator(self.device).manual_seed(self._draw_seed())
            for _ in range(self._n_parts())
        ]
        self._evaluation_seed = self._draw_seed()

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.generator.device

    def start(self) -> Progress:
        """The state before the first epoch."""
        bound = self.evaluate(self.training)
        watched = self._watched(bound)
        weights = self._weights()
        return Progress((watched,), (bound,), weights, weights, watched)

    def step(self, progress: Progress) -> Progress:
        """Train for one epoch; after a non-finite bound, undo it and retry at half the rate.

        Raises
        ------
        DivergenceError
            If the bound stays non-finite however often the rate is halved.
        """
        epoch = len(progress.watched) - 1
        plateaus = self.schedule.patience.plateaus(progress.watched)
        if plateaus and plateaus[-1] == len(progress.watched):
            self.vae.load_state_dict(progress.best)
            if len(plateaus) == 1 and (rival := self._leading_rival()) is not None:
                self.vae.load_state_dict(rival.state_dict())
                bound = self._watched(-math.inf)
                progress = replace(progress, best=self._weights(), best_bound=bound)
            self._mean.restart()
        if epoch == self.schedule.kl_warmup > 0:  # earlier epochs maximised something else
            progress = replace(progress, best=progress.weights, best_bound=-math.inf)
            self._mean.restart()
        for _ in range(_ATTEMPTS):
            rate = self._caution * self.schedule.learning_rate(epoch, progress.watched)
            bound = self._climb(epoch, rate)
            weights = self._weights()
            self._mean.swap()
            watched, mean = self._watched(bound), self._weights()
            self._mean.swap()
            if math.isfinite(bound + watched) and all(w.isfinite().all() for w in weights.values()):
                return progress.followed_by(watched, bound, weights, mean)
            self.vae.load_state_dict(progress.weights)
            self._mean.restart()
            self.optimiser = adam(self.vae)
            self._caution /= 2
            warnings.warn(
                f"The bound became non-finite in epoch {epoch + 1}: back to the epoch before, "
                f"with half the learning rate ({rate / 2:.3g}).",
                ConvergenceWarning,
                stacklevel=2,
            )
        raise DivergenceError(f"non-finite down to a learning rate of {rate:.3g}")

    def evaluate(self, codes: Codes, vae: VAE | None = None) -> float:
        """The mean bound on rows, always with the same noise, in nats per sample."""
        return self._mean_bound(codes, vae or self.vae, self.estimator, self.n_samples)

    def _leading_rival(self) -> VAE | None:
        """The rival if its density is higher; the bound may be too loose to tell."""
        if self.rival is None:
            return None
        rows = self.held_out if len(self.held_out) else self.training
        iwae = ESTIMATORS["iwae", "reparameterization"]
        own, other = (
            self._mean_bound(rows, vae, iwae, _DENSITY_SAMPLES) for vae in (self.vae, self.rival)
        )
        return self.rival if other > own else None

    def _mean_bound(self, codes: Codes, vae: VAE, estimator: Estimator, n_samples: int) -> float:
        generator = torch.Generator(self.device).manual_seed(self._evaluation_seed)
        total = 0.0
        with torch.no_grad():
            for block in codes.blocks():
                u = vae.decoder.draw(block.u, generator)
                noise = self._noise(len(u), generator, n_samples)
                _, bound = estimator(vae, u, noise, 1.0)
                total += float((block.weight * bound).sum(dtype=torch.float64))
        return total / float(codes.weight.sum(dtype=torch.float64))

    def _watched(self, epoch_mean: float) -> float:
        if len(self.held_out):
            return self.evaluate(self.held_out)
        if self.schedule.kind == "cosine":  # it does not depend on plateaus
            return epoch_mean
        return self.evaluate(self.training)

    def _climb(self, epoch: int, rate: float) -> float:
        """Take one step for each batch; return the mean bound along the way."""
        beta = self.schedule.beta(epoch)
        if self.alternating:
            for parameters, turn in ((self.vae.theta(), 1), (self.vae.phi(), 0)):
                for parameter in parameters:
                    parameter.requires_grad_((self.first_epoch + epoch) % 2 == turn)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["speed"]
        climbing = [parameter for parameter in self.parameters if parameter.requires_grad]
        self.optimiser.zero_grad()
        return in_region(partial(self._climb_batches, climbing=climbing, beta=beta))

    def _climb_batches(self, region: Region, climbing: list[Tensor], beta: float) -> float:
        """Take one step in the ``climbing`` parameters for each batch."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in self.training.batches(self.batch_size, self.generator):
            parts = list(zip(batch.parts(len(self._generators)), self._generators, strict=True))
            for parameter in climbing:  # freed first, so that new gradients reuse the memory
                parameter.grad = None
            gradient = partial(self._gradient, climbing=climbing, beta=beta, n=len(batch))
            gradients, bounds = zip(*region.map(gradient, parts), strict=True)
            for parameter, *terms in zip(climbing, *gradients, strict=True):
                parameter.grad = _sum(terms)
            self._cut_gradient()
            self.optimiser.step()
            self._mean.update()
            total += sum(bounds)
        return float(total) / len(self.training)

    def _gradient(
        self, task: tuple[Codes, torch.Generator], climbing: list[Tensor], beta: float, n: int
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """A part's share in minus the gradient of a batch of n rows, and its total bound."""
        part, generator = task
        u = self.vae.decoder.draw(part.u, generator)
        noise = self._noise(len(u), generator, self.n_samples)
        surrogate, bound = self.estimator(self.vae, u, noise, beta)
        loss = torch.dot(part.weight, surrogate) / -n
        gradients = torch.autograd.grad(loss, climbing, allow_unused=True)
        return gradients, torch.dot(part.weight, bound)

    def _cut_gradient(self) -> None:
        gradients = [p.grad.flatten() for p in self.parameters if p.grad is not None]
        # Dot products by BLAS take a fraction of the time of norms.
        length = torch.stack([torch.dot(part, part) for part in gradients]).sum().sqrt()
        if length > _LONGEST_GRADIENT:  # rarely, so most steps need not rescale the gradients
            torch.nn.utils.clip_grads_with_norm_(self.parameters, _LONGEST_GRADIENT, length)

    def _draw_seed(self) -> int:
        return int(torch.randint(2**31, (), generator=self.generator, device=self.device))

    def _n_parts(self) -> int:
        """Number of parts of a batch, set by its size and not by the number of threads."""
        if self.device.type != "cpu":
            return 1
        n_weights = sum(p.numel() for p in self.parameters)
        products = min(self.batch_size, len(self.training)) * self.n_samples * n_weights
        return int(min(max(products // _PRODUCTS_OF_A_PART, 1), _MOST_PARTS))

    def _noise(self, n: int, generator: torch.Generator, n_samples: int) -> Tensor:
        shape = (n, n_samples, self.vae.n_components)
        return torch.randn(shape, generator=generator, device=self.device)

    def _weights(self) -> Weights:
        return {name: tensor.clone() for name, tensor in self.vae.state_dict().items()}
