"""Dynamic batching: questions that arrive within milliseconds are answered together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class FullError(RuntimeError):
    """There is no place for another question."""


class Places:
    """How many questions are in the house, waiting or being answered: at most `most`.

    Used by the event loop alone, hence without a lock.
    """

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    @contextmanager
    def taking(self, count: int) -> Iterator[None]:
        """Hold places for as long as the block lasts.

        Raises:
            FullError: If there are not so many.
        """
        if self.taken + count > self.most:
            raise FullError(f"{self.taken} questions are waiting, of at most {self.most}")
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count


@dataclass(slots=True, eq=False)
class Waiting(Generic[T, R]):
    """A question in the queue.

    Attributes:
        item: What is asked.
        key: Only questions of one key are answered together.
        answer: Cancelled before its batch begins, the question is not asked.
    """

    item: T
    key: Hashable
    answer: Future[R] = field(default_factory=Future)


class Batcher(Generic[T, R]):
    """A queue, and one thread that answers it in batches.

    The thread waits for a first question, then up to `gather` seconds for more of its key. A batch
    that raises a ValueError is asked again one by one, so that one question does not spoil others;
    with any other exception all of the batch is answered.

    Args:
        work: Takes the items of a batch and gives a result for each, in order.
        most: Items in a batch.
        gather: Seconds that a batch waits for more.
    """

    def __init__(self, work: Callable[[list[T]], Sequence[R]], most: int, gather: float) -> None:
        self._work, self._most, self._gather = work, most, gather
        self._queue: deque[Waiting[T, R]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="cogcalib-answers", daemon=True)
        self._thread.start()

    def submit(self, item: T, key: Hashable = None) -> Future[R]:
        """Queue a question.

        Raises:
            RuntimeError: After `close`.
        """
        waiting: Waiting[T, R] = Waiting(item, key)
        with self._changed:
            if self._closed:
                raise RuntimeError("the server is shutting down")
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.answer

    @property
    def alive(self) -> bool:
        """Whether questions are still answered."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Answer what is in the queue, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            # From here on it cannot be cancelled.
            begun = [each for each in batch if each.answer.set_running_or_notify_cancel()]
            if begun:
                self._answer(begun)

    def _next(self) -> list[Waiting[T, R]]:
        """The next batch; empty once the queue is closed and done with."""
        with self._changed:
            while not self._queue:
                if self._closed:
                    return []
                self._changed.wait()
            key, end = self._queue[0].key, time.monotonic() + self._gather
            while self._of(key) < self._most and not self._closed:
                if (left := end - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            chosen: list[Waiting[T, R]] = []
            others: deque[Waiting[T, R]] = deque()
            for each in self._queue:
                fits = each.key == key and len(chosen) < self._most
                (chosen if fits else others).append(each)
            self._queue = others
            return chosen

    def _of(self, key: Hashable) -> int:
        return sum(each.key == key for each in self._queue)

    def _answer(self, batch: list[Waiting[T, R]]) -> None:
        try:
            results = self._work([each.item for each in batch])
        except Exception as error:
            if isinstance(error, ValueError) and len(batch) > 1:
                for each in batch:
                    self._answer([each])
                return
            for each in batch:
                each.answer.set_exception(error)
        else:
            for each, result in zip(batch, results, strict=True):
                each.answer.set_result(result)
