"""Settings of all tests: what hypothesis draws, and a count of the examples on which laws held."""

import os

# Where tests run side by side, each has one core: threads of several would wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import functools
import signal

import pytest
from hypothesis import HealthCheck, settings

# A shell has its background jobs ignore Ctrl-C; the tests that send it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing is left to defaults of hypothesis, which differ under CI.
COMMON = {
    "database": None,
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],  # that depends on the machine
}
settings.register_profile("test", max_examples=25, derandomize=True, **COMMON)
examples = int(os.environ.get("EXAMPLES", "80"))
settings.register_profile("laws", max_examples=examples, derandomize=False, **COMMON)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "test")
settings.load_profile(PROFILE)

# Hypothesis also draws numbers that stand in the code of loaded modules. Without them the draws of
# a law depend neither on what other tests have imported nor on any change of the library.
with contextlib.suppress(ImportError):  # older versions draw none
    from hypothesis.internal.conjecture import providers

    providers._get_local_constants = lambda: providers._local_constants


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    law = getattr(getattr(item, "obj", None), "hypothesis", None)
    if PROFILE != "laws" or law is None:
        return (yield)
    inner, held = law.inner_test, []

    @functools.wraps(inner)
    def counted(*args, **kwargs):
        inner(*args, **kwargs)
        held.append(True)

    law.inner_test = counted
    try:
        return (yield)
    finally:
        law.inner_test = inner
        item.user_properties.append(("examples", len(held)))


def pytest_terminal_summary(terminalreporter, config):
    if PROFILE != "laws":
        return
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    counts = [
        number
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, number in report.user_properties
        if name == "examples"
    ]
    terminalreporter.write_line(
        f"{len(counts)} laws, {sum(counts)} examples on which they held. The same draws again: "
        f"make laws SEED={config.getoption('hypothesis_seed')} EXAMPLES={examples}"
    )
