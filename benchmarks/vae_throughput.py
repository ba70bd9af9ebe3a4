"""Training speed of ``VAEEstimator`` against bare torch loops, in rows per second.

    python benchmarks/vae_throughput.py [--repeats 5] [--rows 30000] [--threads 1 2]

The network is 784-200-200-50 and back, tanh, Bernoulli, on grey random images that are drawn as 0
or 1 for each batch. ``bare`` is what one writes by hand: tensors indexed directly, fused Adam, no
validation, no bookkeeping; ``DataLoader`` is the same with torch's own. Both use the number of
threads of the row; ours takes as many. Medians over epochs in turn; the ratios are ours / theirs.
Then the time of a default fit of 500 x 10.
"""

import argparse
import os
import time
import warnings

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from skemvae import VAEEstimator
from skemvae.core.iterate import iterate
from skemvae.networks.fit import VAEFit


class Bare(nn.Module):
    """A VAE as in a tutorial."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh()]
        self.encoder = nn.Sequential(*layers, nn.Linear(200, 100))
        layers = [nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh()]
        self.decoder = nn.Sequential(*layers, nn.Linear(200, 784))

    def loss(self, grey):
        x = (torch.rand_like(grey) < grey).float()
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        reconstruction = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        return (reconstruction + kl) / len(x)


def bare_epoch(X, batch_size, loader):
    """A function that trains for an epoch."""
    model = Bare()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def batches():
        order = torch.randperm(len(X))
        for i in range(0, len(X), batch_size):
            yield X[order[i : i + batch_size]]

    loaded = DataLoader(TensorDataset(X), batch_size, shuffle=True)

    def epoch():
        for batch in (b for (b,) in loaded) if loader else batches():
            optimiser.zero_grad()
            model.loss(batch).backward()
            optimiser.step()

    return epoch


def our_epoch(X, batch_size):
    """The same of ours: a step of its loop."""
    vae = VAEEstimator(
        50,
        hidden_layer_sizes=(200, 200),
        activation="tanh",
        likelihood="bernoulli",
        batch_size=batch_size,
        early_stopping=False,
        learning_rate="cosine",
        random_state=0,
    )
    trainer = VAEFit(vae, X, None, False, False, kl_warmup=0).trainer
    progress = trainer.start()

    def epoch():
        nonlocal progress
        progress = iterate(trainer.step, progress, stop=lambda _: False, max_iter=1).state

    return epoch


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count()])
    arguments = parser.parse_args()
    X = np.random.default_rng(0).uniform(size=(arguments.rows, 784)).astype(np.float32) ** 3
    print(f"torch {torch.__version__}, {os.cpu_count()} cores; thousands of rows per second")
    print("threads batch |   ours   bare DataLoader | ours/bare ours/DataLoader")
    for n_threads in arguments.threads:
        for batch_size in (100, 500):
            epochs = {
                "ours": our_epoch(X, batch_size),
                "bare": bare_epoch(torch.from_numpy(X), batch_size, loader=False),
                "DataLoader": bare_epoch(torch.from_numpy(X), batch_size, loader=True),
            }
            seconds = {name: [] for name in epochs}
            torch.set_num_threads(n_threads)
            with threadpool_limits(n_threads):
                for repeat in range(arguments.repeats + 1):
                    for name, epoch in epochs.items():
                        begin = time.perf_counter()
                        epoch()
                        if repeat:  # the first warms up
                            seconds[name].append(time.perf_counter() - begin)
            ours, bare, loader = (len(X) / np.median(s) / 1000 for s in seconds.values())
            print(
                f"{n_threads:7d} {batch_size:5d} | {ours:6.1f} {bare:6.1f} {loader:10.1f} "
                f"| {ours / bare:9.2f} {ours / loader:15.2f}",
                flush=True,
            )
    rng = np.random.default_rng(0)
    small = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 10))
    small += 0.3 * rng.standard_normal(small.shape)
    warnings.simplefilter("ignore")
    times = []
    for seed in range(3):
        begin = time.perf_counter()
        vae = VAEEstimator(random_state=seed).fit(small)
        times.append(time.perf_counter() - begin)
    print(f"defaults on 500 x 10: {np.median(times):.1f} s, {vae.n_iter_} epochs the last time")


if __name__ == "__main__":
    main()
