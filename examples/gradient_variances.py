"""
Six estimators of one gradient
==============================

All estimators of the gradient of a VAE's bound are unbiased, so they differ only in
their variance. This example measures the variance on the irises, at the start of a fit
and at its end: with S = 8 samples of z for each row, over many draws of the noise.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler

from skemvae import VAEEstimator
from skemvae.networks.gradients import ESTIMATORS

X = StandardScaler().fit_transform(load_iris().data)
N_SAMPLES, N_DRAWS = 8, 200

# %%
# ``module_`` holds the networks: ``phi()`` returns the parameters of the encoder,
# ``theta()`` those of the decoder and the prior. Each estimator returns a surrogate
# whose gradient is the estimate, for noise of shape (rows, samples, dimensions).


def gradients(vae, estimate):
    """A gradient of the mean bound for each draw of the noise: of phi, of theta."""
    module, generator = vae.module_.double(), torch.Generator().manual_seed(0)
    u = torch.from_numpy(X)
    both = ([], [])
    for _ in range(N_DRAWS):
        noise = torch.randn(
            len(u), N_SAMPLES, vae.n_components, generator=generator
        ).double()
        surrogate = estimate(module, u, noise, 1.0)[0].mean()
        for part, parameters in zip(both, (module.phi(), module.theta()), strict=True):
            slopes = torch.autograd.grad(
                surrogate,
                parameters,
                retain_graph=True,
                materialize_grads=True,
                allow_unused=True,
            )
            part.append(torch.cat([slope.ravel() for slope in slopes]).numpy())
    return [np.array(part) for part in both]


# %%
# The table shows the variance of the gradient, summed over all parameters. For the ELBO
# (the bound), "doubly_reparameterized" means along the path only. Its variance vanishes
# where :math:`q` is the exact posterior. So it loses at the start, where the KL term in
# closed form has no noise at all, and wins at the end. The score function has the
# largest variance, and relative to the others it is worst at the start. The gradient of
# the decoder does not depend on how z is differentiated.

settings = {"hidden_layer_sizes": (16,), "standardize": False, "random_state": 0}
moments = {
    "at the start": VAEEstimator(2, max_iter=0, **settings).fit(X),
    "at the end": VAEEstimator(2, **settings).fit(X),
}
variance = {}
for when, vae in moments.items():
    print(f"\n{when:<36}{'encoder':>10}{'decoder':>10}")
    for (objective, gradient), estimate in ESTIMATORS.items():
        spread = [part.var(0).sum() for part in gradients(vae, estimate)]
        variance[when, objective, gradient] = spread
        print(f"  {objective:<5}{gradient:<29}{spread[0]:10.2g}{spread[1]:10.2g}")

# %%
# The picture shows the variance of the encoder's gradient. Lower is better.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
names = ["reparameterization", "doubly_reparameterized", "score_function"]
for axis, objective in zip(axes, ("elbo", "iwae"), strict=True):
    for i, when in enumerate(moments):
        heights = [variance[when, objective, name][0] for name in names]
        axis.bar(np.arange(3) + 0.4 * i, heights, 0.38, label=when)
    axis.set(yscale="log", title=objective.upper())
    axis.set_xticks(np.arange(3) + 0.2, [name.replace("_", "\n") for name in names])
axes[0].set_ylabel("variance of the encoder's gradient")
axes[0].legend(loc="upper left")
plt.show()
