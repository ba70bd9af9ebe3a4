"""The inference engine: NumPy only, knows neither scikit-learn nor torch.

Five concepts, each in one file:

=================  ==========================================================
``covariance``     the structures of K covariance matrices, and their algebra
``moments``        additive expected sufficient statistics
``bound``          the free energy and its relatives
``expectation``    the one function that touches rows, block by block
``iterate``        the one loop, its stopping rules and its result
=================  ==========================================================

Two helpers carry the data: ``rows`` (a table in coordinates that are safe for
floating point) and ``sketch`` (a bounded sample of its distinct rows).
``scan`` holds the arithmetic of one block for each family of covariances.
"""
