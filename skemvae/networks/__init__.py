"""Networks in torch: encoders, decoders, priors, gradients of the bound, training."""

from skemvae.optional import require

require("torch", purpose="skemvae.networks")
