"""Test log-likelihood of binary MNIST: one stochastic layer, the protocol of the IWAE paper.

Architecture of Burda, Grosse and Salakhutdinov (2016): 784-200-200-50 and back, tanh. Grey values
are drawn as 0 or 1 anew for each batch in training, and once for the 10,000 test images; the figure
is the importance bound with 5,000 samples. ``static`` is the binarisation of Larochelle and Murray
(2011), with the best architecture and prior that the estimator offers. Published, in nats: 86.76
(VAE), 85.54 (IWAE, k = 5), 84.78 (k = 50); static 88.5 (VAE), 85.7 (pseudo-input prior).

    python benchmarks/mnist.py --data $SKEMVAE_DATA --only vae

Prints the curve against time, then a table. Batches of 500 keep two threads busy; those of 100 have
one, and a run of another configuration beside it then costs little.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from skemvae import VAEEstimator

IWAE = {
    "objective": "iwae",
    "gradient": "doubly_reparameterized",
}
# name: (data, parameters, epochs meant to take less than an hour on two cores)
RUNS = {
    "vae": ("grey", {}, 560),
    "iwae5": ("grey", {"n_importance_samples": 5, **IWAE}, 300),
    "iwae50": ("grey", {"n_importance_samples": 50, **IWAE}, 60),
    "static": (
        "static",
        {
            "prior": "vamp",
            "n_prior_components": 500,
            "hidden_layer_sizes": (300, 300),
            "kl_warmup": 20,
            "early_stopping": True,  # keeps the epoch with the best held-out bound
            "validation_fraction": 1 / 6,
        },
        160,
    ),
}


class Curve:
    """A scikit-learn callback that notes the time of each epoch."""

    def __init__(self):
        self.seconds, self.cpu_seconds = [], []

    def setup(self, estimator, context):
        self.begin, self.cpu_begin = time.perf_counter(), time.process_time()

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.seconds.append(time.perf_counter() - self.begin)
            self.cpu_seconds.append(time.process_time() - self.cpu_begin)


def load(data, kind):
    """Training and test images, float32: grey values in [0, 1], or bits."""
    folder = Path(data) / "mnist"
    if kind == "static":
        parts = [
            loadmat(folder / f"binarized_mnist_{part}.amat", appendmat=False)["X"]
            for part in ("train", "valid", "test")
        ]
        train, valid, test = (part.astype(np.float32) for part in parts)
        return np.concatenate([train, valid]), test
    images = np.load(folder / "mnist.npz")
    train, test = (images[f"x_{part}"].astype(np.float32) / 255 for part in ("train", "test"))
    rng = np.random.RandomState(0)
    return train, (rng.uniform(size=test.shape) < test).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with mnist/")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=["vae", "iwae5", "static"])
    parser.add_argument("--epochs", type=int, help="instead of those of an hour")
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--learning-rate", type=float, default=6e-3)
    parser.add_argument("--samples", type=int, default=5000, help="of the importance bound")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.only:
        kind, parameters, epochs = RUNS[name]
        train, test = load(arguments.data, kind)
        curve = Curve()
        vae = VAEEstimator(
            50,
            likelihood="bernoulli",
            learning_rate="cosine",
            n_score_samples=arguments.samples,
            max_iter=arguments.epochs or epochs,
            device=arguments.device,
            random_state=0,
            **{
                "hidden_layer_sizes": (200, 200),
                "activation": "tanh",
                "batch_size": arguments.batch_size,
                "learning_rate_init": arguments.learning_rate,
                "early_stopping": False,
                "kl_warmup": 0,
                **parameters,
            },
        ).set_callbacks(curve)
        vae.fit(train)
        print(f"\n{name}: minutes, epoch, training bound (nats)")
        for epoch in np.unique(np.geomspace(1, vae.n_iter_, 25).astype(int)):
            print(
                f"{curve.seconds[epoch - 1] / 60:8.1f} {epoch:6d} {vae.lower_bounds_[epoch]:9.2f}"
            )
        begin = time.perf_counter()
        log_density, error = vae.score_samples(test, return_std=True)
        scoring = time.perf_counter() - begin
        rows.append(
            f"{name:8} {vae.n_iter_:7d} {curve.seconds[-1] / 60:8.1f} "
            f"{curve.cpu_seconds[-1] / 60:8.1f} {-vae.elbo(test[::5]).mean():9.2f} "
            f"{-log_density.mean():9.2f} {np.sqrt((error**2).sum()) / len(test):7.3f} "
            f"{vae.n_active_units_:6d} {scoring:9.0f}"
        )
        print(rows[-1], flush=True)
    print(f"\n{'run':8} {'epochs':>7} {'minutes':>8} {'CPU min':>8} {'-ELBO':>9} ", end="")
    print(f"{'NLL':>9} {'error':>7} {'active':>6} {'scoring s':>9}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
