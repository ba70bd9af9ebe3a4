"""Estimators in files that can be loaded without trusting them."""
