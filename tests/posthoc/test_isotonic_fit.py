"""The isotonic fit itself, with ties and in both directions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from cogcalib.posthoc.isotonic_fit import isotonic_fit

pairs = st.lists(st.tuples(st.integers(0, 12), st.integers(-3, 3)), min_size=1, max_size=40)


@pytest.mark.parametrize("increasing", [True, False])
@given(data=pairs)
def test_it_is_that_of_scikit_learn_in_both_directions(data, increasing):
    x, y = np.array(data, dtype=float).T
    points, values = isotonic_fit(x, y, increasing=increasing)
    oracle = IsotonicRegression(increasing=increasing, out_of_bounds="clip").fit(x, y)
    at = np.linspace(-1, 13, 113)
    np.testing.assert_allclose(np.interp(at, points, values), oracle.predict(at), atol=1e-12)
    assert (np.diff(points) > 0).all()
    # No point stands inside a level stretch.
    assert not ((values[1:-1] == values[:-2]) & (values[1:-1] == values[2:])).any()
