"""The package as a whole: what importing it costs, and what it says of itself."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np

import skemvae

ROOT = Path(__file__).parents[1]


# One step after the other, in one process.
STEPS_WITHOUT_OPTIONAL_PACKAGES = """
import skemvae
import skemvae.models, skemvae.displays
from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM
EMGaussianMixture(random_state=0).fit(np.eye(9))
em = VariationalEM(random_state=0).fit([[0.0], [1.0], [3.0], [3.5]])
em.score([[1.0]]), em.sample(2), em.predict([[1.0]])
repr(VariationalEM("factor_model"))
repr(VAEEstimator()), VAEEstimator().get_params()
""".strip().splitlines()


def test_optional_packages_are_imported_by_who_needs_them():
    optional = {"torch", "matplotlib", "onnx", "dask", "distributed"}
    needs_torch = 'VariationalEM("factor_model", tol=1).fit([[0.0, 1], [1, 1.5], [3, 2], [4, 1]])'
    code = ["import sys, numpy as np"]
    for step in (*STEPS_WITHOUT_OPTIONAL_PACKAGES, needs_torch):
        code += [step, f"print({step!r}, {optional} & set(sys.modules), sep='; ')"]
    command = [sys.executable, "-W", "ignore", "-c", "\n".join(code)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    *without, last = out.stdout.splitlines()
    assert without == [f"{step}; set()" for step in STEPS_WITHOUT_OPTIONAL_PACKAGES]
    assert last == f"{needs_torch}; {{'torch'}}"


def test_the_version_has_one_source():
    assert metadata.version("skemvae") == skemvae.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert f"## {skemvae.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_core_knows_neither_scikit_learn_nor_torch_nor_dask():
    for path in (ROOT / "skemvae" / "core").glob("*.py"):
        text = path.read_text()
        for line in text.splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].partition(".")[0] not in ("sklearn", "torch", "dask"), (path, line)


def test_ci_runs_the_readmes_own_commands_each_in_its_own_environment():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    for command in ("make demo", "make test"):
        assert command in readme
    runs = re.findall(r"^make VENV=(\S+) (\w+)$", ci, re.MULTILINE)
    assert {command for _, command in runs} == {"lint", "demo", "test", "docs"}
    assert len({environment for environment, _ in runs}) == len(runs)


def test_the_readmes_examples_run():
    names = {}
    for block in (ROOT / "README.md").read_text().split("```python\n")[1:]:
        exec(block.split("```")[0], names)
        benign, malignant = (names["log_density"][names["y"] == label] for label in (1, 0))
        assert np.median(malignant) < np.quantile(benign, 0.05)
    assert names["X_new"].shape == (10, 30)
