"""The ascent of a Bayesian mixture: steps, then merges and splits once they converge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skemvae.core.rows import Rows
from skemvae.engine.starts.initialisation import Initialiser
from skemvae.mixtures.bayesian_mixture import State, VariationalBayes
from skemvae.mixtures.merging import merged
from skemvae.models.splitting import Splitter

# Steps in which the prior adapts to a split.
_STEPS = 4
# Least gain of a jump, in nats in total; anything less is rounding.
_WORTH = 1e-2


@dataclass(frozen=True)
class Climb:
    """Variational Bayes on some rows, with merges and splits.

    Attributes
    ----------
    ascent : VariationalBayes
        On the rows.
    sample : Rows
        A sample of the rows, with weights that add up to those of all rows.
    initialiser : Initialiser
        Holds the sketch on which splits are tried.
    rng : RandomState
    """

    ascent: VariationalBayes
    sample: Rows
    initialiser: Initialiser
    rng: np.random.RandomState

    def jump(self, state: State) -> State | None:
        """A better state that plain steps do not reach, or None."""
        return self.merged(state) or self._split(state)

    def merged(self, state: State) -> State | None:
        """The state after merging as long as the bound rises, or None if no merge raises it."""
        best = None
        while (
            model := merged(state.model, state.expectation.moments, self.sample)
        ) is not None and is_better(new := self.ascent.start(model), state):
            best = state = new
        return best

    def _split(self, state: State) -> State | None:
        splitter = Splitter(self.initialiser, self.rng)
        for moments in splitter.splits(state.model, state.expectation.moments):
            new = self.ascent.start(state.model.settled(moments, _STEPS))
            if is_better(new, state):
                return new
        return None


def is_better(new: State, state: State) -> bool:
    """Whether the bound is higher by more than rounding."""
    return new.bound > state.bound + _WORTH / state.expectation.total
