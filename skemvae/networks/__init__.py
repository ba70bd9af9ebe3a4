"""Networks in torch: encoders, decoders, priors, gradients of the bound, training."""
