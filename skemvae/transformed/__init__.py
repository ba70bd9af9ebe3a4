"""Densities of transformed rows, in the units before the transformation."""
