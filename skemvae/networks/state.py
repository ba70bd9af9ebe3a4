"""Fitted networks as NumPy arrays and plain values, for pickling and saving."""

from __future__ import annotations

from typing import Any

import torch

from skemvae.likelihoods.base import head_of, head_state
from skemvae.likelihoods.columns import Table
from skemvae.networks.architecture import Architecture
from skemvae.networks.training import adam
from skemvae.networks.vae import VAE
from skemvae.validation import shown

# Prefix of the heads' weights, which are saved with the state of the heads.
_HEADS = "decoder.heads."


def vae_state(vae: VAE) -> dict[str, Any]:
    """The state of the heads, and all other weights by name."""
    return {
        "heads": [head_state(head) for head in vae.decoder.heads],
        "weights": {
            name: tensor.numpy(force=True)
            for name, tensor in vae.state_dict().items()
            if not name.startswith(_HEADS)
        },
    }


def vae_of(state: dict[str, Any], architecture: Architecture, table: Table) -> VAE:
    """Rebuild the networks from their state.

    Raises
    ------
    ValueError
        If the state does not fit the architecture. No memory is allocated for
        the networks before their number of weights has been checked.
    """
    heads = [head_of(each) for each in state["heads"]]
    blank = torch.zeros(1, sum(map(len, table.columns)))
    parts = zip(heads, table.slices, strict=True)
    n_features = sum(head.features(blank[:, where]).shape[1] for head, where in parts)
    outputs = [torch.zeros(head.n_outputs) for head in heads]
    real = any(head.real for head in heads)
    expected = architecture.n_numbers(n_features, sum(map(len, outputs)), real)
    found = sum(array.size for array in state["weights"].values())
    if found != expected:
        raise ValueError(f"there are {found} weights, but {shown(architecture)} has {expected}")
    vae = architecture.assemble(heads, table, outputs, blank, torch.Generator())
    own = {name: t for name, t in vae.state_dict().items() if not name.startswith(_HEADS)}
    if {name: _kind(array) for name, array in state["weights"].items()} != {
        name: _kind(tensor.numpy(force=True)) for name, tensor in own.items()
    }:
        raise ValueError(
            f"names, shapes or types of weights are not those of {shown(architecture)}"
        )
    for name, tensor in own.items():
        tensor.copy_(torch.tensor(state["weights"][name]))
    vae.requires_grad_(True).eval()
    return vae


def _kind(array: Any) -> tuple[Any, ...]:
    return array.shape, array.dtype


def optimiser_state(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Adam's state of each parameter, in its order, without the rates, which each epoch sets.

    Parameters
    ----------
    state : dict
        ``state_dict()`` of the optimiser.
    """
    numbers = [i for group in state["param_groups"] for i in group["params"]]
    return [
        {name: tensor.numpy(force=True) for name, tensor in state["state"].get(i, {}).items()}
        for i in numbers
    ]


def optimiser_of(state: list[dict[str, Any]], vae: VAE) -> dict[str, Any]:
    """Rebuild the ``state_dict()`` of the networks' optimiser.

    Raises
    ------
    ValueError
        If the state does not fit these networks.
    """
    optimiser = adam(vae)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for parameter, memory in zip(parameters, state, strict=True):
        shape = tuple(parameter.shape)
        shapes = {"step": (), "exp_avg": shape, "exp_avg_sq": shape}
        if memory and {name: array.shape for name, array in memory.items()} != shapes:
            raise ValueError("the memory of the optimiser is not of these networks")
    memories = {
        i: {name: torch.tensor(array) for name, array in memory.items()}
        for i, memory in enumerate(state)
        if memory
    }
    return {"state": memories, "param_groups": optimiser.state_dict()["param_groups"]}
