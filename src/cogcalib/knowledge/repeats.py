"""Questions of a table that come again: counted in one pass, at 16 bytes a row."""

from __future__ import annotations

import hashlib
from array import array

import numpy as np

from cogcalib.modeling.shots import same_question
from cogcalib.records import Example


class RepeatCounter:
    """Counts repeated and contradictory rows, and finds ids that are not distinct.

    Of each row 64 bits of a hash of its question are kept, and of question and answer together;
    where the table has ids, of the id as well. Case and white space of answers do not matter.
    """

    def __init__(self) -> None:
        self._asked, self._answered, self._ids = array("Q"), array("Q"), array("Q")

    def add(self, example: Example, *, identified: bool) -> None:
        """Take a row in; its id only if it is the table's own."""
        question = same_question(example)
        answer = " ".join(example.answer.casefold().split())
        self._asked.append(int(question[:16], 16))
        self._answered.append(_short(f"{question} {answer}"))
        if identified:
            self._ids.append(_short(example.id))

    def line(self) -> str:
        """A sentence for the terminal; empty if every row asks something else."""
        rows = len(self._asked)
        answered, first = np.unique(_numbers(self._answered), return_index=True)
        _, answers = np.unique(_numbers(self._asked)[first], return_counts=True)
        told = []
        if repeated := rows - len(answered):
            told.append(f"{repeated:,} repeat the question and answer of an earlier one")
        if contradicted := int((answers > 1).sum()):
            questions = "question has" if contradicted == 1 else "questions have"
            told.append(f"{contradicted:,} {questions} several answers")
        return f"Of the table's {rows:,} rows, all of them kept: {'; '.join(told)}" if told else ""

    def suspects(self) -> set[int]:
        """The hashes of ids that came more than once; see `is_suspect`."""
        hashes, counts = np.unique(_numbers(self._ids), return_counts=True)
        return set(hashes[counts > 1].tolist())


def is_suspect(example: Example, suspects: set[int]) -> bool:
    """Whether an example's id is among those that may be there twice: hashes, too, may coincide."""
    return _short(example.id) in suspects


def _short(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _numbers(values: array[int]) -> np.ndarray:
    return np.array(values, dtype=np.uint64)
