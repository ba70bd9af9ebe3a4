"""A call of ``EMGaussianMixture.partial_fit``: one step of online EM."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from skemvae.core.arrays import power_of_two
from skemvae.core.covariance import Covariance
from skemvae.core.em import EMState, MixtureEM
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.iterate import Status
from skemvae.core.rows import Frame, Rows
from skemvae.em_fit import ExactEM
from skemvae.engine.passes.choice import fastest_pass
from skemvae.engine.samples.summary import Extent, Summary
from skemvae.engine.starts.initialisation import sketch_size
from skemvae.engine.starts.regularisation import Regularisation
from skemvae.mixtures.stream import Stream, online_step
from skemvae.validation import check_enough, check_range


def remembered(stream: Stream, regularisation: Regularisation) -> dict[str, Any]:
    """The attributes from which ``partial_fit`` continues, and ``reg_covar_``."""
    return {
        "n_samples_seen_": stream.n_rows,
        "reg_covar_": regularisation.share(stream.grain),
        "_stream": stream,
    }


def step_on_batch(estimator: Any, structure: type[Covariance], rows: Rows) -> dict[str, Any]:
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
