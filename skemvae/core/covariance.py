"""Covariance structures: the only home of their algebra.

An instance holds K covariance matrices that share a structure. There are two
ways to do the algebra, ``DenseCovariance`` and ``AxisAlignedCovariance``;
``structures`` completes each of them with what its components share and with
its public layout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Self

from skemvae.core.arrays import AnyArray, Array, power_of_two
from skemvae.core.moments import Moments
from skemvae.core.scan import Scan


class Axes(ABC):
    """Whitened coordinates of the components, seen from components with a mean and a covariance."""

    @abstractmethod
    def whitened(self, differences: Array) -> Array:
        """Differences of means in standard deviations, shape (K, d)."""

    @abstractmethod
    def unwhitened(self, whitened: Array) -> Array:
        """The inverse."""

    @abstractmethod
    def log_ratios(self, covariance: Any) -> Array:
        """Covariances relative to those of the origin, shape (K, p); 0 for the same."""

    @abstractmethod
    def values(self, log_ratios: Array) -> Array:
        """The inverse."""


class KernelForm(Enum):
    """Which steps of the compiled kernel serve a structure."""

    DENSE = "matrices"
    AXES = "variances"


@dataclass(frozen=True)
class Covariance(ABC):
    """K covariance matrices of d features with one structure.

    Attributes
    ----------
    values : array of shape (K, d, d) or (K, d)
        The matrices, or their diagonals if the structure has nothing else.
        Structures that share parameters broadcast them.
    name : str
        What users call the structure.
    is_shared : bool
        Whether components share one matrix.
    kernel_form : KernelForm or None
        Whose M step in the compiled kernel is that of this very class; None for
        that of Python.
    is_conjugate : bool
        Whether a Wishart distribution of its precisions stays one after rows.

    Notes
    -----
    The last two are promises of a class for itself. They are not inherited, since
    a class that derives from another may share or shape its matrices otherwise.
    """

    name: ClassVar[str]
    is_shared: ClassVar[bool] = False
    kernel_form: ClassVar[KernelForm | None] = None
    is_conjugate: ClassVar[bool] = False
    values: Array

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for promise in ("kernel_form", "is_conjugate"):
            setattr(cls, promise, vars(cls).get(promise, getattr(Covariance, promise)))

    @property
    def n_components(self) -> int:
        """K."""
        return int(self.values.shape[0])

    @property
    def n_features(self) -> int:
        """d."""
        return int(self.values.shape[1])

    @classmethod
    def units(cls, scale: Array) -> Array:
        """Powers of two near ``scale`` that may rescale the features of this structure."""
        return power_of_two(scale)

    # What a structure shares between components.

    @classmethod
    @abstractmethod
    def public_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        """The shape of ``public``."""

    @classmethod
    @abstractmethod
    def from_public(cls, public: Array, n_components: int, n_features: int) -> Self:
        """Build from scikit-learn's layout of ``covariances_``."""

    @abstractmethod
    def public(self, values: Array) -> Array:
        """Lay ``values`` (covariances, precisions or factors) out as scikit-learn does."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """The number of free parameters in all K matrices together."""

    @classmethod
    @abstractmethod
    def pool(cls, covariances: Array, count: Array) -> Array:
        """Share what the structure shares of the covariances about the means."""

    @classmethod
    @abstractmethod
    def observations(cls, count: Array, n_features: int) -> Array:
        """How many squares each parameter averages over, shape (K,), of components so large."""

    @property
    @abstractmethod
    def copies(self) -> int:
        """How many times ``values`` repeats a parameter that is shared."""

    # The algebra.

    @property
    @abstractmethod
    def log_det(self) -> Array:
        """log |covariance|, shape (K,)."""

    @property
    @abstractmethod
    def precision_cholesky(self) -> Array:
        """U with precision = U U^T (upper triangular, or its diagonal), shaped as ``values``."""

    @property
    @abstractmethod
    def precisions(self) -> Array:
        """The inverses, shaped as ``values``."""

    @abstractmethod
    def trace_precision(self, noise: Array) -> Array:
        """tr(diag(noise) precision), shape (K,), for variances ``noise`` of shape (d,)."""

    @property
    @abstractmethod
    def block_size(self) -> int:
        """Each matrix is block diagonal, with blocks of so many features: d or 1."""

    @property
    @abstractmethod
    def block_log_dets(self) -> Array:
        """log |block|, shape (K, d / block_size)."""

    @abstractmethod
    def block_traces(self, values: Array) -> Array:
        """tr(values precision) of each block, for ``values`` of the shape of the instance's."""

    @abstractmethod
    def sandwich(self, values: Array) -> Array:
        """V precision V of symmetric matrices V, one or K of them, laid out as ``values``."""

    @classmethod
    @abstractmethod
    def balance(cls, linear: Array, inverse: Array, log: float) -> Array:
        """The X that maximises ``log log|X| - tr(linear X) - tr(inverse X^-1)``.

        ``linear`` is positive definite, ``inverse`` may be singular; both are laid out as one of
        ``values``, and so is X.
        """

    @abstractmethod
    def squared_lengths(self, vectors: Array) -> Array:
        """v^T precision v of a vector for each component, shape (K,)."""

    @property
    @abstractmethod
    def variances(self) -> Array:
        """The diagonals, shape (K, d)."""

    @abstractmethod
    def dense(self) -> Array:
        """The matrices written out, shape (K, d, d)."""

    @abstractmethod
    def scan(self, means: Array) -> Scan:
        """The arithmetic of a pass over rows, under components with these means."""

    @abstractmethod
    def axes(self) -> Axes:
        """Coordinates in which these are unit matrices."""

    @abstractmethod
    def is_singular(self) -> bool:
        """Whether some feature is determined by others, as far as floating point can tell."""

    @property
    def radial_size(self) -> int:
        """So many features at a time have a common scale that is uncertain: d or 1."""
        return self.n_features

    @abstractmethod
    def scaled(self, scale: Array) -> Self:
        """The covariances of ``scale * x``, for ``scale`` of shape (d,)."""

    @abstractmethod
    def marginal(self, columns: AnyArray) -> Self:
        """The covariances of some features."""

    @abstractmethod
    def condition(self, free: AnyArray, given: AnyArray) -> tuple[Array, Self]:
        """The regression of the free features on the given ones.

        Returns
        -------
        gain : array of shape (K, n_free, n_given)
        covariance : Covariance
            Of the free features about the regression.
        """

    @abstractmethod
    def draw(self, labels: AnyArray, normal: Array) -> Array:
        """Turn standard normal rows into rows with the covariance of their component."""

    @classmethod
    @abstractmethod
    def identity(cls, n_components: int, n_features: int) -> Self:
        """Identity matrices."""

    @abstractmethod
    def scatter(self, noise: Array) -> Array:
        """The central second moments that ``maximise`` makes these of, shaped as ``values``."""

    @abstractmethod
    def maximise(self, moments: Moments, noise: Array) -> Self:
        """The covariances that maximise the expected regularised log likelihood.

        ``noise`` of shape (d,) is added to the variances: the exact maximiser
        of E[log N(x | mean, C) - tr(diag(noise) C^-1) / 2]. Components that
        hold no weight keep their covariance.
        """
