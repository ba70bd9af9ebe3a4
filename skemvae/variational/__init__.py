"""Models fitted with a separate Gaussian q(z) for each row, in torch and float64."""

from skemvae.optional import require

require("torch", purpose="skemvae.variational")
