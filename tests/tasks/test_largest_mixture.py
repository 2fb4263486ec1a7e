"""The largest size of several mixtures, against trying every size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cogcalib.tasks import largest_mixture


@given(
    known=st.integers(0, 30),
    unknown=st.integers(0, 30),
    doubtful=st.integers(0, 5),
    shares=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.5, 2 / 3, 0.8, 1.0]), min_size=1),
)
def test_it_is_the_largest_that_fits_every_share(
    known: int, unknown: int, doubtful: int, shares: list[float]
) -> None:
    kinds = ["known"] * known + ["unknown"] * unknown + ["doubtful"] * doubtful

    def most(share: float) -> int:
        return max(
            size
            for size in range(known + unknown + 1)
            if round(share * size) <= unknown and size - round(share * size) <= known
        )

    assert largest_mixture(kinds, shares) == min(map(most, shares))
