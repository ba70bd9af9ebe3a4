"""Covariance structures, one class each, found in ``registry``."""
