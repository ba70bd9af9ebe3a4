"""Parameters of a generalised factor model."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from skemvae.likelihoods.base import Likelihood, head_of, head_state
from skemvae.likelihoods.columns import Table
from skemvae.likelihoods.continuous import Gaussian
from skemvae.posteriors.expectations import Linear, Points, predictors
from skemvae.posteriors.gaussians import FullGaussian

# Size of the random part of a start, in units of the scores' standard deviation.
_JITTER = 0.02
# Largest standard deviation of a predictor at the start.
_LONGEST_LOADINGS = 5.0


class Block(NamedTuple):
    """Columns that share a likelihood, and their linear predictor W z + b."""

    head: Likelihood
    where: slice
    loadings: nn.Parameter  # (o, k)
    intercept: nn.Parameter  # (o,)

    def linear(self, q: FullGaussian) -> Linear:
        """The distribution of the predictor under q."""
        return Linear.of(q, self.loadings, self.intercept)

    def move(self, step: Tensor) -> None:
        """Add a step of shape (o, k + 1) to W and b."""
        self.loadings.add_(step[:, :-1])
        self.intercept.add_(step[:, -1])

    def log_probs(self, u: Tensor, z: Tensor) -> Tensor:
        """log p(u_j | z), shape (n, S, d), for z of shape (n or 1, S, k)."""
        eta = predictors(z, self.loadings, self.intercept)
        return self.head.log_probs(u[:, None, self.where], eta)

    def log_prob(self, u: Tensor, z: Tensor) -> Tensor:
        """log p(u | z), shape (n, S)."""
        return self.log_probs(u, z).sum(-1)

    def width(self, points: Points) -> int:
        """Numbers that an expectation computes per row."""
        n_nodes = self.head.n_nodes if self.head.separable else len(points.share)
        return n_nodes * len(self.intercept)


class Factors(nn.Module):
    """Parameters of x_j | z ~ likelihood(W_j z + b_j), z ~ N(0, I), for the codes of a table."""

    def __init__(self, heads: Sequence[Likelihood], table: Table, n_factors: int):
        super().__init__()
        self.n_factors = n_factors
        self.heads = nn.ModuleList(heads)
        self._slices = table.slices
        self.loadings = nn.ParameterList()
        self.intercepts = nn.ParameterList()

    @classmethod
    def start(
        cls,
        heads: Sequence[Likelihood],
        table: Table,
        u: Tensor,
        weight: Tensor,
        n_factors: int,
        rng: Any,
    ) -> Self:
        """Start with loadings from the principal components of the scores.

        The scores are the derivatives of log p(u | eta) by eta, at an eta that
        does not depend on z. A factor explains their correlations.
        """
        factors: Self = cls(heads, table, n_factors).double()
        scores = []
        for head, where, units in zip(heads, table.slices, table.blocks, strict=True):
            eta = head.bind(u[:, where], weight, units).double()
            factors.intercepts.append(nn.Parameter(eta))
            with torch.enable_grad():
                each = eta.detach().expand(len(u), -1).clone().requires_grad_(True)
                total = head.double().log_prob(u[:, where], each).sum()
                scores.append(torch.autograd.grad(total, each)[0])
        score = torch.nan_to_num(torch.cat(scores, 1))
        share = weight / weight.sum()
        information = (share @ score**2).clamp(min=1e-10)
        score = score / information.sqrt()
        correlation = (score.mT * share) @ score
        loadings = _principal(correlation, n_factors)
        loadings = loadings + _JITTER * torch.from_numpy(rng.standard_normal(loadings.shape))
        loadings = loadings / information.sqrt()[:, None]
        # The scores of a column that hardly varies would make its loadings too long.
        length = torch.linalg.vector_norm(loadings, dim=1, keepdim=True)
        loadings = loadings * (_LONGEST_LOADINGS / length.clamp(min=_LONGEST_LOADINGS))
        sizes = [len(intercept) for intercept in factors.intercepts]
        factors.loadings.extend(nn.Parameter(part) for part in loadings.split(sizes))
        factors.requires_grad_(False)
        return factors

    @property
    def state(self) -> dict[str, Any]:
        """Everything as NumPy arrays and plain values, for pickling and saving."""
        return {
            "heads": [head_state(cast(Likelihood, head)) for head in self.heads],
            "loadings": [W.numpy(force=True) for W in self.loadings],
            "intercepts": [b.numpy(force=True) for b in self.intercepts],
        }

    @classmethod
    def of(cls, state: dict[str, Any], table: Table) -> Self:
        """Rebuild the parameters from their state.

        Raises
        ------
        ValueError
            If the parts of the state do not fit together.
        """
        heads = [head_of(each) for each in state["heads"]]
        n_factors = {W.shape[1:] for W in state["loadings"]}
        n_outputs = [head.n_outputs for head in heads]
        if (
            len(n_factors) != 1
            or [len(W) for W in state["loadings"]] != n_outputs
            or [b.shape for b in state["intercepts"]] != [(n,) for n in n_outputs]
        ):
            raise ValueError("loadings_ and intercept_ do not fit the likelihoods of the columns")
        factors: Self = cls(heads, table, *n_factors.pop())
        factors.loadings.extend(nn.Parameter(torch.tensor(W)) for W in state["loadings"])
        factors.intercepts.extend(nn.Parameter(torch.tensor(b)) for b in state["intercepts"])
        factors.requires_grad_(False)
        return factors

    @property
    def blocks(self) -> Iterator[Block]:
        """The blocks of columns."""
        parts = (self.heads, self._slices, self.loadings, self.intercepts)
        return (Block(*each) for each in zip(*parts, strict=True))

    def width(self, points: Points) -> int:
        """Largest number of values that an expectation computes per row at a time."""
        return max(block.width(points) for block in self.blocks)

    @property
    def intercept(self) -> Tensor:
        """b of all outputs, shape (o,)."""
        return torch.cat(list(self.intercepts))

    @property
    def n_parameters(self) -> int:
        """Number of free parameters, without rotations of z and factors beyond the outputs."""
        n_outputs = len(self.intercept)
        rank = min(self.n_factors, n_outputs)
        unused = (self.n_factors - rank) * n_outputs + rank * (rank - 1) // 2
        return sum(int(parameter.numel()) for parameter in self.parameters()) - unused

    def log_prob(self, u: Tensor, z: Tensor) -> Tensor:
        """log p(u | z), shape (n, S)."""
        return sum((block.log_prob(u, z) for block in self.blocks), torch.zeros(()))

    def log_probs(self, u: Tensor, z: Tensor) -> Tensor:
        """log p(u_j | z), shape (n, S, d)."""
        parts = [block.log_probs(u, z) for block in self.blocks]
        return torch.cat(parts, -1)

    def rotated(self) -> Self:
        """The same density with orthogonal loadings, the largest first and with fixed signs."""
        rotated = copy.deepcopy(self)
        together = torch.cat(list(self.loadings))
        _, axes = torch.linalg.eigh(together.mT @ together)
        rotation = axes.flip(1)
        turned = together @ rotation
        largest = turned.abs().argmax(0)
        signs = torch.where(turned[largest, torch.arange(turned.shape[1])] < 0, -1.0, 1.0)
        for loadings in rotated.loadings:
            loadings.copy_(loadings @ rotation * signs)
        return rotated

    def set_intercept(self, intercept: Tensor) -> None:
        """Replace b of all outputs, shape (o,)."""
        sizes = [len(b) for b in self.intercepts]
        for b, new in zip(self.intercepts, intercept.split(sizes), strict=True):
            b.copy_(new)

    def set_loadings(self, loadings: Tensor) -> None:
        """Replace W of all outputs, shape (o, k)."""
        sizes = [len(b) for b in self.intercepts]
        for W, new in zip(self.loadings, loadings.split(sizes), strict=True):
            W.copy_(new)

    def stretch(self, shift: Tensor, scale: Tensor) -> None:
        """Replace z by shift + scale z in the linear predictors."""
        for loadings, intercept in zip(self.loadings, self.intercepts, strict=True):
            intercept.add_(loadings @ shift)
            loadings.copy_(loadings @ scale)


def all_normal(heads: Iterable[Any]) -> bool:
    """Whether all columns are Gaussian with a variance free of z, so the posterior is normal."""
    return all(isinstance(head, Gaussian) and head.separable for head in heads)


def _principal(correlation: Tensor, k: int) -> Tensor:
    """Loadings of probabilistic PCA, shape (o, k)."""
    values, vectors = torch.linalg.eigh(correlation)
    values, vectors = values.flip(0), vectors.flip(1)
    rest = values[k:].mean() if len(values) > k else values.new_zeros(())
    size = (values[:k] - rest).clamp(min=1e-2).sqrt()
    loadings = vectors[:, :k] * size
    largest = loadings.abs().argmax(0)
    signs = torch.where(loadings[largest, torch.arange(loadings.shape[1])] < 0, -1.0, 1.0)
    loadings = loadings * signs
    missing = k - loadings.shape[1]  # factors beyond the outputs explain nothing
    return torch.nn.functional.pad(loadings, (0, missing))
