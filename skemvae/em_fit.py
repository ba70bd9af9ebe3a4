"""A fit of ``EMGaussianMixture``: EM from the starts that its parameters ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skemvae.core.arrays import power_of_two
from skemvae.core.covariance import Covariance
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.iterate import Result
from skemvae.core.rows import Frame, Rows
from skemvae.core.table import Table
from skemvae.doubts import Columns, is_beyond_doubt, listed
from skemvae.engine.climbs.whole_steps import State, em_on
from skemvae.engine.passes.choice import passes_on
from skemvae.engine.samples.grain import Grain
from skemvae.engine.samples.summary import Extent, Summary
from skemvae.engine.starts.initialisation import Initialiser, Start
from skemvae.engine.starts.regularisation import Regularisation
from skemvae.engine.starts.revival import revivals
from skemvae.structures.dense import as_matrices
from skemvae.tables.reading import check_extent, read
from skemvae.validation import (
    LARGEST_SQUARE,
    check_enough,
    check_mixture_weights,
    check_parameter_array,
    check_positive_definite,
    check_random_state,
    check_range,
    check_responsibilities,
)

# A number for reg_covar is too small below this fraction of what "auto" would give.
_ENOUGH = 0.1
# A component that holds fewer rows is dead.
_NEXT_TO_NOTHING = 1e-3
# Iterations on the sketch before a revival is judged.
_STEPS_OF_REVIVAL = 25
# Noise variances up to this multiple of their floor count as at the floor.
_AT_FLOOR = 1 + 1e-6


def framed_table(
    estimator: Any, structure: type[Covariance], X: Any, sample_weight: Any
) -> tuple[Table, Extent, Summary]:
    """Read and validate the rows; return them in their own frame, with extent and summary."""
    table = read(estimator, X, sample_weight)
    extent = check_extent(table, getattr(estimator, "feature_names_in_", None))
    check_enough(extent, estimator.n_components)
    weight_unit = power_of_two(np.asarray(extent.heaviest))
    table = table.framed(table.frame, float(weight_unit))
    summary = Summary.of(table, extent)
    check_range(summary)
    frame = Frame(summary.mean, structure.units(summary.scale))
    return table.framed(frame), extent, summary


class ExactEM:
    """EM on a table, from the most promising starts.

    Parameters
    ----------
    estimator : EMGaussianMixture
        With valid parameters.
    structure : type of Covariance
    table : Table
    summary : Summary
    warm : bool
        Whether to start from the estimator's own parameters.
    """

    def __init__(
        self,
        estimator: Any,
        structure: type[Covariance],
        table: Table,
        summary: Summary,
        warm: bool,
    ):
        self._estimator = estimator
        self._structure = structure
        passes = passes_on(estimator.device, estimator.posterior)
        self._em = em_on(table, passes, structure, estimator.n_components)
        self._summary = summary
        self._warm = warm
        self._initialiser = Initialiser.of(
            structure.races_as(), estimator.n_components, table, summary, self.regularisation
        )
        self._noise = self._initialiser.judge.noise
        self._given = self._warm_parameters() if warm else self._given_parameters()
        self._rng = check_random_state(estimator.random_state)
        self.step = self._em.step
        # An extrapolation handles all parameters: if these outnumber the data, EM steps cost less.
        unit = structure.identity(estimator.n_components, len(self._noise))
        known = self._initialiser.sketch.n_numbers
        self.accelerable = self._em if unit.n_parameters <= known else None

    @property
    def grain(self) -> Grain:
        """The grain of the table."""
        return self._initialiser.grain

    @property
    def regularisation(self) -> Regularisation:
        """The regularisation that ``reg_covar`` asks for."""
        return Regularisation.of(self._estimator, self._structure)

    @property
    def n_init(self) -> int:
        """The number of starts; 1 if the start is given."""
        init_params = self._estimator.init_params
        is_array = not isinstance(init_params, str) and not callable(init_params)
        given = "means" in self._given or is_array
        return 1 if given else self._estimator.n_init

    @property
    def _all_given(self) -> bool:
        return len(self._given) == 3

    def starts(self, n_init: int) -> Iterator[tuple[State, bool]]:
        """Yield starts with their bounds; if there are several, those that a race keeps."""
        models, interrupted = self._models(n_init)
        for model in models:
            try:
                yield self._em.start(model), interrupted
            except KeyboardInterrupt:  # a start needs its bound, so try once more
                yield self._em.start(model), True

    def jump(self, state: State) -> State | None:
        """A better fit that gives empty components rows again, or None."""
        judge, model = self._initialiser.judge, state.model
        # In a warm start on other rows, a component may have only a few rows left.
        fewest = judge.few_rows if self._warm else _NEXT_TO_NOTHING
        is_idle = judge.rows_of(model) < fewest
        candidates = list(revivals(model, is_idle, self._initialiser, self._rng))
        if not candidates:
            return None
        best, *_ = judge.race(candidates, _STEPS_OF_REVIVAL, 1)
        revived = self._em.start(self._of_structure(best.model))
        is_higher = revived.bound > state.bound + self._estimator.tol
        return revived if is_higher and judge.prefers(revived, state) else None

    def prefers(self, state: State, other: State) -> bool:
        """Whether a fit is better than one from another start."""
        return self._initialiser.judge.prefers(state, other)

    def attributes(self, state: State) -> dict[str, Any]:
        """The fitted parameters, in the units of X."""
        parameters: dict[str, Any] = self._estimator._parameters(
            state.model.out_of(self._em.table.frame)
        )
        return parameters

    def doubts(self, result: Result[State], names: Sequence[Any]) -> Iterator[str]:
        """Yield warnings about a fit that succeeded."""
        model, table = result.state.model, self._em.table
        covariance = model.covariance
        dead = np.flatnonzero(self._initialiser.judge.rows_of(model) < _NEXT_TO_NOTHING)
        if len(dead):
            yield (
                f"Components ({listed([str(k) for k in dead])}) hold no rows, and predict never "
                "returns them. Use fewer components or another start: change or drop means_init "
                "and weights_init."
            )
        missing = self.regularisation.missing(self.grain)
        if self.regularisation.share(self.grain) < _ENOUGH * missing:
            k, d = model.means.shape
            yield (
                f"{self.grain.n_rows} rows do not determine the {covariance.name!r} "
                f"covariances of {k} components in {d} columns: in some directions they have no "
                f"variance, so the density depends on reg_covar={self._estimator.reg_covar} alone. "
                "Use reg_covar='auto', covariance_type='tied' or 'diag', fewer components or "
                "columns, or FactorModel."
            )
            return
        varies = self._summary.spread > self._summary.floor
        yield from self._explained(model, varies, names)
        is_spherical = covariance.name == "spherical"
        floor = np.full_like(self._noise, self._noise.mean()) if is_spherical else self._noise
        if is_beyond_doubt(covariance, floor, varies):
            return
        columns = Columns(table, names, varies, "reg_covar")
        if as_matrices(covariance).block_size > 1:
            yield from columns.dependence(model.total_covariance, self._noise)
        means = table.frame.origin + table.frame.scale * model.means
        yield from columns.collapse(means, covariance.variances, floor)

    def _explained(
        self, model: GaussianMixture, varies: Any, names: Sequence[Any]
    ) -> Iterator[str]:
        """Warn of columns that the factors of some component explain completely."""
        covariance, floor = model.covariance, self._noise * _AT_FLOOR
        is_explained = (covariance.own_variances <= floor) & (covariance.variances > 2 * floor)
        columns = np.flatnonzero(is_explained.any(0) & varies)
        if len(columns):
            components = np.flatnonzero(is_explained[:, columns].any(1))
            yield (
                f"Columns ({listed([repr(names[int(j)]) for j in columns])}) are fully explained "
                f"by the factors in components ({listed([str(k) for k in components])}): their "
                "noise variance is at its floor (a Heywood case). Use fewer factors than "
                f"n_factors={self._estimator.n_factors}, or a larger reg_covar."
            )

    # Starts.

    def _of_structure(self, model: GaussianMixture) -> GaussianMixture:
        """Convert a model that has raced to the requested covariance structure."""
        if isinstance(model.covariance, self._structure):
            return model
        return replace(model, covariance=self._structure.nearest(model.covariance, self._noise))

    def _models(self, n_init: int) -> tuple[list[GaussianMixture], bool]:
        """The models to start from, and whether the user has interrupted the search."""
        if self._all_given:
            return [GaussianMixture(noise=self._noise, **self._given)], False
        models: list[GaussianMixture] = []
        try:
            for _ in range(n_init):
                start = self._search(self._initialiser)
                models.append(self._of_structure(replace(start.model, **self._given)))
                if start.interrupted:
                    raise KeyboardInterrupt
            if n_init > 1:
                models = self._initialiser.judge.finalists(models, self._estimator.max_iter)
        except KeyboardInterrupt:
            if not models:
                raise
            return models[:1], True
        return models, False

    def _search(self, initialiser: Initialiser) -> Start:
        init_params = self._estimator.init_params
        if isinstance(init_params, str):
            if "means" in self._given:
                return initialiser.from_centres(self._given["means"])
            return initialiser.by_name(init_params, self._rng)
        rows, n_components = self._em.table, self._estimator.n_components
        if not isinstance(rows, Rows):
            raise ValueError(
                f"init_params is a {type(init_params).__name__}, which gives responsibilities for "
                "rows in memory, but X is read in parts: give a string, or means_init."
            )
        if callable(init_params):
            init_params = init_params(rows.X, n_components, self._rng)
        responsibilities = check_responsibilities(
            "init_params", init_params, (rows.n_rows, n_components), rows.weight
        )
        return initialiser.from_responsibilities(responsibilities, rows)

    def _warm_parameters(self) -> dict[str, Any]:
        frame = self._em.table.frame
        shape = (self._estimator.n_components, len(frame.origin))
        fitted = np.shape(self._estimator.means_)
        if fitted != shape:
            raise ValueError(
                f"warm_start=True goes on from means_ of shape {fitted}, but n_components and X "
                f"ask for {shape}: set warm_start=False."
            )
        mixture = self._estimator._mixture().into(frame)
        return {
            "weights": mixture.weights,
            "means": mixture.means,
            "covariance": mixture.covariance,
        }

    def _given_parameters(self) -> dict[str, Any]:
        """The initial parameters that the user gives, in the frame."""
        chosen, frame = self._estimator, self._em.table.frame
        k, d = chosen.n_components, len(frame.origin)
        given: dict[str, Any] = {}
        if chosen.weights_init is not None:
            given["weights"] = check_mixture_weights("weights_init", chosen.weights_init, k)
        if chosen.means_init is not None:
            means = check_parameter_array("means_init", chosen.means_init, (k, d))
            given["means"] = (means - frame.origin) / frame.scale
        if chosen.precisions_init is not None:
            matrices = self._structure.races_as()
            public = check_parameter_array(
                "precisions_init",
                chosen.precisions_init,
                matrices.public_shape(k, d),
                LARGEST_SQUARE,
            )
            precisions = matrices.from_public(public, k, d)
            check_positive_definite("precisions_init", precisions.values)
            # The inverse of the precision is the covariance.
            covariance = matrices(precisions.precisions).scaled(1 / frame.scale)
            given["covariance"] = self._structure.nearest(covariance, self._noise)
        return given
