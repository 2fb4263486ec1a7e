"""Correct answers: normalised exact match and token F1, as in SQuAD.

Rajpurkar et al. 2016 (arXiv 1606.05250), evaluation script v1.1; here after Unicode NFKC and with
Unicode's punctuation beside ASCII's.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation and articles, whitespace squeezed.

    A text of nothing but articles and punctuation ("A", "The") keeps them: otherwise an empty
    answer would match it.
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    bare = "".join(character for character in lowered if not _is_punctuation(character))
    return " ".join(_ARTICLES.sub(" ", bare).split()) or " ".join(lowered.split())


def exact_match(prediction: str, accepted: Iterable[str]) -> bool:
    """Whether `prediction` equals one of the `accepted` answers after `normalize_answer`.

    An empty prediction never matches.
    """
    normalized = normalize_answer(prediction)
    return normalized != "" and any(normalized == normalize_answer(answer) for answer in accepted)


def token_f1(prediction: str, accepted: Iterable[str]) -> float:
    """The best F1 of the words of `prediction` against one of the `accepted` answers, a fraction.

    With c the number of words in common after `normalize_answer`, repeats counted: precision
    c / |prediction|, recall c / |answer|, F1 = 2c / (|prediction| + |answer|). 0 where nothing is
    accepted or said.
    """
    return max((_f1(prediction, answer) for answer in accepted), default=0.0)


def _f1(prediction: str, answer: str) -> float:
    said, wanted = (Counter(normalize_answer(text).split()) for text in (prediction, answer))
    total = said.total() + wanted.total()
    return 2 * (said & wanted).total() / total if total else 0.0


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")
