"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# scikit-learn's MLPRegressor uses the same names for those that it has.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "logistic": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "softplus": F.softplus,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
}


def linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """An affine map with Glorot initialisation, which leaves the global generator alone."""
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def straight(n_in: int, n_out: int) -> nn.Linear:
    """A linear map past the hidden layers, initially zero."""
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


class MLP(nn.Module):
    """Affine maps, each followed by the activation."""

    def __init__(self, sizes: Sequence[int], activation: str, generator: torch.Generator):
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList(linear(a, b, generator) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """The output of the last hidden layer, or ``x`` if there is none."""
        activation = ACTIVATIONS[self.activation]
        for layer in self.layers:
            x = activation(layer(x))
        return x
