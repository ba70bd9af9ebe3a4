"""What older versions of scikit-learn cannot do."""

import pytest
import sklearn
from sklearn.utils.fixes import parse_version

RECENT = parse_version(sklearn.__version__) >= parse_version("1.9")

needs_callbacks = pytest.mark.skipif(not RECENT, reason="callbacks came with 1.9")


def is_exact_power(power):
    """Whether ``PowerTransformer`` keeps its digits: older ones lose them beside 0 and 2."""
    return RECENT or power in (0, 2) or min(abs(power), abs(power - 2)) > 1e-3
