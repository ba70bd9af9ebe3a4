"""Fitted transformers as bijections: log determinants, images and inverses.

``bijection_of`` returns the bijection of a fitted transformer. To support a
transformer of your own, write a subclass of ``Bijection`` and register it:

>>> import numpy as np
>>> from sklearn.preprocessing import StandardScaler
>>> from skemvae.bijections import Bijection, bijection_for, bijection_of
>>> class Halving(StandardScaler):
...     def transform(self, X):
...         return super().transform(X) / 2
...
...     def inverse_transform(self, Y):
...         return super().inverse_transform(2 * np.asarray(Y))
>>> @bijection_for(Halving)
... class HalvingBijection(Bijection):
...     def log_abs_det(self, X):
...         return np.full(len(X), -np.log(2 * self.transformer.scale_).sum())
>>> X = np.array([[0.0], [2.0]])
>>> bijection_of(Halving().fit(X)).log_abs_det(X)
array([-0.69314718, -0.69314718])
"""

# Importing these modules registers their bijections.
from skemvae.bijections import affine, composite, function, in_place, power  # noqa: F401
from skemvae.bijections.base import Bijection, bijection_for, bijection_of

__all__ = ["Bijection", "bijection_for", "bijection_of"]
