"""What Bayesian mixtures and streams add to a mixture: priors, posteriors of parameters, merges."""
