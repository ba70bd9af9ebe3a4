"""The inference core: NumPy arrays in and out, without scikit-learn or torch.

Read the files in this order:

====================  =========================================================
``arrays``            the array types and a few numerical helpers
``rows``              rows in memory and the frame (coordinates) they are read in
``table``             a table: parts of rows, over which each pass is a sum
``bound``             the free energy, its relatives and the exact posterior
``moments``           additive expected sufficient statistics
``scan``              the arithmetic of one block of rows under K components
``covariance``        the interface of a covariance structure
``gaussian_mixture``  parameters of a Gaussian mixture, and its M step
``expectation``       the E step: moments and bound of a table
``em``                one EM iteration: an M step, then an E step
``iterate``           the loop, its stopping rules and its result
``chart``             unconstrained coordinates around a mixture
``decomposition``     the parts of the bound and its gaps, for users
====================  =========================================================

``workspace`` holds the scratch memory of a pass, and ``structures`` explains the
failure of old pickles. The covariance structures themselves are in
``skemvae.structures``.
"""
