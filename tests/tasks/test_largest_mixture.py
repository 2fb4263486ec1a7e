"""The largest size of several mixtures is one that they all have, and no larger one is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cogcalib.records import Example
from cogcalib.tasks import compose, largest_mixture

SHARES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 2 / 3, 0.8, 1.0]), min_size=1, max_size=4)


@given(known=st.integers(0, 12), unknown=st.integers(0, 12), shares=SHARES)
def test_all_mixtures_have_it_and_no_larger_one(
    known: int, unknown: int, shares: list[float]
) -> None:
    kinds = ["known"] * known + ["unknown"] * unknown + ["doubtful"] * 3
    pool = [
        Example(f"q{i}", "t", "train", f"question {i}?", None, f"a{i}", f"a{i}")
        for i in range(len(kinds))
    ]
    categories = dict(zip([example.id for example in pool], kinds, strict=True))

    def exists(size: int) -> bool:
        try:
            for share in shares:
                found = compose(pool, categories, size=size, unknown_share=share, seed=0)
                assert len(found) == size
        except ValueError:
            return False
        return True

    most = largest_mixture(kinds, shares)
    assert most == 0 or exists(most)
    assert not any(exists(size) for size in range(most + 1, len(kinds) + 1))
