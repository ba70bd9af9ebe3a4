"""What a covariance structure is, for everything else.

An instance holds K covariance matrices that share a structure. The structures themselves stand
in ``skemvae.structures``.
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
    values : array of shape (K, d, ...)
        The parameters, those of one component after the other. Structures that share
        parameters broadcast them.
    name : str
        What users call the structure.
    goes_online : bool
        Whether moments may be averaged that were taken under other covariances.
    least_ridge : float
        The least ridge with which the algebra keeps its digits, as a part of the variance of a
        feature.
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
    goes_online: ClassVar[bool] = False
    least_ridge: ClassVar[float] = 0.0
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

    # The structure: what does not depend on the matrices.

    @classmethod
    def units(cls, scale: Array) -> Array:
        """Powers of two near ``scale`` that may rescale the features of this structure."""
        return power_of_two(scale)

    @classmethod
    def with_factors(cls, n_factors: int) -> type[Self]:
        """The structure with so many factors, if it has any."""
        return cls

    @classmethod
    @abstractmethod
    def identity(cls, n_components: int, n_features: int) -> Self:
        """Identity matrices."""

    @classmethod
    @abstractmethod
    def races_as(cls) -> type[Any]:
        """The structure, of matrices, in which starts of this one race."""

    @classmethod
    @abstractmethod
    def nearest(cls, covariance: Any, noise: Array) -> Any:
        """The covariances nearest to those that have raced, none narrower than ``noise``."""

    @classmethod
    @abstractmethod
    def missing(cls, n_rows: Array, n_features: int) -> float:
        """Which part of what rows must determine they leave open, between 0 and 1.

        ``n_rows``, of shape (K,), are those of each component, without the one that
        determines its mean.
        """

    # Public parameters.

    @classmethod
    @abstractmethod
    def fitted_shapes(cls, n_components: int, n_features: int) -> dict[str, tuple[int, ...]]:
        """The fitted attributes that determine the matrices, and their shapes."""

    @classmethod
    @abstractmethod
    def from_fitted(cls, n_components: int, n_features: int, *arrays: Array) -> Self:
        """Build from those attributes, in that order."""

    @abstractmethod
    def fitted(self) -> dict[str, Array]:
        """The fitted attributes: those, and what users may want to read beside them."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """The number of free parameters in all K matrices together."""

    @property
    def copies(self) -> int:
        """How many times ``values`` repeats a parameter that is shared."""
        return 1

    # The algebra.

    @property
    @abstractmethod
    def log_det(self) -> Array:
        """log |covariance|, shape (K,)."""

    @abstractmethod
    def trace_precision(self, noise: Array) -> Array:
        """tr(diag(noise) precision), shape (K,), for variances ``noise`` of shape (d,)."""

    @property
    @abstractmethod
    def variances(self) -> Array:
        """The diagonals, shape (K, d)."""

    @property
    def own_variances(self) -> Array:
        """What of the variances no common factor explains, shape (K, d)."""
        return self.variances

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
    def near(self, values: Array, weights: Array) -> Self:
        """Covariances with these values, or where those break what is shared, near them."""

    def above(self, noise: Array) -> Self:
        """The same, none narrower than ``noise`` where the M step would not make them so."""
        return self

    @abstractmethod
    def is_singular(self) -> bool:
        """Whether some feature is determined by others, as far as floating point can tell."""

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
    def draw(self, labels: AnyArray, rng: Any) -> Array:
        """Rows of mean 0 with the distribution of their component, one for each label."""

    @abstractmethod
    def scatter(self, noise: Array) -> Array:
        """The central second moments that ``maximise`` makes these of."""

    @abstractmethod
    def maximise(self, moments: Moments, noise: Array) -> Self:
        """The M step: covariances that raise the expected regularised log likelihood.

        ``noise`` of shape (d,) is added to the variances: for matrices it is the exact
        maximiser of E[log N(x | mean, C) - tr(diag(noise) C^-1) / 2]. Components that hold no
        weight keep their covariance.
        """
