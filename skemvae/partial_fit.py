"""A call of ``EMGaussianMixture.partial_fit``: one step of online EM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Self

import numpy as np

from skemvae.core.arrays import power_of_two
from skemvae.core.covariance import Covariance
from skemvae.core.em import EMState, MixtureEM
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.iterate import Status
from skemvae.core.rows import Frame, Rows
from skemvae.em_fit import ExactEM
from skemvae.engine.passes.choice import fastest_pass
from skemvae.engine.passes.threads import in_region
from skemvae.engine.samples.summary import Extent, Summary
from skemvae.engine.starts.initialisation import sketch_size
from skemvae.engine.starts.regularisation import Regularisation
from skemvae.fitting import fitting
from skemvae.mixture_density import MixtureDensity
from skemvae.mixtures.stream import Stream, online_step
from skemvae.tables.reading import check_rows
from skemvae.typing import ArrayLike, MatrixLike
from skemvae.validation import check_enough, check_range, check_weights


class OnlineMixture(MixtureDensity, ABC):
    """A Gaussian mixture that also learns from rows batch by batch."""

    @abstractmethod
    def _check_parameters(self) -> type[Covariance]:
        """Check the parameters; the structure that they ask for."""

    def partial_fit(
        self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Take one step of online EM on a batch of rows.

        The step averages the expected moments of the batch with those of all rows
        before it, and takes the M step. No rows are kept.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The batch. The first one also gives the start, so it needs at least
            as many rows as there are components, and should be a random sample
            of at least 5 rows per free parameter; later ones can be of any size.
        y : Ignored
            Present for the API only.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts, relative to all rows of all batches.

        Returns
        -------
        self
            After the first batch, all methods can be used.

        Raises
        ------
        ValueError
            As for ``fit``, and if X does not have the columns of the first batch.
            The estimator is then unchanged.
        KeyboardInterrupt
            After Ctrl-C. The estimator is then unchanged.

        See Also
        --------
        fit : Batch EM, for a table that can be read again and again.

        Notes
        -----
        After ``fit``, the steps continue from its parameters, and the rows of the
        fit count as the first batch. After ``from_parameters``, the first batch
        takes an ordinary EM iteration from these parameters.

        Let s be the share of the batch in the weight of all rows so far, including
        its own; for the t-th of batches of equal size, s = 1 / t. A batch moves the
        averaged moments by ``min(1, 3 s ** learning_decay)`` of the way to its own.
        E steps are taken at other, *climbing* parameters, whose moments move by
        ``min(1, 5 s ** (learning_decay / 2))``. A batch of fewer than 5 rows per free
        parameter moves either by at most ``max(s, n_samples / (5 *
        n_parameters_))``, so that enough rows remain to determine the parameters.

        The ridge is that of ``fit``, from running averages of the variances and of
        the grain of the features. In the grain, batches are weighted by their gaps,
        since a few rows do not show which values are close. You decide when to stop.
        ``lower_bound_`` is the bound of the batch at the climbing parameters *before*
        the step. If no row comes twice, these parameters have not seen its rows.

        Rows must come in random order. A sorted table acts as a drifting stream:
        the components follow it, and forget how it began.

        References
        ----------
        Cappé and Moulines (2009), "On-line expectation-maximization algorithm for
        latent data models"; Liang and Klein (2009), "Online EM for unsupervised models";
        Polyak and Juditsky (1992), "Acceleration of stochastic approximation by averaging".

        Examples
        --------
        Two passes over a table, in a different order each time:

        >>> import numpy as np
        >>> from skemvae import EMGaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> X = np.concatenate([rng.normal(-3, 1, (5000, 1)), rng.normal(3, 1, (5000, 1))])
        >>> mixture = EMGaussianMixture(2, random_state=0)
        >>> for _ in range(2):
        ...     for rows in np.array_split(rng.permutation(len(X)), 10):
        ...         mixture = mixture.partial_fit(X[rows])
        >>> mixture.n_samples_seen_, mixture.n_iter_
        (20000, 20)
        >>> bool(mixture.score(X) > EMGaussianMixture(2, random_state=0).fit(X).score(X) - 0.01)
        True
        """
        structure = self._check_parameters()
        with fitting(self) as draft:
            in_region(lambda _: draft._take(structure, X, sample_weight))
        return self

    def _take(self, structure: type[Covariance], X: Any, sample_weight: Any) -> None:
        """Take one step on a batch."""
        going_on = hasattr(self, "means_")
        n_min = 1 if going_on else 2
        X = check_rows(self, X, numeric=True, reset=not going_on, n_min=n_min)
        rows = Rows.of(X, check_weights(sample_weight, X))
        self._set(**_step_on_batch(self, structure, rows))


