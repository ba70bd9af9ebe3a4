"""Vector widths of the compiled kernel, and the path without it."""

from contextlib import contextmanager

from hypothesis import strategies as st

from skemvae.kernel import native

levels = st.sampled_from(native.LEVELS or (None,))


@contextmanager
def path(level):
    """Passes and steps at a vector width, or through NumPy for None."""
    before, native.level = native.level, level
    try:
        yield
    finally:
        native.level = before
