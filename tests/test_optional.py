"""Where an optional package is missing, whatever needs it says so, and how to install it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import dask.array
import numpy as np
import pytest

from skemvae import (
    BoundDecomposition,
    BoundLog,
    EMGaussianMixture,
    VAEEstimator,
    VariationalEM,
    compare,
    to_onnx,
)
from skemvae.displays import (
    BoundDisplay,
    DensityDisplay,
    FeatureScoreDisplay,
    GapDisplay,
    LatentDisplay,
    MixtureDisplay,
)
from skemvae.models import FactorModel
from skemvae.optional import _EXTRAS, require
from tests.own_models import LinearGaussian

X = np.random.default_rng(0).standard_normal((60, 3))
MIXTURE = EMGaussianMixture(2, random_state=0, tol=1.0).fit(X)
VAE = VAEEstimator(1, hidden_layer_sizes=(), kl_warmup=0, learning_rate="cosine", max_iter=1)
PARTS = BoundDecomposition(*np.zeros((7, 2)))
COMPARISON = compare({"EM": EMGaussianMixture()}, X, cv=2)

# What needs a package, by package and by what the error calls it.
NEEDS = {
    "torch": {
        "VAEEstimator": lambda: VAEEstimator().fit(X),
        "VAEEstimator ": lambda: VAEEstimator().partial_fit(X),
        "FactorModel": lambda: VariationalEM("factor_model").fit(X),
        "FactorModel ": lambda: VariationalEM(FactorModel(1, "bernoulli")).fit(X > 0),
        "LinearGaussian": lambda: VariationalEM(LinearGaussian(1)).fit(X),
        "device='cuda'": lambda: EMGaussianMixture(device="cuda").fit(X),
    },
    "matplotlib": {
        "Comparison.plot": lambda: COMPARISON.plot(),
        "A plot": lambda: BoundDisplay.from_estimator(MIXTURE),
        "A plot ": lambda: DensityDisplay.from_estimator(MIXTURE, X),
        "A plot  ": lambda: FeatureScoreDisplay.from_estimator(MIXTURE, X),
        "A plot   ": lambda: GapDisplay.from_estimator(MIXTURE, X),
        "A plot    ": lambda: LatentDisplay.from_estimator(MIXTURE, X),
        "A plot     ": lambda: MixtureDisplay.from_estimator(MIXTURE, X),
    },
    "pandas": {
        "Comparison.to_frame": lambda: COMPARISON.to_frame(),
        "BoundLog.to_frame": lambda: BoundLog("", "", "", []).to_frame(),
        "BoundDecomposition.to_frame": lambda: PARTS.to_frame(),
    },
    "onnx": {"to_onnx": lambda: to_onnx(MIXTURE)},
    "onnxscript": {"to_onnx of a VAE": lambda: to_onnx(VAE.fit(X))},
    "dask": {
        "A dask array as X": lambda: EMGaussianMixture().fit(dask.array.from_array(X)),
    },
}
CASES = [(package, name) for package, names in NEEDS.items() for name in names]


def block(monkeypatch, package):
    for module in (package, "matplotlib.pyplot", "dask.array"):
        if module.partition(".")[0] == package:
            monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize(("package", "purpose"), CASES)
def test_what_is_missing_is_named_with_the_remedy(monkeypatch, package, purpose):
    call = NEEDS[package][purpose]
    block(monkeypatch, package)
    message = f'{purpose.rstrip()} needs {package}: pip install "skemvae[{_EXTRAS[package]}]"'
    with pytest.raises(ImportError, match=f"^{re.escape(message)}$"):
        call()


def test_every_extra_exists_and_brings_its_package():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for package, extra in _EXTRAS.items():
        (requirement,) = [
            one
            for one in project["optional-dependencies"][extra]
            if re.match(rf"{package}(?!\w)", one)
        ]
        assert ">=" in requirement
    assert set(NEEDS) == set(_EXTRAS)


def test_a_package_that_is_there_but_broken_speaks_for_itself(monkeypatch, tmp_path):
    (tmp_path / "onnx.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnx", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        require("onnx", purpose="to_onnx")


def test_files_and_imports_say_it_too(tmp_path):
    """Of a process that has never seen torch: a file, a pickle, the likelihoods."""
    import pickle

    import skemvae

    fitted = VAE.fit(X)
    skemvae.save(fitted, tmp_path / "vae.skemvae")
    (tmp_path / "vae.pickle").write_bytes(pickle.dumps(fitted))
    code = """
import pickle, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Blocked())
import skemvae
def likelihoods():
    import skemvae.likelihoods
for call in (
    lambda: skemvae.load("vae.skemvae"),
    lambda: pickle.load(open("vae.pickle", "rb")),
    likelihoods,
):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(skemvae.__file__).parents[1])},
    )
    lines = out.stdout.splitlines()
    assert len(lines) == 3, out.stderr
    for line in lines:
        assert re.fullmatch(r'skemvae\.\w+ needs torch: pip install "skemvae\[vae\]"', line)
