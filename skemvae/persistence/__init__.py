"""Estimators in files that can be loaded without trusting them."""

from skemvae.persistence.files import load, save

__all__ = ["load", "save"]
