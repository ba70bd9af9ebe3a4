"""``VAEEstimator``: amortised variational inference with networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from skemvae.callbacks import LoopProgress, with_callbacks
from skemvae.core.iterate import Result, Status, conclude
from skemvae.deep_density import DeepDensity, report
from skemvae.engine.passes.threads import in_region
from skemvae.fitting import fitting
from skemvae.optional import require
from skemvae.parameters import (
    check_parameters,
    choice,
    either,
    flag,
    integer,
    number,
    sizes,
    verbosity,
)
from skemvae.typing import ArrayLike, LikelihoodLike, MatrixLike, RandomState
from skemvae.validation import keywords_named

_RULES = {
    "n_components": integer(1),
    "hidden_layer_sizes": sizes,
    "activation": choice(
        {"identity", "logistic", "tanh", "relu", "softplus", "elu", "silu", "gelu"}
    ),
    "n_prior_components": integer(1),
    "objective": choice({"elbo", "iwae"}),
    "gradient": choice({"reparameterization", "doubly_reparameterized", "score_function"}),
    "n_importance_samples": integer(1),
    "n_score_samples": integer(1),
    "update": choice({"joint", "alternating"}),
    "learning_rate": choice({"adaptive", "constant", "cosine"}),
    "learning_rate_init": number(boundaries="neither"),
    "batch_size": either("auto", integer(1)),
    "kl_warmup": integer(0),
    "max_iter": integer(0),
    "n_iter_no_change": integer(1),
    "tol": number(),
    "early_stopping": flag,
    "validation_fraction": number(0, 1, boundaries="neither"),
    "standardize": flag,
    "warm_start": flag,
    "verbose": verbosity,
}


class VAEEstimator(DeepDensity):
    """Variational autoencoder: p(x, z), trained together with one network q(z|x) for all rows.

    A decoder maps a latent z to the distribution of a row x, and an encoder
    maps x to q(z|x). Both maximise the evidence lower bound
    E_q[log p(x, z)] + H[q] <= log p(x). Maximising it over the encoder alone is
    EM's E step, over the decoder and the prior alone its M step. Densities are
    in nats and in the units of X, with every constant, and so are comparable
    with those of ``EMGaussianMixture``.

    Needs torch (``pip install "skemvae[vae]"``), which is imported when a VAE
    is fitted.

    Parameters
    ----------
    n_components : int, default=2
        Number of latent dimensions.
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Sizes of the encoder's hidden layers; the decoder has them in reverse
        order. () means affine maps in both directions: with a Gaussian
        likelihood this is factor analysis, from which training starts. Real
        columns also have an affine map past the hidden layers. At the first
        plateau, training continues from the factor model if that has the higher
        density.
    activation : str, default="relu"
        "identity", "logistic", "tanh", "relu", "softplus", "elu", "silu" or
        "gelu".
    likelihood : str, Likelihood or list of (likelihood, columns), default="gaussian"
        Distribution of a column given z: "gaussian", "lognormal" (positive
        amounts), "student_t", "bernoulli", "poisson", "negative_binomial" or
        "categorical", an object of ``skemvae.likelihoods`` such as
        ``Gaussian(variance="row")``, or pairs for mixed tables, with columns
        as in scikit-learn's ``ColumnTransformer``. Each column must be in
        exactly one pair.
    prior : {"normal", "mixture", "vamp"}, default="normal"
        p(z): standard normal, a learned mixture of Gaussians, or a learned
        average of the posteriors of learned pseudo-inputs (VampPrior).
    n_prior_components : int, default=16
        Number of Gaussians or pseudo-inputs of the prior.
    objective : {"elbo", "iwae"}, default="elbo"
        The bound to maximise. The importance-weighted bound ("iwae") becomes
        tighter with more samples.
    n_importance_samples : int, default=1
        Samples of z for each row and step.
    gradient : str, default="reparameterization"
        "reparameterization", "doubly_reparameterized" (for the ELBO: along
        the path only) or "score_function" (REINFORCE; at least 2 samples).
        All are unbiased.
    update : {"joint", "alternating"}, default="joint"
        "joint" updates all networks at once; "alternating" updates in turns,
        for an epoch each, the encoder alone (an E step) and the rest alone (an
        M step).
    kl_warmup : int, default=30
        Epochs over which the weight of the KL term rises to 1, to prevent
        posterior collapse; at most a quarter of ``max_iter``, and none if
        training continues from earlier weights. Reported bounds always have
        weight 1.
    learning_rate : {"adaptive", "constant", "cosine"}, default="adaptive"
        "adaptive" divides the rate by 3 at a plateau and continues from the
        best weights; it stops at a plateau if the best bound has risen by no
        more than ``tol`` since the one before. "constant" stops at the first
        plateau. "cosine" falls to 0 over all of ``max_iter``.
    learning_rate_init : float, default=3e-3
        Initial learning rate of Adam.
    batch_size : int or "auto", default="auto"
        Rows per batch; "auto" takes a sixteenth of the rows, between 64 and
        256.
    max_iter : int, default=500
        Largest number of epochs. 0 returns the untrained start.
    early_stopping : bool, default=True
        Whether to watch the bound on held-out rows instead of that on the
        training rows.
    validation_fraction : float, default=0.1
        Share of the rows that is held out for ``early_stopping``.
    n_iter_no_change : int, default=10
        Number of epochs over which the plateau test averages. A plateau is
        reached when the mean bound of these epochs is at most ``tol`` above that
        of as many epochs before, all since the last plateau or the end of the
        warm-up. If a quarter of the epochs since then is more, it averages over
        that quarter, but at most over three times ``n_iter_no_change``.
    tol : float, default=1e-3
        Smallest gain that counts, in nats per sample.
    standardize : bool, default=True
        Whether to scale real columns to mean 0 and variance 1 internally.
        Densities are in the units of X either way.
    n_score_samples : int, default=256
        Number of points with which ``score_samples`` estimates log p(x) of each
        row; the more, the closer. Rounded up to a multiple of 16.
    device : str, default="auto"
        "cpu", "cuda" or another device of torch; "auto" takes a GPU if there
        is one. Fitted networks are kept on the CPU.
    random_state : int, Generator, RandomState or None, default=None
        Seed of everything random. On the same machine, the same seed gives the
        same result to the last bit, whatever the number of threads or jobs.
    warm_start : bool, default=False
        Whether ``fit`` continues from the weights of the last fit, if any.
    verbose : int or None, default=None
        None shows one line, on a terminal only, if a fit takes more than ten
        seconds; 0 is silent. 1 prints every tenth epoch, 2 also bound, gain and
        time. For a progress bar use scikit-learn's callbacks (from version 1.9
        on).

    Attributes
    ----------
    lower_bounds_ : ndarray of shape (n_iter + 1,)
        The bound on the training rows in nats per sample: at the start, then
        the mean over each epoch, while the weights change. Calls that continue
        training append to it.
    validation_lower_bounds_ : ndarray of shape (n_iter + 1,) or None
        The bound on held-out rows at the start and after each epoch, at the
        mean of the weights over the last 100 steps or the last epoch (with
        "cosine" at the weights themselves). None without early stopping; NaN
        for epochs of earlier calls without it.
    lower_bound_ : float
        The bound on the training rows at the returned weights, which are those
        with the best watched bound since the warm-up.
    n_iter_ : int
        Number of epochs of this call, or of all calls with ``partial_fit``.
    converged_ : bool
        Whether the stopping rule was met or a cosine schedule was completed.
    status_ : str
        "converged", "max_iter", "interrupted", "stopped_by_callback" or
        "diverged".
    n_active_units_ : int
        Number of latent dimensions whose posterior mean varies between rows
        (variance above 0.01).
    n_parameters_ : int
        Number of free parameters of p(x, z): decoder, likelihood and prior.
    module_ : torch.nn.Module
        The networks: ``encoder``, ``decoder``, ``prior``.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Only if X has string column names.

    References
    ----------
    Kingma and Welling (2014), "Auto-encoding variational Bayes"; Rezende,
    Mohamed and Wierstra (2014), "Stochastic backpropagation and approximate
    inference in deep generative models".

    Examples
    --------
    >>> import numpy as np
    >>> from skemvae import VAEEstimator
    >>> rng = np.random.RandomState(0)
    >>> angle = rng.uniform(0, 2 * np.pi, 500)
    >>> ring = np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.1, (500, 2))
    >>> vae = VAEEstimator(n_components=2, random_state=0).fit(ring)
    >>> on_the_ring, in_its_middle = vae.score_samples([[1.0, 0.0], [0.0, 0.0]])
    >>> bool(on_the_ring > in_its_middle)
    True
    """

    @keywords_named
    def __init__(
        self,
        n_components: int = 2,
        *,
        hidden_layer_sizes: int | Sequence[int] = (128, 128),
        activation: str = "relu",
        likelihood: LikelihoodLike = "gaussian",
        prior: str = "normal",
        n_prior_components: int = 16,
        objective: str = "elbo",
        n_importance_samples: int = 1,
        gradient: str = "reparameterization",
        update: str = "joint",
        kl_warmup: int = 30,
        learning_rate: str = "adaptive",
        learning_rate_init: float = 3e-3,
        batch_size: int | str = "auto",
        max_iter: int = 500,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-3,
        standardize: bool = True,
        n_score_samples: int = 256,
        device: str = "auto",
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int | None = None,
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

    def fit(self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit encoder, decoder and prior by stochastic ascent of the bound.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows; a frame or an array of objects for labels that are
            not numbers. A copy is held in memory, as float32 codes.
        y : Ignored
            Present for the API only.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts. Batches are random, so repeated rows
            and integer weights agree in expectation only.

        Returns
        -------
        self
            The fitted estimator; after Ctrl-C, with the best weights so far.

        Raises
        ------
        ValueError
            If X holds NaN, inf or a value outside the support of its
            likelihood, or a parameter is out of range.
        FloatingPointError
            If the bound becomes non-finite at ever smaller learning rates;
            the best weights before that are kept.

        Warns
        -----
        ConvergenceWarning
            If the fit did not converge or was interrupted, if a non-finite
            bound was undone, or if the posterior has collapsed.
        """
        self._check_parameters()
        with fitting(self) as draft:
            result = in_region(lambda _: draft._fit(X, y, sample_weight))
        report(self, result)
        return self

    def partial_fit(
        self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch over these rows.

        The first call creates the networks and fixes the units, so its rows
        should be representative and hold every label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : Ignored
            Present for the API only.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts.

        Returns
        -------
        self
            Trained for one more epoch; ``n_iter_`` counts all epochs.

        Raises
        ------
        ValueError, FloatingPointError
            As in ``fit``. After a FloatingPointError the weights are those
            before the call.
        KeyboardInterrupt
            After Ctrl-C; the weights are those before the call.
        """
        self._check_parameters()
        with fitting(self) as draft:
            result = in_region(lambda _: draft._train(X, sample_weight))
        if result.status is Status.DIVERGED:
            report(self, result)
        return self

    @with_callbacks
    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Result[Any]:
        """Fit everything, with valid parameters."""
        require("torch", purpose=type(self).__name__)
        from skemvae.networks.fit import VAEFit

        going_on = self.warm_start and hasattr(self, "module_")
        kl_warmup = 0 if going_on else min(self.kl_warmup, self.max_iter // 4)
        fit = VAEFit(self, X, sample_weight, going_on, self.early_stopping, kl_warmup)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        told = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        context = self._init_callback_context(max_subtasks=self.max_iter)
        loop = LoopProgress(self, context, "epoch", 10, told)

        def on_step(so_far: Result[Any]) -> bool:
            bound = so_far.bounds[-1] - fit.table.log_volume
            return loop.end_step(so_far.n_iter, bound, lambda: fit.attributes(so_far))

        def look_back() -> None:
            loop.end()
            self._remember_surprise(fit.rows, fit.weight)

        result: Result[Any] = fit.run(self.max_iter, loop.step(fit.trainer.step), on_step)
        return conclude(result, lambda result: self._set(**fit.attributes(result)), look_back)

    def _train(self, X: Any, sample_weight: Any) -> Result[Any]:
        """Train for one epoch."""
        require("torch", purpose=type(self).__name__)
        from skemvae.networks.fit import VAEFit

        going_on = hasattr(self, "module_")
        n_iter = self.n_iter_ if going_on else 0
        fit = VAEFit(self, X, sample_weight, going_on, early_stopping=False, kl_warmup=0)
        if going_on and self._optimiser is not None:
            fit.trainer.optimiser.load_state_dict(self._optimiser)
        result: Result[Any] = fit.run(1)
        if result.status is Status.INTERRUPTED:
            raise KeyboardInterrupt  # the caller's loop must stop, too
        self._set(
            **fit.attributes(result, last=True)
            | {
                "n_iter_": n_iter + result.n_iter,
                "_optimiser": fit.trainer.optimiser.state_dict(),
            }
        )
        return result

    # Parameters.

    def _check_parameters(self) -> None:
        check_parameters(self, _RULES)
        if self.gradient == "score_function" and self.n_importance_samples < 2:
            raise ValueError(
                f"gradient='score_function' takes the other samples as a baseline: "
                f"n_importance_samples={self.n_importance_samples} must be at least 2."
            )
