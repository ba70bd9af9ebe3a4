"""What moments say, as far as a covariance structure tells it apart."""

import numpy as np

from skemvae.structures.matrices import MatrixCovariance


def shared_covariances(covariance, moments):
    """Covariances about the means, pooled: paths may differ in how they share what is shared."""
    if not isinstance(covariance, MatrixCovariance):
        return moments.covariances
    return covariance.pool(moments.covariances, np.maximum(moments.count, 1e-300))


def assert_same_expectation(mixture, actual, expected, tolerance):
    """Evidence, counts, means and shared covariances agree."""
    np.testing.assert_allclose(
        actual.evidence, expected.evidence, rtol=tolerance, atol=tolerance, err_msg="evidence"
    )
    ours, theirs = actual.moments, expected.moments
    pairs = {
        "count": (ours.count, theirs.count),
        "means": (ours.means, theirs.means),
        "covariances": (
            shared_covariances(mixture.covariance, ours),
            shared_covariances(mixture.covariance, theirs),
        ),
    }
    for name, (x, y) in pairs.items():
        # A scatter is as precise as its largest elements.
        scale = tolerance * (np.abs(y).max() + 1)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=scale, err_msg=name)
