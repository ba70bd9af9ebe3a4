"""What "converged" means for a VAE, where columns nearly determine each other and where not."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skemvae import VAEEstimator
from skemvae.likelihoods import Gaussian
from skemvae.networks.fit import VAEFit


def causes(noise, n):
    """Six channels of two causes, new rows, and the score of the truth on these."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(6, 2))
    X, new = (
        rng.normal(size=(m, 2)) @ loadings.T + noise * rng.normal(size=(m, 6)) for m in (n, 2000)
    )
    truth = multivariate_normal(np.zeros(6), loadings @ loadings.T + noise**2 * np.eye(6))
    return X, new, truth.logpdf(new).mean()


@pytest.mark.parametrize("hidden", [(), (128, 128)], ids=["affine", "networks"])
def test_channels_of_common_causes_reach_the_truth(hidden):
    X, new, truth = causes(0.01, 500)
    vae = VAEEstimator(hidden_layer_sizes=hidden, random_state=0).fit(X)
    assert vae.converged_
    assert truth - 0.15 < vae.score(new) < truth + 0.05


def test_affine_networks_reach_probabilistic_principal_components():
    r = np.random.default_rng(5)
    W = r.normal(size=(6, 2))
    X = r.normal(size=(1500, 2)) @ W.T + 0.4 * r.normal(size=(1500, 6)) + 3
    affine = {"hidden_layer_sizes": (), "likelihood": Gaussian("shared"), "standardize": False}
    vae = VAEEstimator(**affine, random_state=0).fit(X)
    assert vae.converged_
    assert vae.score(X) == pytest.approx(PCA(2).fit(X).score(X), abs=0.01)


def test_a_number_and_its_label_are_not_called_converged_while_the_bound_rises():
    """With a jump for each label the decoder takes its time; the end would be about 5."""
    y = np.random.default_rng(0).integers(0, 3, 450)
    table = pd.DataFrame({"number": 1.0 * y, "label": np.array(list("abc"))[y]})
    vae = VAEEstimator(
        likelihood=[("gaussian", ["number"]), ("categorical", ["label"])],
        max_iter=120,
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning, match="max_iter=120 epochs were not enough"):
        vae.fit(table)
    assert vae.score(table) > 0.3


@pytest.mark.parametrize("likelihood", ["gaussian", "student_t"])
def test_what_has_converged_is_no_worse_than_the_factor_model(likelihood):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 1)) @ rng.normal(size=(1, 4)) + 0.1 * rng.normal(size=(120, 4))
    vae = VAEEstimator(1, hidden_layer_sizes=(8,), likelihood=likelihood, random_state=0)
    fit = VAEFit(vae, X, None, going_on=False, early_stopping=True, kl_warmup=30)
    result = fit.run(500)
    assert result.status == "converged"
    factors = fit.trainer.evaluate(fit.trainer.held_out, fit.trainer.rival)
    assert result.state.best_bound >= factors


def test_the_number_of_threads_does_not_move_the_factor_model():
    X, _, _ = causes(0.1, 300)
    before, scores = torch.get_num_threads(), []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            vae = VAEEstimator(hidden_layer_sizes=(), max_iter=0, random_state=0).fit(X)
            scores.append(vae.score_samples(X))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*scores)


def test_a_ring_is_not_taken_for_its_factor_model():
    """At the first plateau that has the higher bound, and the lower density."""
    rng = np.random.RandomState(0)
    angle = rng.uniform(0, 2 * np.pi, 500)
    ring = np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.1, (500, 2))
    vae = VAEEstimator(2, random_state=0).fit(ring)
    assert vae.n_active_units_ == 2
    assert vae.score(ring) > -1.5