def remembered(stream: Stream, regularisation: Regularisation) -> dict[str, Any]:
    """Return what ``partial_fit`` continues from, and ``reg_covar_``.

    Parameters
    ----------
    stream : Stream
        After all rows so far.
    regularisation : Regularisation
        What ``reg_covar`` asks for.

    Returns
    -------
    dict
        Fitted attributes by name.
    """
    return {
        "n_samples_seen_": stream.n_rows,
        "reg_covar_": regularisation.share(stream.grain),
        "_stream": stream,
    }


def _step_on_batch(estimator: Any, structure: type[Covariance], rows: Rows) -> dict[str, Any]:
    """Take a step on some rows and return the fitted attributes.

    Parameters
    ----------
    estimator : EMGaussianMixture
        With valid parameters; if it is not fitted, the rows also give the start.
    structure : type of Covariance
    rows : Rows
        Finite, in their own units, some of them of positive weight.

    Raises
    ------
    ValueError
        If the structure does not support online EM; if values or weights exceed
        the range of float64; if there are too few rows for a start; or if the
        fitted mixture has another number of components or another
        ``covariance_type``.
    KeyboardInterrupt
        After Ctrl-C, even where ``fit`` would continue with the best result so
        far, since the caller runs the loop over the batches.
    """
    if not structure.goes_online:
        raise ValueError(
            f"partial_fit does not support covariance_type={structure.name!r}, whose moments "
            "depend on the parameters: use fit, which also reads tables in parts (from_batches, "
            "memmaps, dask)."
        )
    going_on = hasattr(estimator, "means_")
    extent = rows.fold(Extent.of)
    if not going_on:
        check_enough(extent, estimator.n_components)
    rows = rows.framed(rows.frame, float(power_of_two(np.asarray(extent.heaviest))))
    own = Summary.of(rows, extent)
    check_range(own)
    size = sketch_size(estimator.n_components, len(own.spread))
    own_frame = Frame(own.mean, structure.units(own.scale))
    grain = own.grain(own.sketch(rows.framed(own_frame), size), own_frame)
    regularisation = Regularisation.of(estimator, structure)
    batch = Stream.of(extent, own, grain, regularisation.noise(own, grain))
    before = getattr(estimator, "_stream", None) or batch.unseen
    if not np.isfinite(before.weight + batch.weight):
        raise ValueError(
            "The sum of sample_weight exceeds the range of float64: divide all weights by 1e300."
        )
    n_parameters = getattr(estimator, "n_parameters_", 1)
    steps = before.step_sizes(batch, estimator.learning_decay, n_parameters)

    # The frame and the ridge are those of the averages that include the batch.
    after = before.followed_by(batch, steps.average, regularisation.noise)
    summary = after.summary
    frame = Frame(summary.mean, structure.units(summary.scale))
    rows = rows.framed(frame)
    if going_on:
        average, climbing = (
            model.into(frame).regularised(after.noise / frame.scale**2)
            for model in _going_on(estimator, before)
        )
        state = MixtureEM(rows, fastest_pass).start(climbing)
    else:
        state = _start(ExactEM(estimator, structure, rows, summary, warm=False))
        average = state.model
    average = online_step(average, state.expectation, steps.average)
    climbing = online_step(state.model, state.expectation, steps.climb)
    return {
        **estimator._parameters(average.out_of(frame)),
        **remembered(replace(after, climbing=climbing.out_of(frame)), regularisation),
        "lower_bounds_": np.append(getattr(estimator, "lower_bounds_", ()), state.bound),
        "lower_bound_": state.bound,
        "converged_": False,
        "status_": str(Status.ONGOING),
        "n_iter_": getattr(estimator, "n_iter_", 0) + 1,
        "_mean_surprise": None,
    }


def _going_on(estimator: Any, before: Stream) -> tuple[GaussianMixture, GaussianMixture]:
    """The parameters of the estimator, and the climbing ones."""
    mixture: GaussianMixture = replace(estimator._mixture(), noise=before.noise)
    if len(mixture.weights) != estimator.n_components:
        raise ValueError(
            f"n_components={estimator.n_components}, but the fitted mixture has "
            f"{len(mixture.weights)} components: set n_components back, or start again with fit."
        )
    climbing = mixture if before.climbing is None else before.climbing
    return mixture, climbing


def _start(em: ExactEM) -> EMState[GaussianMixture]:
    state, interrupted = next(em.starts(1))
    if interrupted:
        raise KeyboardInterrupt
    return state
