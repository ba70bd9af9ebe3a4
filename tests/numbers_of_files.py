"""Numbers of files replaced by others: ``test_hostile_files.py`` runs this in a process of its own.

Takes a folder of files, and how many of the numbers to change. A case that takes too long ends the
process, with a traceback of where it is; so does one that wants too much memory.
"""

import faulthandler
import json
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import skemvae
from skemvae.persistence import container
from tests.own_models import GaussianPair

VALUES = [10**9, 2**62, -1, 0, 1e300, float("nan")]
# Seconds and bytes; importing torch alone takes gigabytes of addresses.
LONGEST, LARGEST = 1.0, 2**30
ROWS = {"vae": np.array([[1.0, "a"], [2.5, "b"]], dtype=object)}


def numbers(document, path=()):
    """Where a document holds a number."""
    if isinstance(document, dict | list):
        children = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in children:
            yield from numbers(value, (*path, key))
    elif isinstance(document, int | float) and not isinstance(document, bool):
        yield path


def changed(document, path, value):
    """The document with another number in one place."""
    document = json.loads(json.dumps(document))
    place = document
    for key in path[:-1]:
        place = place[key]
    is_plain = isinstance(value, int) or np.isfinite(value)
    place[path[-1]] = value if is_plain else {"float": str(value)}
    return json.dumps(document)


def cases(path):
    """Text and arrays of a file with one number changed, and which."""
    text, arrays = container.read(path)
    document = json.loads(text["estimator"])
    for value in VALUES:
        for place in numbers(document):
            yield (place, value), {**text, "estimator": changed(document, place, value)}, arrays
        for name, array in arrays.items():
            fits = array.dtype.kind == "f" or (isinstance(value, int) and value <= 2**31)
            if array.size and fits:
                other = array.copy()
                with np.errstate(over="ignore"):
                    other.flat[0] = np.asarray(value).astype(array.dtype)
                yield (name, value), text, {**arrays, name: other}


def use(path, rows):
    """Load a file, and ask what it takes least to ask; it may refuse."""
    try:
        estimator = skemvae.load(path, models=[GaussianPair])
        estimator.score_samples(rows)
        estimator.sample(3)
    except (ValueError, TypeError, ArithmeticError, RuntimeError):
        pass


def main(folder, share):
    """Try every case, or one of each ``share``."""
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    for path in sorted(Path(folder).iterdir()):
        kind, file = path.name, path.with_name("changed")
        rows = ROWS.get(kind, np.zeros((2, 2)))
        use(path, rows)  # imports take their time
        most = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (most + LARGEST, resource.RLIM_INFINITY))
        for i, (where, text, arrays) in enumerate(cases(path)):
            if i % share == 0:
                file.unlink(missing_ok=True)
                container.write(file, text, arrays)
                print(kind, where, file=sys.stderr, flush=True)
                faulthandler.dump_traceback_later(10 * LONGEST, exit=True)
                began = time.process_time()
                use(file, rows)
                assert time.process_time() - began < LONGEST, (kind, where)
                faulthandler.cancel_dump_traceback_later()
        file.unlink()
    print("done")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
