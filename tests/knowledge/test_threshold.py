from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.knowledge.threshold import estimate_threshold
from cogcalib.records import Threshold

# Few distinct values, so that ties between and within the classes are common.
EXAMPLES = st.lists(
    st.tuples(st.integers(0, 12).map(lambda k: k / 4), st.booleans()), min_size=1, max_size=40
)
MIXED = EXAMPLES.filter(lambda rows: len({known for _, known in rows}) == 2)


def brute_force(nll: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """The lowest cut with the largest TPR + TNR - 1, by trying one between all neighbours."""
    distinct = sorted(set(nll))
    cuts = [-math.inf, *((a + b) / 2 for a, b in pairwise(distinct)), math.inf]
    found = (-math.inf, -1.0)
    for cut in cuts:
        true_known, true_unknown = (nll <= cut) & known, (nll > cut) & ~known
        gain = true_known.sum() / known.sum() + true_unknown.sum() / (~known).sum() - 1
        if gain > found[1] + 1e-12:
            found = (cut, float(gain))
    return found


@given(MIXED)
def test_equals_brute_force_over_all_cuts(rows: list[tuple[float, bool]]) -> None:
    nll, known = map(np.array, zip(*rows, strict=True))
    threshold = estimate_threshold(nll, known)
    value, separation = brute_force(nll, known)
    assert threshold.value == pytest.approx(value)
    assert threshold.separation == pytest.approx(separation)
    assert threshold.accuracy == pytest.approx(float(((nll <= value) == known).mean()))
    assert (threshold.n_known, threshold.n_unknown) == (known.sum(), (~known).sum())


@given(EXAMPLES, st.randoms())
def test_order_of_examples_does_not_matter(rows: list[tuple[float, bool]], source: Random) -> None:
    shuffled = list(rows)
    source.shuffle(shuffled)
    nll, known = zip(*rows, strict=True)
    other_nll, other_known = zip(*shuffled, strict=True)
    assert estimate_threshold(nll, known) == estimate_threshold(other_nll, other_known)


@given(MIXED)
def test_monotone_maps_of_nll_leave_the_same_examples_below(
    rows: list[tuple[float, bool]],
) -> None:
    nll, known = map(np.array, zip(*rows, strict=True))
    below = nll <= estimate_threshold(nll, known).value
    for mapped in (np.exp(nll), 3 * nll - 7, np.sqrt(nll)):
        threshold = estimate_threshold(mapped, known)
        assert np.array_equal(mapped <= threshold.value, below)


def test_separable_classes_are_cut_halfway() -> None:
    threshold = estimate_threshold([0.2, 0.4, 1.0, 3.0], [True, True, False, False], step=7)
    assert threshold == Threshold(0.7, 1.0, 1.0, 2, 2, 7)


def test_lowest_of_equal_maxima() -> None:
    threshold = estimate_threshold([0.0, 1.0, 2.0, 3.0], [True, False, True, False])
    assert threshold.value == 0.5
    assert threshold.separation == 0.5


def test_one_class_only() -> None:
    assert estimate_threshold([1.0, 2.0], [True, True]) == Threshold(math.inf, 0, 1, 2, 0)
    assert estimate_threshold([1.0, 2.0], [False, False]) == Threshold(-math.inf, 0, 1, 0, 2)


def test_no_separation_means_nobody_known() -> None:
    threshold = estimate_threshold([1.0, 2.0], [False, True])
    assert (threshold.value, threshold.separation, threshold.accuracy) == (-math.inf, 0, 0.5)
    assert estimate_threshold([1.0, 1.0], [False, True]).value == -math.inf


def test_cut_between_neighbouring_floats_and_below_infinity() -> None:
    neighbour = math.nextafter(1.0, 2.0)
    assert estimate_threshold([1.0, neighbour], [True, False]).value == 1.0
    assert estimate_threshold([1.0, math.inf], [True, False]).value == 1.0


@pytest.mark.parametrize(
    ("nll", "known", "message"),
    [
        ([], [], "at least one"),
        ([1.0], [True, False], "equal length"),
        ([[1.0]], [[True]], "one-dimensional"),
        ([1.0, math.nan], [True, False], "nan at 1"),
        ([-math.inf, 1.0], [True, False], "-inf at 0"),
        ([1.0, 2.0], [0.5, 1], "booleans"),
    ],
)
def test_invalid_input_is_refused(nll: list[float], known: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_threshold(nll, known)
