"""Tests draw the same examples everywhere, and hunts count what they try."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

LAW = """
import hashlib
{first}
from hypothesis import given, strategies as st

drawn = []

@given(st.integers(), st.floats())
def test_law(n, x):
    drawn.append((n, x.hex()))

def test_end():
    print("drawn", hashlib.md5(repr(drawn).encode()).hexdigest(), len(drawn))
"""


def run(folder, *arguments, first="", **variables):
    """What pytest prints of a law, with the settings of all tests."""
    folder.mkdir(parents=True)
    (folder / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (folder / "numbers_of_ours.py").write_text("X = [31415926, 2.71828, 1234567, 16777216]")
    (folder / "test_it.py").write_text(LAW.format(first=first))
    hidden = {"CI", "HYPOTHESIS_PROFILE", "EXAMPLES", "PYTEST_XDIST_WORKER"}
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | variables
    # Nothing is asserted there, and to rewrite the assertions of plugins takes a while.
    options = ["--assert=plain", "-q", "-s", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "test_it.py"]
    outcome = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stdout
    return outcome.stdout


def drawn(output):
    return next(line for line in output.splitlines() if "drawn" in line).split()[-2:]


def test_draws_depend_neither_on_ci_nor_on_what_is_loaded(tmp_path):
    here = drawn(run(tmp_path / "here"))
    there = drawn(run(tmp_path / "there", first="import numbers_of_ours", CI="true"))
    assert here == there
    assert int(here[1]) == 25


def test_a_hunt_draws_afresh_and_counts(tmp_path):
    hunt = run(tmp_path / "hunt", "--hypothesis-seed=1", HYPOTHESIS_PROFILE="laws", EXAMPLES="60")
    assert drawn(hunt)[1] == "60"
    assert "1 laws, 60 examples on which they held" in hunt
    assert "SEED=1 EXAMPLES=60" in hunt
