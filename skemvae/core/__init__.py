"""The inference engine: NumPy arrays; knows neither scikit-learn nor torch.

Five concepts:

=================  ==========================================================
``covariance``     the algebra of K covariance matrices; their ``structures``,
                   and the arithmetic of one block of rows (``scan``)
``moments``        additive expected sufficient statistics
``bound``          the free energy and its relatives
``expectation``    the E step, block by block
``iterate``        the one loop, its stopping rule and its result; ``em`` is
                   what it repeats
=================  ==========================================================

``rows`` is a table in coordinates that are safe for floating point, ``sketch``
a bounded sample of its distinct rows; ``parallel`` and ``workspace`` are the
threads and the scratch memory of a pass.
"""
