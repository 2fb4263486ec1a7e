"""Abstention with a guarantee: the smallest confidence from which answers keep an error rate.

Learn-then-Test (Angelopoulos et al., arXiv 2110.01052) with fixed-sequence testing and exact
binomial tails, for the selective error: the share of wrong answers among those that are given.

**What is tested.** Questions are ranked by confidence. For k = s, s + 1, ... the hypothesis
"answering from the k-th highest confidence on has an error above alpha" has the p-value P(Bin(k,
alpha) <= errors among the k); testing stops at the first p-value above delta, and the last rejected
k gives the threshold. The start s is a tenth of the questions, where a single error cannot end
everything, and at least k0, the least number of answers that, all correct, reject: (1 - alpha)^k0
<= delta. Equal confidences stand or fall together.

**Why it holds.** Questions are independent draws. Let t be the strictest confidence below which the
true error exceeds alpha: a fixed number, at which the error is alpha, or more if many answers share
that confidence. Given how many held-out questions lie at t or above, k*, their errors are at least
those of Bin(k*, alpha), so that the p-value of k* is at most delta with probability at most delta.
A threshold with too high an error lies below t, and the sequence reaches it only past k*. If
k* < s, the sequence starts below t. If accuracy does not fall as confidence rises, the answers
between t and the start are wrong more often than alpha, so that the errors of the first s are at
least those of Bin(s, alpha), and its p-value, too, is at most delta with probability at most delta.

**Where accuracy falls as confidence rises** the last step can miss by one answer, the least
confident of the first s, which may be right more often than 1 - alpha. With confidences that are
all different the promise then fails with probability at most delta / (1 - alpha).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, binomtest

from cogcalib.posthoc.fit_inputs import check_outcomes

Counts = NDArray[np.integer[Any]]
START = 0.1
"""Share of the questions, the most confident ones, that are tested first together."""
TIMES, LARGEST = 100, 1_000_000
"""Times the questions at hand, and number of questions, beyond which none are recommended: it is
the model then, and not the questions."""


@dataclass(frozen=True, slots=True)
class SelectiveGuarantee:
    """What a held-out set says of answering from a confidence on.

    Attributes:
        target_error: Largest error among answered questions, a fraction.
        delta: Probability that the promise fails, a fraction.
        threshold: Least confidence to answer from; None if nothing can be promised.
        n: Held-out questions.
        answered: Of them at or above the threshold; 0 without one.
        errors: Of these answered wrongly.
        coverage_interval: 95 % interval (Clopper-Pearson) of the share that is answered.
        base_error: Error over all questions.
        needed: Estimate of how many held-out questions a promise takes if they are like these, a
            number of two digits; no more for a higher target. None if there is a promise, or if
            more questions would not help.
    """

    target_error: float
    delta: float
    threshold: float | None
    n: int
    answered: int
    errors: int
    coverage_interval: tuple[float, float]
    base_error: float
    needed: int | None

    @property
    def coverage(self) -> float:
        """Share of the questions that is answered."""
        return self.answered / self.n

    @property
    def least_abstention(self) -> float:
        """Share of questions like these that any rule without further knowledge must refuse.

        With a base error mu above the target alpha, max(0, (mu - alpha) / (1 - alpha)): refusing
        wrong answers alone would do.
        """
        excess = self.base_error - self.target_error
        return max(0.0, excess / (1 - self.target_error))


def control_selective_error(
    confidence: ArrayLike, correct: ArrayLike, target_error: float, *, delta: float = 0.1
) -> SelectiveGuarantee:
    """The smallest confidence from which the error is at most a target, with a guarantee.

    With probability at least 1 - `delta` over the draw of the held-out questions, the error among
    answered questions that are drawn like them is at most `target_error`; or nothing is promised.

    Args:
        confidence: Confidence of each answer, fractions [n].
        correct: Whether it is correct, [n].
        target_error: Alpha, in (0, 1).
        delta: In (0, 1).

    Raises:
        ValueError: If a number lies outside its range, shapes do not match, or confidences are no
            fractions.
    """
    check_share("target_error", target_error)
    check_share("delta", delta)
    values, truths = check_outcomes(confidence, correct)
    answered, errors, levels = error_counts(values, truths)
    start = max(least_answers(target_error, delta), math.ceil(START * len(values)))
    tested = np.flatnonzero(answered >= start)
    passed = binom.cdf(errors[tested], answered[tested], target_error) <= delta
    # Of all that passed those before the first that did not.
    kept = int(np.argmin(np.append(passed, False)))
    last = int(tested[kept - 1]) if kept else None
    given = 0 if last is None else int(answered[last])
    interval = binomtest(given, len(values)).proportion_ci(0.95, "exact")
    return SelectiveGuarantee(
        target_error=target_error,
        delta=delta,
        threshold=None if last is None else float(levels[last]),
        n=len(values),
        answered=given,
        errors=0 if last is None else int(errors[last]),
        coverage_interval=(float(interval.low), float(interval.high)),
        base_error=float(1 - truths.mean()),
        needed=None if last is not None else _needed(answered, errors, target_error, delta),
    )


def least_answers(target_error: float, delta: float) -> int:
    """The least number of answers, all correct, that a promise can rest on.

    The smallest k with (1 - alpha)^k <= delta.
    """
    k = math.ceil(math.log(delta) / math.log1p(-target_error))
    # The logarithms' rounding must not decide.
    return k if (1 - target_error) ** k <= delta else k + 1


def error_counts(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> tuple[Counts, Counts, NDArray[np.float64]]:
    """Answers and errors at each level of confidence, the strictest first.

    Returns:
        Number answered at or above each distinct confidence, errors among them, and the
        confidences, highest first; all [g].
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], np.cumsum(~correct[order], dtype=np.int64)
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return ends + 1, wrong[ends], ranked[ends]


def check_share(name: str, value: float) -> None:
    """Raise a ValueError unless a number lies strictly between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, both excluded, got {value!r}")


def _needed(answered: Counts, errors: Counts, target: float, delta: float) -> int | None:
    """The fewest held-out questions with which the sequence would pass its start.

    Shares and errors at each level stay as they are. The error at the start is taken to be no less
    than at stricter levels, so that what does for one target does for every higher one: with as
    many questions its sequence starts no later, and from no more errors.
    """
    n = int(answered[-1])
    first = int(np.argmax(answered >= math.ceil(START * n)))
    count, wrong = answered[first:], errors[first:]
    rates = wrong / count
    # Without an error among a few the rate is not 0 but not known: it is that of the level
    # with some that has the lowest.
    known = np.minimum.accumulate(np.where(wrong > 0, rates, np.inf)[::-1])[::-1]
    rates = np.maximum(np.maximum.accumulate(rates), np.where(np.isinf(known), 0.0, known))
    sizes = _round_numbers(n, min(TIMES * n, LARGEST))
    starts = np.maximum(least_answers(target, delta), count[0] * sizes // n)
    sizes, starts = sizes[starts <= sizes], starts[starts <= sizes]
    levels = np.searchsorted(count, -(-starts * n // sizes))
    expected = np.floor(rates[levels] * starts + 0.5)
    enough = sizes[binom.cdf(expected, starts, target) <= delta]
    return int(enough[0]) if enough.size else None


def _round_numbers(above: int, most: int) -> NDArray[np.int64]:
    """Numbers of two digits and zeros above one number, up to another, in order."""
    powers = 10 ** np.arange(len(str(most)), dtype=np.int64)
    every = (powers[:, None] * np.arange(10, 100)).ravel()
    return np.unique(every[(every > above) & (every <= most)])
