"""Algebra of several small matrices at once, by the compiled kernel or else by LAPACK."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dtrtri

from skemvae.core.arrays import Array
from skemvae.kernel import native

# Up to this size the kernel, which puts one matrix in each vector lane, is faster (measured).
SMALL = 64


class Factors(NamedTuple):
    """Cholesky factors of K positive definite matrices A = L L^T.

    Attributes
    ----------
    lower : array of shape (K, d, d)
        L.
    upper : array of shape (K, d, d)
        L^-T, so that A^-1 = L^-T L^-1.
    unexplained : float
        The smallest share of a diagonal element of any A that the rows before it
        do not explain, L_ii^2 / A_ii. It is 0 if a matrix is not positive
        definite; then the factors are invalid.
    """

    lower: Array
    upper: Array
    unexplained: float


def factorise(matrices: Array) -> Factors:
    """Factorise symmetric matrices, of which only the lower triangles are read.

    Substitution keeps the precision of rows of very different scales.
    """
    k, d = matrices.shape[:2]
    level = _level(d)
    if level is None:
        return _by_lapack(matrices)
    matrices = readable(matrices)
    lower, upper = np.empty_like(matrices), np.empty_like(matrices)
    return Factors(lower, upper, native.kernel.factorise(level, k, d, matrices, lower, upper))


def _by_lapack(matrices: Array) -> Factors:
    matrices = np.asarray(matrices, dtype=np.float64)
    try:
        if not np.isfinite(matrices).all():
            raise np.linalg.LinAlgError
        lower: Array = np.linalg.cholesky(matrices)  # type: ignore[assignment]
    except np.linalg.LinAlgError:
        nothing = np.full(matrices.shape, np.nan)
        return Factors(nothing, nothing, 0.0)
    parts = lower.diagonal(axis1=1, axis2=2) ** 2 / matrices.diagonal(axis1=1, axis2=2)
    upper = np.array([dtrtri(factor.T)[0] for factor in lower])
    return Factors(lower, upper, float(parts.min()))


def unwhiten(lower: Array, sums: Array) -> tuple[Array, Array]:
    """Compute moments of rows x from those of the whitened rows y = L^-1 x.

    Parameters
    ----------
    lower : array of shape (K, d, d)
        The factors L.
    sums : array of shape (K, 1 + d + d * d)
        For each component, the count, the sum of y and the lower triangle of the sum of y y^T.

    Returns
    -------
    first : array of shape (K, d)
    second : array of shape (K, d, d)
    """
    k, d = lower.shape[:2]
    level = _level(d)
    if level is not None:
        lower = readable(lower)
        first, second = np.empty(lower.shape[:2]), np.empty(lower.shape)
        native.kernel.unwhiten(level, k, d, lower, readable(sums), first, second)
        return first, second
    first = (lower @ sums[:, 1 : 1 + d, None])[:, :, 0]
    second = congruent(lower, symmetric(sums[:, 1 + d :].reshape(k, d, d)))
    return first, second


def congruent(lower: Array, matrices: Array) -> Array:
    """L A L^T for lower triangular L and symmetric A, all of shape (K, d, d)."""
    return _product(lower, _product(lower, matrices).transpose(0, 2, 1))


def _product(lower: Array, matrices: Array) -> Array:
    """L A for lower triangular L, all of shape (K, d, d)."""
    products = np.empty(lower.shape)
    for factor, matrix, out in zip(lower, matrices, products, strict=True):
        # BLAS expects Fortran order, so it gets the transposes.
        out[...] = dtrmm(1.0, factor.T, matrix.T, side=1, lower=0).T
    return products


def relate(upper: Array, lower: Array) -> Array:
    """Coordinates of factors L relative to L_0: L = L_0 V D, V with a unit diagonal.

    Products of lower triangular matrices are lower triangular, so any coordinates give factors.

    Parameters
    ----------
    upper : array of shape (K, d, d)
        L_0^-T.
    lower : array of shape (K, d, d)
        L.

    Returns
    -------
    array of shape (K, d (d + 1) / 2)
        log D, then V below its diagonal, row by row; 0 for L_0.
    """
    k, d = lower.shape[:2]
    level = _level(d)
    if level is not None:
        coordinates = np.empty((k, d * (d + 1) // 2))
        native.kernel.relate(level, k, d, readable(upper), readable(lower), coordinates)
        return coordinates
    factors = _product(upper.transpose(0, 2, 1), lower)
    diagonal = factors.diagonal(axis1=1, axis2=2)
    below = (factors / diagonal[:, None, :])[:, np.tri(d, k=-1, dtype=bool)]
    return np.concatenate([np.log(diagonal), below], axis=1)


def restore(lower: Array, coordinates: Array) -> Array:
    """The matrices L L^T for factors with given coordinates relative to ``lower``, (K, d, d)."""
    k, d = lower.shape[:2]
    level = _level(d)
    if level is not None:
        matrices = np.empty(lower.shape)
        native.kernel.restore(level, k, d, readable(lower), readable(coordinates), matrices)
        return matrices
    unit = np.tile(np.eye(d), (k, 1, 1))
    unit[:, np.tri(d, k=-1, dtype=bool)] = coordinates[:, d:]
    factors = _product(lower, unit * np.exp(coordinates[:, None, :d]))
    return _product(factors, factors.transpose(0, 2, 1))


def _level(d: int) -> str | None:
    """The kernel's level for matrices of this size, or None to use LAPACK."""
    return native.level if d <= SMALL else None


def symmetric(lower: Array) -> Array:
    """The symmetric matrices with these lower triangles, whose other elements are zero."""
    matrices: Array = lower + lower.swapaxes(-1, -2)
    np.einsum("...ii->...i", matrices)[...] /= 2
    return matrices


def readable(array: Array) -> Array:
    """The array as the kernel can read it: contiguous, float64 and aligned."""
    array = np.ascontiguousarray(array, dtype=np.float64)
    return array if array.flags.aligned else array.copy()
