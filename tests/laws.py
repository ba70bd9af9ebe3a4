"""How often laws are tried."""

from hypothesis import settings


def costly(times):
    """Fewer examples of a law, each of which costs so many times as much as those of others."""
    return settings(max_examples=max(1, settings.default.max_examples // times))
