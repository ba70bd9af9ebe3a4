"""The compiled kernel, and algebra of small matrices by it or by NumPy."""
