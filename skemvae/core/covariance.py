"""The interface of covariance structures, which are implemented in ``skemvae.structures``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Self

from skemvae.core.arrays import AnyArray, Array, power_of_two
from skemvae.core.moments import Moments
from skemvae.core.scan import Scan


class Axes(ABC):
    """Coordinates of means and covariances relative to K given ones, the origin."""

    @abstractmethod
    def whitened(self, differences: Array) -> Array:
        """Differences of means in standard deviations, shape (K, d)."""

    @abstractmethod
    def unwhitened(self, whitened: Array) -> Array:
        """The inverse of ``whitened``."""

    @abstractmethod
    def log_ratios(self, covariance: Any) -> Array:
        """Covariances relative to those of the origin, shape (K, p); 0 where they are equal."""

    @abstractmethod
    def values(self, log_ratios: Array) -> Array:
        """The inverse of ``log_ratios``."""


class KernelForm(Enum):
    """Which steps of the compiled kernel a structure uses."""

    DENSE = "matrices"
    AXES = "variances"


@dataclass(frozen=True)
class Covariance(ABC):
    """K covariance matrices of d features with one structure.

    Attributes
    ----------
    values : array of shape (K, d, ...)
        The parameters, component by component. Structures that share parameters
        broadcast them.
    name : str
        The name of the structure for users.
    goes_online : bool
        Whether moments taken under different covariances may be averaged.
    least_ridge : float
        The smallest ridge with which the algebra keeps its precision, as a share of the
        variance of a feature.
    kernel_form : KernelForm or None
        The form whose M step in the compiled kernel is that of this class; None to
        use the M step in Python.
    is_conjugate : bool
        Whether a Wishart prior of the precisions has a Wishart posterior.

    Notes
    -----
    ``kernel_form`` and ``is_conjugate`` hold for the class that sets them. They are not
    inherited, since a subclass may share or shape its matrices differently.
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
        """The number of components, K."""
        return int(self.values.shape[0])

    @property
    def n_features(self) -> int:
        """The number of features, d."""
        return int(self.values.shape[1])

    # The structure, which does not depend on the matrices.

    @classmethod
    def units(cls, scale: Array) -> Array:
        """Powers of two near ``scale`` by which this structure may rescale the features."""
        return power_of_two(scale)

    @classmethod
    def with_factors(cls, n_factors: int) -> type[Self]:
        """The structure with this many factors, if it has factors."""
        return cls

    @classmethod
    @abstractmethod
    def identity(cls, n_components: int, n_features: int) -> Self:
        """K identity matrices of this structure."""

    @classmethod
    @abstractmethod
    def races_as(cls) -> type[Any]:
        """The structure in which candidate starts of this one race; it holds plain matrices."""

    @classmethod
    @abstractmethod
    def nearest(cls, covariance: Any, noise: Array) -> Any:
        """Convert covariances that have raced to this structure, none narrower than ``noise``."""

    @classmethod
    @abstractmethod
    def missing(cls, n_rows: Array, n_features: int) -> float:
        """Which share of the matrices the rows do not determine, between 0 and 1.

        ``n_rows``, of shape (K,), counts the rows of each component, without the one
        that determines its mean.
        """

    # Public parameters.

    @classmethod
    @abstractmethod
    def fitted_shapes(cls, n_components: int, n_features: int) -> dict[str, tuple[int, ...]]:
        """The fitted attributes that determine the matrices, and their shapes."""

    @classmethod
    @abstractmethod
    def from_fitted(cls, n_components: int, n_features: int, *arrays: Array) -> Self:
        """Build from the attributes of ``fitted_shapes``, in that order."""

    @abstractmethod
    def fitted(self) -> dict[str, Array]:
        """The fitted attributes: those of ``fitted_shapes``, and others that users may want."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """The number of free parameters in all K matrices together."""

    @property
    def copies(self) -> int:
        """How many times ``values`` repeats a shared parameter."""
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
        """The part of the variances that no common factor explains, shape (K, d)."""
        return self.variances

    @abstractmethod
    def dense(self) -> Array:
        """The full matrices, shape (K, d, d)."""

    @abstractmethod
    def scan(self, means: Array) -> Scan:
        """The arithmetic of a pass over rows, under components with these means."""

    @abstractmethod
    def axes(self) -> Axes:
        """Coordinates in which these covariances are unit matrices."""

    @abstractmethod
    def near(self, values: Array, weights: Array) -> Self:
        """Covariances with these values, or near them where shared parameters differ."""

    def above(self, noise: Array) -> Self:
        """The same, raised to ``noise`` where that is a lower limit in the M step."""
        return self

    @abstractmethod
    def is_singular(self) -> bool:
        """Whether some feature is a function of others, to floating-point precision."""

    @abstractmethod
    def scaled(self, scale: Array) -> Self:
        """The covariances of ``scale * x``, for ``scale`` of shape (d,)."""

    @abstractmethod
    def marginal(self, columns: AnyArray) -> Self:
        """The covariances of some of the features."""

    @abstractmethod
    def condition(self, free: AnyArray, given: AnyArray) -> tuple[Array, Self]:
        """The regression of the free features on the given ones.

        Returns
        -------
        gain : array of shape (K, n_free, n_given)
        covariance : Covariance
            The residual covariances of the free features.
        """

    @abstractmethod
    def draw(self, labels: AnyArray, rng: Any) -> Array:
        """Rows of mean 0 with the distribution of their component, one for each label."""

    @abstractmethod
    def scatter(self, noise: Array) -> Array:
        """The central second moments for which ``maximise`` returns these covariances."""

    @abstractmethod
    def maximise(self, moments: Moments, noise: Array) -> Self:
        """The M step: covariances that raise the expected regularised log likelihood.

        ``noise``, the ridge, of shape (d,), is added to the variances. For plain matrices this
        is the exact maximiser of E[log N(x | mean, C) - tr(diag(noise) C^-1) / 2]. Components
        without weight keep their covariance.
        """
