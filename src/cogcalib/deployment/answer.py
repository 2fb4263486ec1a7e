"""Answers with a confidence: what `Predictor.predict` gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alternative:
    """One possible answer.

    Attributes:
        answer: The option, as it was given, or the text.
        probability: Calibrated, a fraction.
    """

    answer: str
    probability: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of a generated answer.

    Attributes:
        token: Its text.
        logprob: Its log-probability, nats, at temperature 1.
    """

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        answer: The option chosen, as it was given, or the generated text.
        confidence: Chance that it is correct, calibrated, a fraction.
        raw_confidence: The model's own, a fraction.
        abstain: Whether the rule in force says not to answer; False without a rule.
        alternatives: Options, most probable first, the answer among them; of generated text the
            answer alone.
        tokens: Of generated text; empty with options.
    """

    answer: str
    confidence: float
    raw_confidence: float
    abstain: bool
    alternatives: tuple[Alternative, ...] = ()
    tokens: tuple[TokenLogprob, ...] = ()
