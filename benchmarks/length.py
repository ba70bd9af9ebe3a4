"""Memory and time of fits on tables of any length: ``python benchmarks/length.py``.

Memory: the peak beyond X at (n, d, K) = (1e6, 32, 64), of the whole process in
a child of its own, for an array in memory, a memmap and batches; scikit-learn
beside them if asked for. Time: nanoseconds of all cores together per row and
iteration of fits to memmaps, batches and dask arrays, which must not grow with n.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import threading
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
from sklearn.mixture import GaussianMixture

from skemvae import EMGaussianMixture, from_batches

_BLOCK = 2**20  # numbers written or read at once: 8 MiB


def write_rows(path: Path, n: int, d: int, n_clusters: int) -> None:
    """Write overlapping clusters, block by block."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.standard_normal((n_clusters, d))
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(n, d))
    step = _BLOCK // d
    for start in range(0, n, step):
        block = X[start : start + step]
        block[:] = centres[rng.integers(n_clusters, size=len(block))]
        block += rng.standard_normal(block.shape)
    X.flush()


def read_rows(path: Path, kind: str):
    X = np.load(path, mmap_mode="r")
    if kind == "memory":
        return np.array(X)
    if kind == "batches":
        step = _BLOCK // X.shape[1]
        return from_batches(lambda: (np.array(X[i : i + step]) for i in range(0, len(X), step)))
    if kind == "dask":
        import dask.array

        return dask.array.from_array(X, chunks=(_BLOCK // X.shape[1], -1))
    return X


# Memory.


def anonymous() -> int:
    """Bytes of this process that are no pages of files, a memmap's say."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


class Peak:
    """The most memory within a block, beyond what there was before."""

    def __enter__(self):
        self._before = self.highest = anonymous()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._is_over.wait(0.002):
            self.highest = max(self.highest, anonymous())

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()

    @property
    def mebibytes(self) -> float:
        return (self.highest - self._before) / 2**20


def peak_memory(connection, path: Path, kind: str, n_components: int, traced: bool) -> None:
    """Send the peak of a fit, in MiB."""
    warnings.simplefilter("ignore")
    parameters = {"max_iter": 2, "tol": 0, "random_state": 0}
    warm_up = np.random.default_rng(0).standard_normal((2000, 2))
    EMGaussianMixture(2, **parameters).fit(warm_up)  # libraries make their threads
    if kind == "scikit-learn":
        X = read_rows(path, "memory")
        mixture = GaussianMixture(n_components, init_params="random_from_data", **parameters)
    else:
        X = read_rows(path, kind)
        mixture = EMGaussianMixture(n_components, **parameters)
    if traced:
        tracemalloc.start()
        mixture.fit(X)
        connection.send(tracemalloc.get_traced_memory()[1] / 2**20)
        return
    with Peak() as peak:
        mixture.fit(X)
    connection.send(peak.mebibytes)


def in_child(*arguments) -> float:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=peak_memory, args=(theirs, *arguments))
    child.start()
    child.join()
    return ours.recv()


def report_memory(folder: Path, n: int, d: int, k: int, kinds: list[str]) -> None:
    path = folder / "memory.npy"
    write_rows(path, n, d, k)
    size = path.stat().st_size / 2**20
    print(f"peak memory beyond X, MiB, at n={n:.0e}, d={d}, K={k} (X: {size:.0f} MiB)")
    print(f"{'X':>14} {'process':>9} {'allocated':>10}")
    for kind in kinds:
        process, allocated = (in_child(path, kind, k, traced) for traced in (False, True))
        print(f"{kind:>14} {process:9.1f} {allocated:10.1f}", flush=True)
    path.unlink()


# Time.


def report_time(folder: Path, sizes: list[int], d: int, k: int, kinds: list[str], repeat: int):
    print(f"\nns of all cores per row and iteration, d={d}, K={k} (median of {repeat});")
    print("in brackets the whole fit of 10 iterations, with its start, seconds")
    print(f"{'n':>10} " + " ".join(f"{kind:>18}" for kind in kinds))
    for n in sizes:
        path = folder / "time.npy"
        write_rows(path, n, d, k)
        cells = []
        for kind in kinds:
            X = read_rows(path, kind)
            whole, passes = [], []
            for _ in range(repeat):
                parameters = {"max_iter": 10, "tol": 0, "random_state": 0}
                mixture = EMGaussianMixture(k, warm_start=True, **parameters)
                whole.append(seconds(mixture, X, time.perf_counter))
                # Two more fits from there, of 1 and of 6 iterations: five apart.
                one, six = (
                    seconds(mixture.set_params(max_iter=m), X, time.process_time) for m in (1, 6)
                )
                passes.append((six - one) / 5 / n * 1e9)
            per_row, total = statistics.median(passes), statistics.median(whole)
            cells.append(f"{per_row:8.0f} ({total:6.2f} s)")
        print(f"{n:10.0e} " + " ".join(f"{cell:>18}" for cell in cells), flush=True)
        path.unlink()


def seconds(mixture: EMGaussianMixture, X, clock) -> float:
    start = clock()
    mixture.fit(X)
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--memory", type=float, nargs=3, default=[1e6, 32, 64], metavar="N")
    parser.add_argument("--sizes", type=float, nargs="*", default=[1e5, 1e6, 1e7])
    parser.add_argument("--kinds", nargs="*", default=["memmap", "batches", "dask"])
    parser.add_argument("--peer", action="store_true", help="scikit-learn's memory, too")
    parser.add_argument("--repeat", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    n, d, k = (int(number) for number in arguments.memory)
    peer = ["scikit-learn"] if arguments.peer else []
    with tempfile.TemporaryDirectory() as folder:
        report_memory(Path(folder), n, d, k, ["memory", "memmap", "batches", *peer])
        sizes = [int(n) for n in arguments.sizes]
        report_time(Path(folder), sizes, 8, 10, arguments.kinds, arguments.repeat)


if __name__ == "__main__":
    main()
