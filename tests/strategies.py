"""What hypothesis draws: tables, weights, mixtures, units."""

import numpy as np
from hypothesis import strategies as st

from skemvae import EMGaussianMixture
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.structures.matrices import MatrixCovariance
from skemvae.structures.registry import STRUCTURES

# Every law of covariances runs over one of these lists: all structures, those of matrices, those
# that have a conjugate prior, those whose M step the kernel has.
ALL = sorted(STRUCTURES)
MATRICES = [name for name in ALL if issubclass(STRUCTURES[name], MatrixCovariance)]
CONJUGATE = [name for name in ALL if STRUCTURES[name].is_conjugate]
KERNEL = [name for name in ALL if STRUCTURES[name].kernel_form is not None]

structures = st.sampled_from(ALL)
matrices = st.sampled_from(MATRICES)
conjugates = st.sampled_from(CONJUGATE)
seeds = st.integers(0, 2**32 - 1)
regularisations = st.sampled_from([0.0, 1e-6, 1e-2])


@st.composite
def covariances(draw, structure=structures, max_components=5, max_features=4):
    """K well-conditioned covariance matrices with a structure."""
    cls = STRUCTURES[draw(structure)].with_factors(2)
    k, d = draw(st.integers(1, max_components)), draw(st.integers(1, max_features))
    rng = np.random.default_rng(draw(seeds))
    factor = rng.standard_normal((k, d, d + 2)) * rng.uniform(0.3, 3, (k, d, 1))
    dense = factor @ factor.transpose(0, 2, 1) + 0.1 * np.eye(d)
    if cls.name == "factor_analytic":  # d + 2 columns: there are always two
        return cls.from_fitted(k, d, factor[:, :, :2], rng.uniform(0.1, 2, (k, d)))
    public = {
        "full": dense,
        "tied": dense[0],
        "diag": np.diagonal(dense, axis1=1, axis2=2),
        "spherical": dense[:, 0, 0],
    }[cls.name]
    return cls.from_public(public, k, d)


@st.composite
def mixtures(draw, **kwargs):
    """A Gaussian mixture without noise."""
    covariance = draw(covariances(**kwargs))
    rng = np.random.default_rng(draw(seeds))
    k, d = covariance.n_components, covariance.n_features
    weights = rng.dirichlet(np.full(k, 2.0))
    return GaussianMixture(weights, 3 * rng.standard_normal((k, d)), covariance, np.zeros(d))


def estimator_of(mixture):
    """A fitted estimator with the parameters of a mixture that was drawn."""
    k, structure = len(mixture.weights), mixture.covariance.name
    estimator = EMGaussianMixture(k, covariance_type=structure, n_factors=2)
    return estimator._set(**estimator._parameters(mixture))


@st.composite
def tables(draw, min_rows=12, max_rows=120, max_features=4):
    """A table of clusters, sometimes with ties, heavy tails or a column that follows another."""
    n, d = draw(st.integers(min_rows, max_rows)), draw(st.integers(1, max_features))
    rng = np.random.default_rng(draw(seeds))
    centres = draw(st.sampled_from([0.5, 2.0, 20.0])) * rng.standard_normal((4, d))
    X = centres[rng.integers(4, size=n)] + rng.standard_normal((n, d))
    kind = draw(st.sampled_from(["plain", "rounded", "heavy", "collinear", "constant", "repeated"]))
    if kind == "rounded":
        X = np.round(X)
    elif kind == "heavy":
        X = X * np.exp(rng.standard_normal((n, 1)) ** 2)
    elif kind == "collinear":
        X[:, -1] = 2 * X[:, 0] + 1
    elif kind == "constant":
        X[:, 0] = draw(st.sampled_from([0.0, -3.5, 1e6]))
    elif kind == "repeated":
        X[n // 2 :] = X[: n - n // 2]
    return X


@st.composite
def weights_of(draw, n):
    """Weights of n rows, or None; some may be zero, but not all."""
    kind = draw(st.sampled_from(["none", "real", "integer", "some zero"]))
    rng = np.random.default_rng(draw(seeds))
    if kind == "none":
        return None
    if kind == "real":
        return rng.gamma(2.0, size=n) * draw(st.sampled_from([1e-3, 1.0, 1e4]))
    weight = rng.integers(1 if kind == "integer" else 0, 4, size=n).astype(float)
    weight[: n // 2] = np.maximum(weight[: n // 2], 1)
    return weight
