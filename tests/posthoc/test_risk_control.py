"""Abstention with a guarantee: exact on small cases, and kept over many draws."""

from __future__ import annotations

import math
import warnings
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from cogcalib.posthoc.risk_control import (
    START,
    TIMES,
    SelectiveGuarantee,
    control_selective_error,
    error_counts,
    least_answers,
)

LEVELS = st.sampled_from([0.2, 0.5, 0.7, 0.9, 0.95, 1.0])
ROWS = st.lists(st.tuples(LEVELS, st.booleans()), min_size=1, max_size=60)
TARGETS = st.sampled_from([0.05, 0.2, 0.5])


def by_definition(rows: list[tuple[float, bool]], target: float, delta: float) -> float | None:
    """The threshold as the module's text has it, level by level."""
    threshold = None
    for level in sorted({confidence for confidence, _ in rows}, reverse=True):
        answered = [right for confidence, right in rows if confidence >= level]
        errors = answered.count(False)
        if len(answered) < START * len(rows):
            continue
        if (1 - target) ** len(answered) > delta:
            continue
        p = sum(
            math.comb(len(answered), k) * target**k * (1 - target) ** (len(answered) - k)
            for k in range(errors + 1)
        )
        if p > delta:
            break
        threshold = level
    return threshold


@given(ROWS, TARGETS, st.sampled_from([0.05, 0.1, 0.3]))
def test_threshold_is_that_of_the_definition(
    rows: list[tuple[float, bool]], target: float, delta: float
) -> None:
    confidence, correct = zip(*rows, strict=True)
    found = control_selective_error(confidence, correct, target, delta=delta)
    assert found.threshold == by_definition(rows, target, delta)
    if found.threshold is not None:
        given_answers = [right for level, right in rows if level >= found.threshold]
        assert (found.answered, found.errors) == (len(given_answers), given_answers.count(False))
        assert found.errors / found.answered <= target
        assert found.needed is None
        low, high = found.coverage_interval
        assert 0 <= low <= found.coverage <= high <= 1


@given(ROWS, TARGETS, st.randoms())
def test_order_of_the_questions_does_not_matter(
    rows: list[tuple[float, bool]], target: float, random: object
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (control_selective_error(*zip(*r, strict=True), target) for r in (rows, shuffled))
    assert one == other


@pytest.mark.parametrize(
    ("target", "delta", "k"), [(0.05, 0.1, 45), (0.5, 0.25, 2), (0.1, 0.1, 22)]
)
def test_least_answers(target: float, delta: float, k: int) -> None:
    assert least_answers(target, delta) == k
    assert (1 - target) ** k <= delta < (1 - target) ** (k - 1)


def test_equal_confidences_stand_or_fall_together() -> None:
    answered, errors, levels = error_counts(
        np.array([0.5, 0.9, 0.5, 0.9]), np.array([True, True, False, True])
    )
    assert (answered.tolist(), errors.tolist(), levels.tolist()) == ([2, 4], [0, 1], [0.9, 0.5])


def test_too_few_questions_promise_nothing_and_say_how_many_would_do() -> None:
    found = control_selective_error([0.9] * 20, [True] * 20, 0.05)
    assert (found.threshold, found.answered) == (None, 0)
    assert found.needed is not None
    assert 45 <= found.needed <= 500
    enough = control_selective_error([0.9] * found.needed, [True] * found.needed, 0.05)
    assert enough.threshold == 0.9


def test_errors_above_the_target_everywhere_need_no_number() -> None:
    found = control_selective_error([0.9] * 100, [True, False] * 50, 0.05)
    assert (found.threshold, found.needed) == (None, None)
    assert found.least_abstention == pytest.approx(0.45 / 0.95)


SHARES = st.floats(0.005, 0.99)
ANY_ROWS = st.lists(st.tuples(LEVELS | st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@given(ANY_ROWS, st.lists(SHARES, min_size=2, max_size=5), st.sampled_from([0.05, 0.1, 0.3]))
def test_what_does_for_a_target_does_for_every_higher_one(
    rows: list[tuple[float, bool]], targets: list[float], delta: float
) -> None:
    confidence, correct = zip(*rows, strict=True)
    enough = math.inf
    for target in sorted(targets):
        found = control_selective_error(confidence, correct, target, delta=delta)
        if found.threshold is None:
            needed = found.needed or math.inf
            assert needed <= enough
            enough = min(enough, needed)


def with_errors(n: int, *places: int) -> SelectiveGuarantee:
    """Different confidences, the highest first, and errors at some places, at a target of 30 %."""
    correct = np.ones(n, bool)
    correct[list(places)] = False
    return control_selective_error(np.linspace(1, 0, n), correct, 0.3)


def test_as_many_questions_as_are_said_do() -> None:
    found = with_errors(40, *range(0, 40, 5))  # a fifth is wrong, and the first at once
    assert found.threshold is None
    assert found.needed is not None
    assert 40 < found.needed < 40 * TIMES
    assert with_errors(found.needed, *range(0, found.needed, 5)).threshold is not None


def test_questions_are_not_counted_where_it_is_the_model() -> None:
    # Of the most confident tenth all are wrong: more questions would have such a tenth, too.
    assert with_errors(100, *range(10)).needed is None
    # With 29.6 % wrong throughout a promise for 30 % takes 100,000 of them.
    close = np.arange(500) % 27 < 8
    close = control_selective_error(np.linspace(1, 0, 500), ~close, 0.3)
    assert (close.threshold, close.needed) == (None, None)


def test_base_error_below_the_target_forces_no_abstention() -> None:
    assert control_selective_error([0.9] * 10, [True] * 10, 0.05).least_abstention == 0


@pytest.mark.parametrize("target", [0.05, 0.1])
@pytest.mark.parametrize("n", [100, 400])
def test_the_promise_is_kept_over_draws(target: float, n: int) -> None:
    """True error 1 - confidence: above the target wherever the threshold is below 1 - 2 target."""
    generator = np.random.default_rng(n)
    broken = 0
    draws, delta = 600, 0.1
    for _ in range(draws):
        confidence = generator.uniform(0.5, 1, n)
        correct = generator.random(n) < confidence
        found = control_selective_error(confidence, correct, target, delta=delta)
        if found.threshold is not None:
            broken += (1 - (found.threshold + 1) / 2) > target
    assert broken <= binom.ppf(0.999, draws, delta)


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, math.nan, "0.1", True])
def test_targets_and_deltas_out_of_range_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="target_error must lie between 0 and 1"):
        control_selective_error([0.5], [True], value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="delta must lie between 0 and 1"):
        control_selective_error([0.5], [True], 0.1, delta=value)  # type: ignore[arg-type]


