"""Mixtures as ellipses."""

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Ellipse


def colours(k):
    """Colours of k components."""
    cycle = mpl.colormaps["tab10" if k <= 10 else "tab20"].colors
    return np.array([cycle[i % len(cycle)] for i in range(k)])


def components(ax, mixture, X):
    """Rows in the colours of their components, and their ellipses."""
    palette = colours(mixture.n_components)
    ax.scatter(*X.T, s=4, c=mixture.predict_proba(X) @ palette, alpha=0.5, linewidths=0)
    shape = mixture.covariances_
    d = X.shape[1]
    matrices = {
        "full": lambda: shape,
        "tied": lambda: [shape] * len(palette),
        "diag": lambda: [np.diag(v) for v in shape],
        "spherical": lambda: [v * np.eye(d) for v in shape],
    }[mixture.covariance_type]()
    for mean, covariance, colour in zip(mixture.means_, matrices, palette, strict=True):
        for n_std in (1, 2):
            ellipse(
                ax,
                mean,
                covariance,
                n_std,
                edgecolor=0.7 * colour,
                facecolor="none",
                lw=1.4,
            )


def ellipse(ax, mean, covariance, n_std, **style):
    """Where the Mahalanobis distance is ``n_std``."""
    values, vectors = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    width, height = 2 * n_std * np.sqrt(values[::-1])
    ax.add_patch(Ellipse(mean, width, height, angle=angle, **style))
