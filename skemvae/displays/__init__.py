"""Plots of fitted estimators, in the style of scikit-learn's displays.

matplotlib is imported only when something is drawn.
"""

from skemvae.displays.bound import BoundDisplay
from skemvae.displays.density import DensityDisplay
from skemvae.displays.feature_score import FeatureScoreDisplay
from skemvae.displays.gap import GapDisplay
from skemvae.displays.latent import LatentDisplay
from skemvae.displays.mixture import MixtureDisplay

__all__ = [
    "BoundDisplay",
    "DensityDisplay",
    "FeatureScoreDisplay",
    "GapDisplay",
    "LatentDisplay",
    "MixtureDisplay",
]
