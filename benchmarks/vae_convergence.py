"""What "converged" means for ``VAEEstimator``: what more epochs would gain, and what is missing.

    python benchmarks/vae_convergence.py [--seeds 1] [--tables six normal]

Fits with all defaults. ``bound`` is the one that is watched, that of held-out rows, at the end of
the fit, in nats per row. Then training goes on for twice as many epochs: ``same`` is what they gain
at the rate of the end, ``first`` at the rate of the beginning. ``score`` is the mean log density of
new rows, ``truth`` that of the distribution they were drawn from, where it is known ("linear": the
maximum of the likelihood, of the training rows). Of real tables a quarter of the rows are new.
``seconds`` are of CPU, of the fit alone.
"""

import argparse
import time
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_moons
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from skemvae import VAEEstimator
from skemvae.core.iterate import Patience, iterate
from skemvae.likelihoods import Gaussian
from skemvae.networks.fit import VAEFit


def causes(noise, n=1000, **parameters):
    """Six channels of two causes."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(6, 2))

    def draw(n):
        return rng.normal(size=(n, 2)) @ W.T + noise * rng.normal(size=(n, 6))

    X, new = draw(n), draw(2000)
    truth = multivariate_normal(np.zeros(6), W @ W.T + noise**2 * np.eye(6))
    return X, new, truth.logpdf(new).mean(), parameters


def linear():
    """Probabilistic principal components."""
    r = np.random.default_rng(5)
    W = r.normal(size=(6, 2))
    X = r.normal(size=(1500, 2)) @ W.T + 0.4 * r.normal(size=(1500, 6)) + 3
    parameters = {"hidden_layer_sizes": (), "likelihood": Gaussian("shared"), "standardize": False}
    return X, X, PCA(2).fit(X).score(X), parameters


def number_and_label():
    """They determine each other; the floor of the variance is a millionth of the column's."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 1450)
    table = pd.DataFrame({"number": 1.0 * y, "label": np.array(list("abc"))[y]})
    best = -0.5 * np.log(2 * np.pi * 1e-6 * y[:450].var()) - np.log(3)
    return (
        table[:450],
        table[450:],
        best,
        {"likelihood": [("gaussian", ["number"]), ("categorical", ["label"])]},
    )


def normal():
    """Five independent columns."""
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(1000, 5)), rng.normal(size=(2000, 5))
    return X, new, multivariate_normal(np.zeros(5)).logpdf(new).mean(), {}


def moons():
    """Two half circles."""
    X, _ = make_moons(1500, noise=0.1, random_state=0)
    return split(X)


def split(X):
    """A real table."""
    return *train_test_split(X, test_size=0.25, random_state=0), np.nan, {}


TABLES = {
    "six, noise .1": lambda: causes(0.1),
    "six, noise .03": lambda: causes(0.03),
    "six, noise .01": lambda: causes(0.01),
    "the same, affine": lambda: causes(0.01, hidden_layer_sizes=()),
    "linear": linear,
    "number and label": number_and_label,
    "moons": moons,
    "normal": normal,
    "iris": lambda: split(load_iris().data),
    "wine": lambda: split(load_wine().data),
    "breast cancer": lambda: split(load_breast_cancer().data),
    "digits, 8 PCs": lambda: split(PCA(8, random_state=0).fit_transform(load_digits().data)),
}


def more_epochs(fit, result, rate):
    """What twice as many epochs at a rate gain on the best bound."""
    trainer, progress = fit.trainer, result.state
    trainer.vae.load_state_dict(progress.best)
    progress = replace(progress, weights=progress.best)
    never = Patience(10**9, 0.0)
    trainer.schedule = replace(trainer.schedule, kind="constant", rate=rate, patience=never)
    more = iterate(trainer.step, progress, stop=lambda _: False, max_iter=2 * result.n_iter)
    return more.state.best_bound - progress.best_bound


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tables", nargs="*", default=[""], help="parts of their names")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    columns = ("epochs", 9), ("seconds", 8), ("bound", 9), ("same", 8), ("first", 8), ("score", 9)
    heading = "".join(f"{name:>{width}}" for name, width in (*columns, ("truth", 9)))
    print(f"{'table':<18}seed  status  {heading}")
    for name, make in TABLES.items():
        if not any(part in name for part in arguments.tables):
            continue
        X, new, truth, parameters = make()
        for seed in range(arguments.seeds):
            vae = VAEEstimator(random_state=seed, **parameters)
            begin = time.process_time()
            vae.fit(X)
            seconds = time.process_time() - begin
            fit = VAEFit(vae, X, None, False, True, min(vae.kl_warmup, vae.max_iter // 4))
            result = fit.run(vae.max_iter)  # the same, to the last bit
            schedule = fit.trainer.schedule
            last = schedule.learning_rate(result.n_iter, result.state.watched)
            gains = [more_epochs(fit, result, rate) for rate in (last, schedule.rate)]
            bound = result.state.best_bound - fit.table.log_volume
            print(
                f"{name:<18}{seed:4d}  {vae.status_:<10}{vae.n_iter_:7d}{seconds:8.1f}{bound:9.3f}"
                f"{gains[0]:8.3f}{gains[1]:8.3f}{vae.score(new):9.3f}{truth:9.3f}",
                flush=True,
            )


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
