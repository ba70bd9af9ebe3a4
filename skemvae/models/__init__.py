"""Models p(x, z): frozen parameters that score, sample and maximise."""

from skemvae.models.gaussian_mixture import GaussianMixture

__all__ = ["GaussianMixture"]
