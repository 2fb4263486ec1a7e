"""A temperature without labels: by which questions, to what, and when it is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from cogcalib.metrics import consistency_interval, expected_calibration_error
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Prediction
from cogcalib.scoring import fit_to_base, why_uncalibrated
from cogcalib.scoring.agreement import CALIBRATED


def predictions(
    scores: np.ndarray, seed: int = 0, split: str = "test", shift: float = -0.3
) -> list[Prediction]:
    """Answers by scores, [n, K]; labels are drawn from their softmax. Letters have 1.3 nats less
    than everything together."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, row in enumerate(scores):
        shares = log_softmax(row)
        best, gold = int(row.argmax()), int(rng.choice(len(row), p=np.exp(shares)))
        rows.append(
            Prediction(
                f"q{i}", "t", split, "ABCD"[gold], "ABCD"[best], best == gold,
                float(-shares[gold]), {"options": float(np.exp(shares.max()))},
                tuple((shares + shift).tolist()), "m", "r",
            )
        )  # fmt: skip
    return rows


def both(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a fine-tuned model, three times too sure, and of its base."""
    rng = np.random.default_rng(3)
    base = rng.normal(size=(n, 4))
    return 3 * (base + 0.7 * rng.normal(size=(n, 4))), base


def test_it_minimises_the_divergence_where_both_answer_alike() -> None:
    own, base = both()
    alike = own.argmax(axis=1) == base.argmax(axis=1)
    assert 0.3 < alike.mean() < 0.9

    def divergence(log_t: float, rows: np.ndarray) -> float:
        q = softmax(base[rows], axis=1)
        return float((q * (np.log(q) - log_softmax(own[rows] / np.exp(log_t), axis=1))).sum())

    by_hand = [
        np.exp(minimize_scalar(divergence, args=(rows,), bounds=(-3, 3), method="bounded").x)
        for rows in (alike, np.full(len(own), True))
    ]
    found = fit_to_base(predictions(own), predictions(base, shift=-2.0)).temperature_
    assert found == pytest.approx(by_hand[0], rel=1e-4)
    assert found < 0.9 * by_hand[1]  # questions they disagree on would ask for a larger one


def test_no_label_is_read() -> None:
    own, base = both()
    one, other = predictions(own), predictions(base)
    found = fit_to_base(one, other)
    drawn = np.random.default_rng(7)
    for rows in (one, other):
        for i, row in enumerate(rows):
            letter = "ABCD"[drawn.integers(4)]
            right = letter == row.prediction
            rows[i] = replace(row, answer=letter, correct=right, nll=float(drawn.exponential()))
    assert fit_to_base(one, other).fitted() == found.fitted()


def test_halfway_to_a_temperature_with_labels_is_the_geometric_mean() -> None:
    own, base = (predictions(rows) for rows in both())
    labelled = TemperatureScaling()
    labelled.temperature_, labelled.at_bound_ = 0.8, False
    alone, halfway = fit_to_base(own, base), fit_to_base(own, base, labelled)
    assert halfway.temperature_ == pytest.approx((0.8 * alone.temperature_) ** 0.5)
    assert labelled.temperature_ == 0.8
    assert not halfway.at_bound_
    labelled.at_bound_ = True
    assert fit_to_base(own, base, labelled).at_bound_


def test_questions_may_differ_in_the_number_of_their_options() -> None:
    own, base = both()
    fewer = [np.r_[row[:3]] for row in (own[0], base[0])]
    one, other = predictions(own[1:]), predictions(base[1:])
    expected = fit_to_base(one, other).temperature_
    strange = predictions(np.array([fewer[1] * 3])), predictions(np.array([fewer[1]]))
    both_kinds = [
        [replace(first, id="x"), *rows]
        for (first,), rows in zip(strange, (one, other), strict=True)
    ]
    found = fit_to_base(*both_kinds).temperature_
    assert found == pytest.approx(expected, rel=0.02)
    assert found != expected


def test_other_questions_and_no_agreement_are_refused() -> None:
    own, base = both(20)
    one, other = predictions(own), predictions(base)
    with pytest.raises(ValueError, match="same questions in the same order"):
        fit_to_base(one, other[::-1])
    never = [replace(row, prediction="Z") for row in other]
    with pytest.raises(ValueError, match="must agree on some answers, got none of 20"):
        fit_to_base(one, never)
    spoken = [replace(row, option_logprobs=None) for row in one]
    with pytest.raises(ValueError, match=r"each of the same options, got 0 and 4: .* choice"):
        fit_to_base(spoken, other)


def sure(n: int, excess: float, seed: int = 0) -> list[Prediction]:
    """Answers of the base model that are correct with the probability confidence - excess."""
    scores = np.random.default_rng(seed).normal(size=(n, 4))
    rows = predictions(scores, seed, "calibration")
    drawn = np.random.default_rng(seed + 1).random(n)
    return [
        replace(row, correct=bool(at < row.confidence["options"] - excess))
        for at, row in zip(drawn, rows, strict=True)
    ]


@pytest.mark.parametrize(
    ("n", "excess", "refused"),
    [(2000, 0.0, False), (2000, 0.02, False), (2000, 0.12, True), (40, 0.05, False)],
)
def test_a_base_is_calibrated_within_five_points_or_the_floor(
    n: int, excess: float, refused: bool
) -> None:
    rows = sure(n, excess)
    reason = why_uncalibrated(rows)
    assert bool(reason) == refused
    confidence = [row.confidence["options"] for row in rows]
    error = expected_calibration_error(confidence, [row.correct for row in rows])
    floor = consistency_interval(expected_calibration_error, confidence)[1]
    assert refused == (error > max(CALIBRATED, floor))
    if n == 40:  # few questions: the floor decides
        assert CALIBRATED < error <= floor
    if refused:
        assert reason == (
            f"the base model is not calibrated: on 2,000 calibration questions its ECE over the "
            f"options is {100 * error:.2f} %, allowed are 5 % or the noise floor, "
            f"{100 * floor:.2f} %"
        )


def test_calibration_is_judged_on_the_calibration_split_by_the_options() -> None:
    with pytest.raises(ValueError, match="calibration split only"):
        why_uncalibrated(predictions(both(5)[1]))
    with pytest.raises(ValueError, match="calibration is empty"):
        why_uncalibrated([])
    spoken = [replace(row, confidence={"mean": 0.5}) for row in sure(5, 0.0)]
    with pytest.raises(ValueError, match="confidence options, 'q0' has not"):
        why_uncalibrated(spoken)
