"""Starts of fits: divisions of the rows of a sketch, and races between them."""
