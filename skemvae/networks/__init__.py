"""Torch networks: encoders, decoders, priors, gradients of the bound, and training."""

from skemvae.optional import require

require("torch", purpose="skemvae.networks")
