"""Variational EM for generalised factor models."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from skemvae.core.iterate import Fit
from skemvae.likelihoods.columns import Table, assign_columns
from skemvae.posteriors.expectations import Points
from skemvae.variational.factor_ascent import FactorAscent, FactorState
from skemvae.variational.factor_parameters import Factors, all_normal
from skemvae.variational.normal_fit import NormalAscent

# Plain steps at the end of a fit that show whether the gains are growing.
_STEPS_AWAY = 3


class FactorFit(Fit):
    """A fit of ``FactorModel``, from rows to codes to parameters."""

    def __init__(self, model: Any, X: Any, weight: Any, names: Any, rng: Any, previous: Any):
        self._model = model
        self._rng = rng
        self._previous = previous
        blocks = assign_columns(model.likelihood, X, names)
        self._heads = [head for head, _ in blocks]
        self._design = {
            "n_factors": model.n_factors,
            "likelihood": [(repr(head), columns.tolist()) for head, columns in blocks],
        }
        if previous is None:
            table = Table.of(blocks, X, names, weight, standardize=True)
            # Undo the sign flips of columns, which depend on the order of the rows.
            upright = tuple(units.upright() for units in table.blocks)
            self._table = replace(table, blocks=upright)
            self._seed = int(rng.randint(2**31))
            self._points = Points.of_dimension(model.n_factors, int(rng.randint(2**31)))
        else:
            self._check_design()
            self._table, self._seed = previous._table, previous._seed
            self._points = previous._points
        self._u = torch.from_numpy(self._table.encode(X, np.float64, exact=True))
        self._weight = torch.ones(len(self._u), dtype=torch.float64)
        if weight is not None:
            self._weight = torch.tensor(weight, dtype=torch.float64)
        log_volume = self._table.log_volume
        self._ascent: FactorAscent | NormalAscent
        if all_normal(self._heads):
            self._ascent = NormalAscent(self._u, self._weight, log_volume)
        else:
            self._ascent = FactorAscent(self._u, self._weight, self._points, log_volume)
            self.accelerable = self._ascent

    def _check_design(self) -> None:
        for name, asked in self._design.items():
            fitted = self._previous._design[name]
            if asked != fitted:
                raise ValueError(
                    f"The fitted model has {name} {fitted}, but the parameters now ask for "
                    f"{asked}: set warm_start=False."
                )

    def start(self) -> tuple[FactorState, bool]:
        if self._previous is not None:
            factors = copy.deepcopy(self._previous._as_fitted)
        else:
            factors = Factors.start(
                copy.deepcopy(self._heads),
                self._table,
                self._u,
                self._weight,
                self._model.n_factors,
                self._rng,
            )
        return self._ascent.begin(factors), False

    def step(self, state: FactorState) -> FactorState:
        return self._ascent.step(state)

    def jump(self, state: FactorState) -> FactorState | None:
        """The state after a few plain steps if their gains grow, as they do near a saddle."""
        path = [state]
        for _ in range(_STEPS_AWAY):
            path.append(self._ascent.step(path[-1]))
        before, middle, last = (each.bound for each in path[-3:])
        grows = last - middle > middle - before
        return path[-1] if grows and self.prefers(path[-1], state) else None

    def fitted(self, state: FactorState) -> Any:
        return clone(self._model)._set(
            copy.deepcopy(state.factors), self._table, self._points, self._seed, self._design
        )
