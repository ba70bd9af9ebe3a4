"""Affine transformers: scalers and rotations."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from skemvae.bijections.base import Bijection, Columnwise, bijection_for
from skemvae.typing import FloatArray, Tabular


@bijection_for(StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)
class Scaling(Columnwise):
    """Shift and scale each column.

    Parameters
    ----------
    scaler : transformer
        Fitted.
    """

    is_proven = True

    def __init__(self, scaler: Any):
        if getattr(scaler, "clip", False):
            raise ValueError(
                f"{type(scaler).__name__}(clip=True) has no density: it maps all values beyond "
                "the training range to the same number. Set clip=False."
            )
        scale = scaler.scale_  # None if the scaler only shifts
        log_scale = np.zeros(scaler.n_features_in_) if scale is None else np.log(np.float64(scale))
        multiplies = isinstance(scaler, MinMaxScaler)  # the others divide
        self._log_slopes = log_scale if multiplies else -log_scale
        super().__init__(scaler)

    def log_slopes(self, X: Tabular) -> FloatArray:
        return np.tile(self._log_slopes, (X.shape[0], 1))


@bijection_for(PCA)
class Rotation(Bijection):
    """Rotate to all principal axes; with ``whiten``, also scale each to variance 1.

    Parameters
    ----------
    pca : PCA
        Fitted.
    """

    is_proven = True

    def __init__(self, pca: Any):
        if pca.n_components_ < pca.n_features_in_:
            raise ValueError(
                f"PCA with {pca.n_components_} of {pca.n_features_in_} components has no density: "
                "rows that differ only in what it drops become equal. Set n_components=None, and "
                f"fit it to at least as many rows as columns (n_samples = {pca.n_samples_})."
            )
        log_abs_det = 0.0
        if pca.whiten:
            variance = pca.explained_variance_.astype(np.float64)
            eps = np.finfo(pca.explained_variance_.dtype).eps
            # PCA replaces variances below eps squared. It computes the others with an error of
            # about eps times the largest.
            if variance.min() <= eps * max(eps, len(variance) * variance.max()):
                raise ValueError(
                    f"PCA(whiten=True) cannot whiten a component of variance {variance.min():.3g} "
                    f"beside one of {variance.max():.3g}: set whiten=False, leave out columns that "
                    "are linear combinations of others, or scale the columns first."
                )
            log_abs_det = -0.5 * float(np.log(variance).sum())
        super().__init__(pca)
        self._log_abs_det = log_abs_det

    def log_abs_det(self, X: Tabular) -> FloatArray:
        return np.full(X.shape[0], self._log_abs_det)
