"""The E step as fits take it."""

from skemvae.core import expectation as core
from skemvae.engine.climbs.sampling import SampledEM
from skemvae.engine.passes.choice import fastest_pass


def expectation(model, table, choose=fastest_pass):
    """The E step on a table."""
    return core.expectation(model, table, choose)


def em_on(table, choose=fastest_pass):
    """EM on a table, step by step."""
    return SampledEM(table, choose)
