"""Densities of a continuous z in torch, and estimates of log p(x) from points drawn from them."""

from skemvae.optional import require

require("torch", purpose="skemvae.posteriors")
