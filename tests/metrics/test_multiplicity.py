"""Holm's adjustment against closed testing, which it is a shortcut of."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.metrics import holm

P_VALUES = st.lists(st.integers(0, 1000).map(lambda value: value / 1000), max_size=6)


def closed(p_values: list[float], which: int) -> float:
    """The largest Bonferroni p-value of any set of hypotheses that holds this one."""
    others = [each for each in range(len(p_values)) if each != which]
    return max(
        min(1.0, (size + 1) * min(p_values[i] for i in (which, *rest)))
        for size in range(len(others) + 1)
        for rest in combinations(others, size)
    )


@given(P_VALUES)
def test_it_is_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    expected = [closed(p_values, which) for which in range(len(p_values))]
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


@given(P_VALUES)
def test_adjusted_ones_are_larger_in_the_same_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= each <= 1 for p, each in zip(p_values, adjusted, strict=True))
    assert sorted(adjusted) == holm(sorted(p_values))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_a_textbook_case() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@pytest.mark.parametrize("p_values", [[0.1, 1.1], [-0.1], [float("nan")], [[0.1]]])
def test_what_is_no_p_value_is_refused(p_values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"p_values must be \[m\] and lie in \[0, 1\]"):
        holm(p_values)
