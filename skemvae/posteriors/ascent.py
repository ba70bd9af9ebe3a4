"""The E step: natural-gradient ascent of each row's bound, in steps that never lower it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from skemvae.posteriors.expectations import Expectation, Expected
from skemvae.posteriors.gaussians import FullGaussian

# Lengths tried for a step that would lower the bound of a row. They shrink ever faster, because
# counts a million times those expected at the start need a step that much shorter.
_LENGTHS = tuple(2.0 ** -(i * (i + 1) // 2) for i in range(10))
# Least eigenvalue of a precision that had to be made positive, as a share of its largest.
_LEAST_PRECISION = 1e-6
# A row has converged when its bound can gain less than this, in nats.
_ARRIVED = 1e-10

Family = Callable[[Tensor], Tensor]


def full(precision: Tensor) -> Tensor:
    """Leave the precision as it is (full covariance)."""
    return precision


def diagonal(precision: Tensor) -> Tensor:
    """Keep only the diagonal of the precision (mean field)."""
    return torch.diag_embed(precision.diagonal(dim1=-2, dim2=-1))


def climb(
    expectation: Expectation,
    q: FullGaussian,
    expected: Expected,
    family: Family = full,
    n_steps: int = 1,
) -> tuple[FullGaussian, Expected]:
    """Maximise E_q[log p(x, z)] + H[q] over q, row by row.

    The natural gradient of a Gaussian points to the precision -E[f''] and, with
    this precision, to the mean of a Newton step. A step of length 1 is exact if
    f is quadratic. It is shortened if it would lower the bound of a row. A row
    has converged when both derivatives promise no gain.

    Parameters
    ----------
    expectation : Expectation
        Of log p(x, z).
    q, expected : FullGaussian, Expected
        The start, and the expectation there.
    family : callable
        Projects a precision onto the family of q.
    n_steps : int

    References
    ----------
    Khan and Lin (2017), "Conjugate-computation variational inference"; Opper
    and Archambeau (2009), "The variational Gaussian approximation revisited".
    """
    # A row with a non-finite value has no gradient to follow.
    moving = torch.nonzero(expected.value.isfinite())[:, 0]
    for _ in range(n_steps):
        moving = moving[_promise(*_some(moving, q, expected), family) > _ARRIVED]
        if not len(moving):
            break
        q, expected, moved = _step(expectation, q, expected, family, moving)
        moving = moving[moved]
    return q, expected


def _some(rows: Tensor, q: FullGaussian, expected: Expected) -> tuple[FullGaussian, Expected]:
    """Select some rows, without a copy if these are all of them."""
    if len(rows) == len(q.mean):
        return q, expected
    return q.rows(rows), expected.rows(rows)


def _promise(q: FullGaussian, expected: Expected, family: Family) -> Tensor:
    """The gain of a step, in nats, if the bound were quadratic; infinite if that is NaN."""
    by_mean = (expected.gradient[:, None] @ q.scale).square().sum((-2, -1))
    change = q.scale.mT @ (family(expected.curvature) - q.precision) @ q.scale
    promise = by_mean / 2 + change.square().sum((-2, -1)) / 4
    return torch.nan_to_num(promise, nan=torch.inf)


def _step(
    expectation: Expectation,
    q: FullGaussian,
    expected: Expected,
    family: Family,
    moving: Tensor,
) -> tuple[FullGaussian, Expected, Tensor]:
    """Take one step for the rows in ``moving``; also return which of them moved."""
    moved = torch.zeros(len(moving), dtype=torch.bool)
    pending = torch.arange(len(moving))
    for length in _LENGTHS:
        rows = moving[pending]
        every = len(rows) == len(q.mean)
        old, old_expected = _some(rows, q, expected)
        new = _moved(old, old_expected, family, length)
        new_expected = (expectation if every else expectation.rows(rows))(new)
        rise = new_expected.value + new.entropy - old_expected.value - old.entropy
        better = rise >= 0  # also refuses NaN
        moved[pending[better]] = rise[better] > 0
        if every and better.all():
            return new, new_expected, moved
        q = q.put(rows[better], new.rows(better))
        expected = expected.put(rows[better], new_expected.rows(better))
        pending = pending[~better]
        if not len(pending):
            break
    return q, expected, moved


def _moved(q: FullGaussian, expected: Expected, family: Family, length: float) -> FullGaussian:
    target = family(expected.curvature)
    precision = (1 - length) * q.precision + length * target
    cholesky, failed = torch.linalg.cholesky_ex(precision)
    if failed.any():  # f is not concave there
        bad = failed > 0
        cholesky[bad] = torch.linalg.cholesky(_positive(precision[bad]))
    step = torch.cholesky_solve(expected.gradient[..., None], cholesky)[..., 0]
    return FullGaussian(q.mean + length * step, cholesky)


def _positive(precision: Tensor) -> Tensor:
    """The precision with the absolute values of its eigenvalues, kept away from 0."""
    values, vectors = torch.linalg.eigh(torch.nan_to_num(precision))
    size = values.abs()
    floor = _LEAST_PRECISION * size.amax(-1, keepdim=True).clamp(min=1e-100)
    size = torch.maximum(size, floor)
    positive = (vectors * size[..., None, :]) @ vectors.mT
    return (positive + positive.mT) / 2
