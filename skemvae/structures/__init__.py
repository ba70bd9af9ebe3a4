"""Covariance structures, one class each; ``registry`` lists them."""
