"""What "converged" means for a VAE, where columns nearly determine each other and where not."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skemvae import VAEEstimator
from skemvae.likelihoods import Gaussian
from skemvae.vae_fit import VAEFit


def causes(noise, n):
    """Six channels of two causes, new rows, and the score of the truth on these."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(6, 2))
    X, new = (
        rng.normal(size=(m, 2)) @ loadings.T + noise * rng.normal(size=(m, 6)) for m in (n, 2000)
    )
    truth = multivariate_normal(np.zeros(6), loadings @ loadings.T + noise**2 * np.eye(6))
    return X, new, truth.logpdf(new).mean()


@pytest.mark.parametrize("hidden", [(), (32,)], ids=["affine", "networks"])
@pytest.mark.parametrize("noise", [0.1, 0.01])
def test_channels_of_common_causes_reach_the_truth(noise, hidden):
    X, new, truth = causes(noise, 1000)
    vae = VAEEstimator(hidden_layer_sizes=hidden, random_state=0).fit(X)
    assert vae.converged_
    assert truth - 0.1 < vae.score(new) < truth + 0.05


def test_defaults_reach_the_truth_of_channels_of_common_causes():
    X, new, truth = causes(0.01, 600)
    assert VAEEstimator(random_state=0).fit(X).score(new) > truth - 0.1


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
        max_iter=200,
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning, match="max_iter=200 epochs were not enough"):
        vae.fit(table)
    assert vae.score(table) > 1


@pytest.mark.parametrize("likelihood", ["gaussian", "student_t", Gaussian("row")], ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_what_has_converged_is_no_worse_than_the_factor_model(seed, likelihood):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, 1)) @ rng.normal(size=(1, 4)) + 0.1 * rng.normal(size=(200, 4))
    vae = VAEEstimator(1, hidden_layer_sizes=(8,), likelihood=likelihood, random_state=seed)
    fit = VAEFit(vae, X, None, going_on=False, early_stopping=True, kl_warmup=30)
    result = fit.run(500)
    factors = fit.trainer.evaluate(fit.trainer.held_out, fit.trainer.rival)
    assert result.state.best_bound >= factors


def test_a_quick_look_and_a_patient_one_agree_once_converged():
    """Three times the patience gains little, of what is held out."""
    X = load_iris().data
    bounds = []
    for n_iter_no_change in (10, 30):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            vae = VAEEstimator(
                n_iter_no_change=n_iter_no_change, max_iter=1000, random_state=0
            ).fit(X)
        bounds.append(vae.validation_lower_bounds_.max())
    assert bounds[1] - bounds[0] < 0.02


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
