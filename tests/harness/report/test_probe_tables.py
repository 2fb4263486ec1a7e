"""Shares with their intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from cogcalib.harness.report.probe_tables import small_n, wilson
from cogcalib.metrics import SMALL_N
from cogcalib.tasks.catalog import group_name


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    expected = binomtest(*counts).proportion_ci(0.95, "wilson")
    assert wilson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_what_is_no_share_is_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="hits must be between 0 and n"):
        wilson(hits, n)


def test_few_questions_are_told() -> None:
    assert small_n(SMALL_N) == ""
    assert small_n(300) == "300 questions, fewer than 500: mind the intervals"


@pytest.mark.parametrize(
    ("task", "group", "called"),
    [
        ("entity_questions", "P17", "country (P17)"),
        ("entity_questions/P740", "entity_questions/P740", "entity_questions/P740"),
        ("entity_questions", "P0", "P0"),
        ("mmlu", "astronomy", "astronomy"),
        ("atlas/country", "atlas/country", "atlas/country"),
        ("own", "capitals", "capitals"),
    ],
)
def test_groups_have_names_where_the_task_gives_some(task: str, group: str, called: str) -> None:
    assert group_name(task, group) == called
