"""Batching: who is answered together, who is left out, and what one bad question spoils."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError

import pytest
from served import wait_for

from cogcalib.serving.batcher import Batcher, FullError, Places


class Work:
    """Doubles numbers, when it is let go, and notes its batches."""

    def __init__(self) -> None:
        self.let_go, self.batches = threading.Event(), list[list[int]]()

    def __call__(self, batch: list[int]) -> Sequence[int]:
        self.batches.append(batch)
        assert self.let_go.wait(30)
        if any(each < 0 for each in batch):
            raise ValueError("negative")
        if 13 in batch:
            raise RuntimeError("out of memory")
        return [2 * each for each in batch]


def batcher(work: Work, most: int = 4, gather: float = 0.0) -> Batcher[int, int]:
    return Batcher(work, most, gather)


def test_what_comes_while_a_batch_is_answered_is_the_next_one() -> None:
    work = Work()
    answers = batcher(work)
    first = answers.submit(1)
    wait_for(lambda: work.batches)
    rest = [answers.submit(each) for each in range(2, 8)]
    work.let_go.set()
    assert [each.result(30) for each in (first, *rest)] == [2, 4, 6, 8, 10, 12, 14]
    assert work.batches == [[1], [2, 3, 4, 5], [6, 7]]
    answers.close()


def test_a_batch_waits_for_more_until_it_is_full() -> None:
    work = Work()
    work.let_go.set()
    answers = batcher(work, most=2, gather=30.0)
    both = [answers.submit(each) for each in (1, 2)]
    assert [each.result(30) for each in both] == [2, 4]
    assert work.batches == [[1, 2]]
    # Closing waits for nobody.
    last = answers.submit(3)
    answers.close()
    assert last.result(0) == 6


def test_only_questions_of_one_key_are_answered_together() -> None:
    work = Work()
    answers = batcher(work)
    first = answers.submit(0)
    wait_for(lambda: work.batches)
    rest = [answers.submit(each, key=each % 2) for each in (1, 2, 3, 4)]
    work.let_go.set()
    assert [each.result(30) for each in (first, *rest)] == [0, 2, 4, 6, 8]
    assert work.batches == [[0], [1, 3], [2, 4]]
    answers.close()


def test_a_cancelled_question_is_not_asked() -> None:
    work = Work()
    answers = batcher(work)
    answers.submit(1)
    wait_for(lambda: work.batches)
    gone, kept = answers.submit(2), answers.submit(3)
    assert gone.cancel()
    work.let_go.set()
    assert kept.result(30) == 6
    with pytest.raises(CancelledError):
        gone.result(0)
    assert work.batches == [[1], [3]]
    answers.close()


def test_one_bad_question_spoils_no_other() -> None:
    work = Work()
    answers = batcher(work)
    first = answers.submit(1)
    wait_for(lambda: work.batches)
    good, bad, other = answers.submit(2), answers.submit(-1), answers.submit(3)
    work.let_go.set()
    assert [each.result(30) for each in (first, good, other)] == [2, 4, 6]
    with pytest.raises(ValueError, match="negative"):
        bad.result(30)
    assert answers.alive
    answers.close()
    assert not answers.alive


def test_a_failure_of_the_model_is_that_of_its_batch_alone() -> None:
    work = Work()
    answers = batcher(work)
    work.let_go.set()
    with pytest.raises(RuntimeError, match="out of memory"):
        answers.submit(13).result(30)
    assert answers.submit(4).result(30) == 8
    answers.close()
    with pytest.raises(RuntimeError, match="shutting down"):
        answers.submit(5)


def test_places_are_given_back_whatever_happens() -> None:
    places = Places(3)
    with places.taking(2):
        assert places.taken == 2
        with pytest.raises(FullError, match="2 questions are waiting, of at most 3"):
            places.taking(2).__enter__()
        assert places.taken == 2
    assert places.taken == 0
    with pytest.raises(ZeroDivisionError), places.taking(3):
        _ = 1 / 0
    assert places.taken == 0
