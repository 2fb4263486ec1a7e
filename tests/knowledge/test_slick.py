"""The four categories, and the chance of a hit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.knowledge import CATEGORIES, categorize, categorize_choice, hit_probability

fractions = st.floats(0, 1)


@pytest.mark.parametrize(
    ("greedy", "hit", "category"),
    [
        ([True] * 10, 0.0, "HighlyKnown"),
        ([True] + [False] * 9, 0.0, "MaybeKnown"),
        ([False] * 10, 0.5, "WeaklyKnown"),
        ([False] * 10, 0.49, "Unknown"),
        ([True], 0.1, "HighlyKnown"),
    ],
)
def test_the_rule_of_the_paper(greedy, hit, category):
    assert categorize(greedy, hit) == category


@pytest.mark.parametrize(
    ("greedy", "p", "category"),
    [
        ([True] * 4, 0.3, "HighlyKnown"),
        ([True, True, False, False], 0.1, "MaybeKnown"),
        # As much as always taking the same letter gives.
        ([True, False, False, False], 0.26, "WeaklyKnown"),
        ([True, False, False, False], 0.25, "Unknown"),
        ([False] * 4, 0.1, "Unknown"),
    ],
)
def test_multiple_choice_is_held_against_chance(greedy, p, category):
    assert categorize_choice(greedy, [p] * 4, 4) == category


@given(st.lists(fractions, min_size=1, max_size=10), st.integers(1, 40))
def test_hit_is_one_minus_the_chance_of_none(p, samples):
    expected = 1 - np.prod((1 - np.array(p)) ** samples)
    assert hit_probability(p, samples) == pytest.approx(expected, abs=1e-9)


def test_tiny_chances_are_not_lost():
    assert hit_probability([1e-18] * 10, 16) == pytest.approx(1.6e-16)


@given(st.lists(fractions, min_size=1, max_size=5), st.integers(1, 20))
def test_more_samples_never_make_a_hit_less_likely(p, samples):
    assert hit_probability(p, samples) <= hit_probability(p, samples + 1) + 1e-12


def test_all_categories_can_come_out():
    found = {
        categorize(list(greedy), hit)
        for greedy in itertools.product([True, False], repeat=2)
        for hit in (0.0, 1.0)
    }
    assert found == set(CATEGORIES)


def test_nothing_to_judge_is_refused():
    with pytest.raises(ValueError, match="at least one prompt"):
        categorize([], 0.0)
    with pytest.raises(ValueError, match="at least one rendering"):
        categorize_choice([], [], 4)
