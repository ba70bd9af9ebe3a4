"""Parts of Bayesian mixtures and streams: priors, posteriors of parameters, merges."""
