"""Time of EM for Gaussian mixtures on a GPU, against the same on the machine's CPU.

    python benchmarks/gpu.py [--repeats 3] [--device cuda] [--sizes 1000000x32x64 ...]

Both run the same number of iterations from the same start, in float64. Each time is that of
``max_iter`` iterations less that of none, so neither reading nor sending the rows counts; the fits
are interleaved, and medians and their ratio are printed. ``GFLOP/s`` takes 4 n K d^2 operations an
iteration; ``of the product`` is its share of what the device does in a product of two matrices of
8192 rows. ``|score|`` is the relative difference between the bounds. Without a GPU it says why
it does not run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

import skemvae
from skemvae import EMGaussianMixture

N_ITER = 10


def problem(n, d, k, seed=0):
    """Overlapping clusters, and a start near but not at their centres."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.standard_normal((k, d)) / np.sqrt(d)
    X = centres[rng.integers(k, size=n)] + rng.standard_normal((n, d))
    return X, {
        "weights_init": np.full(k, 1 / k),
        "means_init": centres + 0.3 * rng.standard_normal((k, d)) / np.sqrt(d),
        "precisions_init": np.broadcast_to(np.eye(d), (k, d, d)),
        "tol": 0,
    }


def fitted(X, parameters, k, device, n_iter):
    """The seconds of a fit, and the fit."""
    mixture = EMGaussianMixture(k, device=device, max_iter=n_iter, **parameters)
    begin = time.perf_counter()
    mixture.fit(X)
    return time.perf_counter() - begin, mixture


def product_rate(torch, device, size=8192):
    """GFLOP/s of a product of two matrices in float64."""
    a = torch.randn(size, size, dtype=torch.float64, device=device)
    times = []
    for _ in range(5):
        torch.cuda.synchronize(device)
        begin = time.perf_counter()
        a @ a
        torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
    return 2e-9 * size**3 / min(times)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", default=["1000000x32x64", "1000000x100x100"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    try:
        import torch
    except ModuleNotFoundError:
        print('There is no torch to reach a GPU with: pip install "skemvae[vae]".')
        return
    if not torch.cuda.is_available():
        print("torch finds no GPU here: nothing to measure.")
        return

    rate = product_rate(torch, arguments.device)
    print(
        f"skemvae {skemvae.__version__}, torch {torch.__version__}, "
        f"{torch.cuda.get_device_name(arguments.device)} against {os.cpu_count()} cores; "
        f"{N_ITER} iterations, float64, medians of {arguments.repeats}; "
        f"matrix products at {rate:.0f} GFLOP/s"
    )
    print(
        f"{'n':>8} {'d':>4} {'K':>4} | {'GPU':>9} {'CPU':>9} {'ratio':>6} | {'GFLOP/s':>8} "
        f"{'of the product':>14} | |score|"
    )
    for size in arguments.sizes:
        n, d, k = map(int, size.split("x"))
        X, parameters = problem(n, d, k)
        seconds = {arguments.device: [], "cpu": []}
        bounds = {}
        for _ in range(arguments.repeats):
            for device, times in seconds.items():
                none, _ = fitted(X, parameters, k, device, 0)
                some, mixture = fitted(X, parameters, k, device, N_ITER)
                times.append(some - none)
                bounds[device] = mixture.lower_bound_
        gpu, cpu = (statistics.median(times) for times in seconds.values())
        reached = 4e-9 * N_ITER * n * k * d * d / gpu
        difference = abs(bounds[arguments.device] / bounds["cpu"] - 1)
        print(
            f"{n:>8} {d:>4} {k:>4} | {gpu:>8.3f}s {cpu:>8.3f}s {cpu / gpu:>6.1f} | "
            f"{reached:>8.0f} {reached / rate:>13.0%}  | {difference:.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
