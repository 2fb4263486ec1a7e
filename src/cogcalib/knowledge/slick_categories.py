"""SliCK: four categories of knowledge, from how often a model is correct under several prompts.

Gekhman et al. 2024, "Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?" (EMNLP,
arXiv 2405.05904), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CATEGORIES = ("HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown")
"""Best known first."""


def categorize(greedy: Sequence[bool], hit: float) -> str:
    """The category of an open-ended question.

    With K prompts, P(correct, T=0) the share of them under which the greedy answer is correct:

    - HighlyKnown: P(correct, T=0) = 1
    - MaybeKnown: 0 < P(correct, T=0) < 1
    - WeaklyKnown: P(correct, T=0) = 0 and P(correct, T>0) > 0
    - Unknown: both are 0

    The paper estimates P(correct, T>0) by K x N samples, so that its "> 0" reads "at least one of
    them was correct". The probability itself is hardly ever 0, so here WeaklyKnown asks that
    such a sample would more likely than not hold a correct answer: `hit` >= 1/2. With sampled
    answers `hit` is 1 or 0, whether one of them was correct, and the rule is the paper's own.

    Args:
        greedy: Whether the greedy answer is correct, for each prompt.
        hit: Probability that one of the K x N sampled answers is correct (`hit_probability`).

    Raises:
        ValueError: If there is no prompt.
    """
    if not greedy:
        raise ValueError("greedy must hold at least one prompt, got none")
    if any(greedy):
        return "HighlyKnown" if all(greedy) else "MaybeKnown"
    return "WeaklyKnown" if hit >= 0.5 else "Unknown"


def categorize_choice(greedy: Sequence[bool], p_gold: Sequence[float], options: int) -> str:
    """The category of a multiple-choice question asked with its options rotated.

    Guessing is correct sometimes, so "ever" would say nothing. Over the rotations of n options,
    whoever always takes the same letter is correct in 1 of n.

    - HighlyKnown: the arg max over the options is correct in every rendering
    - MaybeKnown: not in all, but in more than 1 of n
    - WeaklyKnown: in at most 1 of n, while the mean probability of the correct option is above 1/n
    - Unknown: neither

    Args:
        greedy: Whether the arg max is correct, for each rendering.
        p_gold: Probability of the correct option among the options, for each rendering.
        options: n.

    Raises:
        ValueError: If there is no rendering.
    """
    if not greedy:
        raise ValueError("greedy must hold at least one rendering, got none")
    if all(greedy):
        return "HighlyKnown"
    if sum(greedy) * options > len(greedy):
        return "MaybeKnown"
    return "WeaklyKnown" if sum(p_gold) / len(p_gold) > 1 / options else "Unknown"


def hit_probability(p_sampled: Sequence[float], samples: int) -> float:
    """Probability that at least one of `samples` answers under each prompt is correct.

    1 - prod_k (1 - p_k)^N. It is also the expected share of WeaklyKnown among the repetitions of
    the paper's own procedure, where no greedy answer is correct.

    Args:
        p_sampled: Probability of a correct answer under each prompt, fractions.
        samples: N.
    """
    if any(p >= 1.0 for p in p_sampled):
        return 1.0
    # log1p: a chance of one in a billion must not be lost beside 1.
    return -math.expm1(samples * math.fsum(math.log1p(-p) for p in p_sampled))
