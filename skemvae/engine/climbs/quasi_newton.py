"""Limited-memory BFGS: Newton steps with the curvature seen in the last moves."""

from __future__ import annotations

import numpy as np

from skemvae.core.arrays import Array
from skemvae.kernel import native


class Memory:
    """The last pairs of a move and its bend, the decrease of the gradient along the move.

    Parameters
    ----------
    capacity : int
        The number of pairs to remember.
    n_coordinates : int

    References
    ----------
    Nocedal (1980), "Updating quasi-Newton matrices with limited storage".
    """

    def __init__(self, capacity: int, n_coordinates: int):
        # These are ring buffers.
        self._moves = np.empty((capacity, n_coordinates))
        self._bends = np.empty((capacity, n_coordinates))
        self._curvatures = np.empty(capacity)
        self._rates = np.empty(capacity)
        self._oldest = self._n_pairs = 0

    def __len__(self) -> int:
        return self._n_pairs

    def add(self, move: Array, bend: Array, curvature: float, rate: float) -> None:
        """Remember a pair; ``curvature`` is move · bend, ``rate`` is curvature / |move|^2."""
        capacity = len(self._rates)
        place = (self._oldest + self._n_pairs) % capacity
        if self._n_pairs < capacity:
            self._n_pairs += 1
        else:
            self._oldest = (self._oldest + 1) % capacity
        self._moves[place], self._bends[place] = move, bend
        self._curvatures[place], self._rates[place] = curvature, rate

    @property
    def slowest_rate(self) -> float:
        """The smallest remembered rate."""
        return float(self._rates[: self._n_pairs].min())

    def newton_step(self, gradient: Array) -> Array:
        """The Newton step for a gradient; without pairs, the gradient itself.

        It is not finite if floating point overflows.
        """
        step = gradient.copy()
        if native.level is not None:
            native.kernel.two_loops(
                native.level,
                self._oldest,
                self._n_pairs,
                self._moves,
                self._bends,
                self._curvatures,
                step,
            )
            return step
        places = (self._oldest + np.arange(self._n_pairs)) % len(self._rates)
        amounts = np.empty(len(self._rates))
        with np.errstate(over="ignore", invalid="ignore"):
            for k in places[::-1]:
                amounts[k] = (self._moves[k] @ step) / self._curvatures[k]
                step -= amounts[k] * self._bends[k]
            for k in places:
                amounts[k] -= (self._bends[k] @ step) / self._curvatures[k]
                step += amounts[k] * self._moves[k]
        return step
