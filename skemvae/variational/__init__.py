"""A Gaussian q(z) of each row's own, and models fitted with it: torch, float64."""

from skemvae.optional import require

require("torch", purpose="skemvae.variational")
