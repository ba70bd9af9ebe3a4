"""Fitted transformers as bijections: how they change volumes, what their image is, the way back.

``bijection_of`` finds the bijection of a fitted transformer. To teach it a
transformer of your own, write a subclass of ``Bijection`` and enter it:

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

# The other modules enter their kinds when they are imported.
from skemvae.bijections import affine, composite, function, in_place, power  # noqa: F401
from skemvae.bijections.base import Bijection, bijection_for, bijection_of

__all__ = ["Bijection", "bijection_for", "bijection_of"]
