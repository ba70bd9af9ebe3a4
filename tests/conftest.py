"""Settings of all tests."""

import os

# Where tests run side by side, each has one core: threads of several would wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis

# Laws are drawn afresh locally; CI draws the same examples at every run.
hypothesis.settings.register_profile("local", deadline=None, max_examples=40)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.register_profile("many", deadline=None, max_examples=1000)
profile = "ci" if os.environ.get("CI") else "local"
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", profile))