def test_malformed_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="confidence must lie in"):
        control_selective_error([1.5], [True], 0.1)
    with pytest.raises(ValueError, match="shape"):
        control_selective_error([0.5, 0.6], [True], 0.1)


# ---- MAPIE, which has the same procedure ----

LADDER = [(0.98, 120, 1), (0.95, 100, 2), (0.9, 90, 4), (0.8, 80, 30), (0.6, 60, 30)]
"""Confidence, answers at it, errors among them: few levels, so that no single answer decides."""


def ladder() -> tuple[list[float], list[bool]]:
    confidence = [level for level, count, _ in LADDER for _ in range(count)]
    correct = [place >= errors for _, count, errors in LADDER for place in range(count)]
    return confidence, correct


def with_mapie() -> ModuleType:
    return pytest.importorskip("mapie.risk_control", reason="needs MAPIE: pip install mapie")


@pytest.mark.parametrize("target", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("delta", [0.05, 0.1])
def test_thresholds_are_those_of_mapies_fixed_sequence(target: float, delta: float) -> None:
    """MAPIE's p-values (Hoeffding-Bentkus) are larger than exact tails; here both decide alike."""
    confidence, correct = ladder()
    controller = with_mapie().BinaryClassificationController(
        lambda values: np.column_stack([1 - values, values]),
        "precision",
        1 - target,
        confidence_level=1 - delta,
        # It answers above a threshold, we from it on.
        list_predict_params=np.nextafter([level for level, _, _ in LADDER], 0),
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said where no threshold is valid
        controller.calibrate(np.array(confidence), np.array(correct, dtype=int))
    valid = np.asarray(controller.valid_predict_params)
    theirs = float(np.nextafter(valid.min(), 1)) if valid.size else None
    assert control_selective_error(confidence, correct, target, delta=delta).threshold == theirs


@given(ROWS, TARGETS, st.sampled_from([0.05, 0.1, 0.3]))
def test_the_sequence_is_tested_as_mapie_does(
    rows: list[tuple[float, bool]], target: float, delta: float
) -> None:
    """With exact tails for its p-values MAPIE rejects the same hypotheses."""
    control_fwer = with_mapie().fwer_control.control_fwer
    confidence, correct = (np.array(each) for each in zip(*rows, strict=True))
    answered, errors, levels = error_counts(confidence, correct)
    start = max(least_answers(target, delta), math.ceil(START * len(rows)))
    tested = answered >= start
    p_values = binom.cdf(errors[tested], answered[tested], target)
    rejected = control_fwer(p_values, delta, "fixed_sequence") if len(p_values) else []
    theirs = levels[tested][max(rejected)] if len(rejected) else None
    assert control_selective_error(confidence, correct, target, delta=delta).threshold == theirs
