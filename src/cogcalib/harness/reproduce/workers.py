"""Processes that take one cell after the other: libraries are loaded once, not once a cell.

A process that dies takes only its cell with it; another is started for the next.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cogcalib.harness.reproduce.planned_cells import Cell
from cogcalib.modeling.model_files import in_a_line
from cogcalib.termination import EXIT_CODE

DONE, TAKEN = "done", "taken"
"""A worker's answers: finished, or another process is at it."""
LINES_SHOWN = 15
TO_MEND = "cogcalib, to mend: "
"""What a worker's last words begin with where they say what the user is to mend."""
TRACEBACK = "Traceback (most recent call last):\n"
GRACE = 5.0
"""Seconds that a process which has closed its end is given to end."""
SHARED = 0.9
"""Of a GPU's memory, between all processes that share it; each has a CUDA context besides."""
TOLD_AGAIN = 10.0
"""Seconds between two SIGTERMs to a process that has not ended yet."""
PAUSE = 2.0
"""Seconds before cells that other processes are at are asked for again."""


@dataclass(frozen=True)
class Failure:
    """A cell that did not end well.

    Attributes:
        cell: The cell.
        message: The last lines it wrote, or what is to be mended.
        reason: The same in a line.
    """

    cell: Cell
    message: str
    reason: str


Tell = Callable[[Cell, float, Failure | None], None]
"""Told each cell that ended, its seconds, and its failure if it is one."""


class Workers:
    """A fixed number of processes, one thread each, and one GPU each where there are some.

    Where there are more processes than GPUs, those on one share its memory.

    Args:
        jobs: Number of processes.
        logs: Folder of what they write.
        gpus: Identifiers of the visible GPUs; empty on a CPU.
        data_dir: Folder of local data sets.
    """

    def __init__(
        self, jobs: int, logs: Path, gpus: Sequence[str] = (), data_dir: Path | None = None
    ) -> None:
        shares = memory_shares(jobs, len(gpus)) or [1.0] * jobs
        self.workers = [
            _Worker(
                logs / f"worker-{os.getpid()}-{number}.log",
                _environment(number, gpus),
                [str(shares[number]), *([str(data_dir)] if data_dir else [])],
            )
            for number in range(jobs)
        ]

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers:  # all of them at once: each may have a checkpoint to write
            worker.ending = True
            worker.terminate()
        for worker in self.workers:
            worker.stop()

    def run(
        self, cells: Sequence[Cell], tell: Tell, wait: Callable[[Cell], object] = lambda cell: None
    ) -> list[Failure]:
        """Run cells in any order, the first ones first; returns those that failed.

        A cell that another process is at is come back to, until it is finished or free;
        `wait` is called with it, once, when there is nothing else to do.
        """
        waiting = deque(cells)
        told: set[Hashable] = set()

        def work(worker: _Worker) -> list[Failure]:
            failures: list[Failure] = []
            refused = 0
            while (cell := _next(waiting)) is not None:
                started = time.perf_counter()
                found = worker.run(cell)
                if worker.ending:
                    return failures
                if found == TAKEN:
                    waiting.append(cell)
                    refused += 1
                    if refused >= len(waiting):  # there is nothing else to do
                        refused = 0
                        if cell.key not in told:
                            told.add(cell.key)
                            wait(cell)
                        time.sleep(PAUSE)
                    continue
                refused = 0
                failure = found if isinstance(found, Failure) else None
                tell(cell, time.perf_counter() - started, failure)
                failures += [failure] if failure else []
            return failures

        with ThreadPoolExecutor(len(self.workers)) as pool:
            try:
                return [each for found in pool.map(work, self.workers) for each in found]
            except BaseException:
                waiting.clear()
                self.__exit__(None, None, None)
                raise


def _next(waiting: deque[Cell]) -> Cell | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


class _Worker:
    """One process, started when there is something to do."""

    def __init__(self, log: Path, environment: dict[str, str], words: Sequence[str]) -> None:
        self.log = log
        self.environment = environment
        self.words = words
        self.process: subprocess.Popen[str] | None = None
        self.ending = False
        self.begun = 0  # byte of the log at which this process began

    def run(self, cell: Cell) -> Failure | str:
        """Give it a cell: what the process answers, or how it failed."""
        process = self.process or self._start()
        if self.ending:
            process.terminate()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(cell.to_json() + "\n")
            process.stdin.flush()
            answer = process.stdout.readline().strip()
            if answer in (DONE, TAKEN):
                return answer
        except BrokenPipeError:
            pass  # it died before it could read: told below like any other death
        ended = _ended(process)
        self.stop()
        written = self.log.read_bytes()[self.begun :]
        text = written.decode("utf-8", errors="replace").rstrip()
        _, found, message = text.rpartition(TO_MEND)
        if found and ended == "":  # a traceback would only hide what is to be mended
            return Failure(cell, message, in_a_line(message))
        lines = text.splitlines()
        last = [*lines[-LINES_SHOWN:], *filter(None, [ended])]
        return Failure(cell, "\n".join(last), ended or in_a_line(_raised(lines)))

    def terminate(self) -> None:
        """Ask the process to end, which it does after a checkpoint if it trains."""
        if self.process is not None:
            self.process.terminate()

    def stop(self) -> None:
        """End the process and wait until it has.

        Its input is closed first: a signal that comes while Python collects garbage is lost, and a
        process that waits for its next cell would wait for ever. SIGTERM is sent again until it has
        ended: a training ends after the step it is in, however many signals come.
        """
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        ended = False
        while not ended:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=TOLD_AGAIN)
                ended = True
        process.stdout.close()

    def _start(self) -> subprocess.Popen[str]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "cogcalib.harness.reproduce.worker", *self.words]
        with self.log.open("a", encoding="utf-8") as log:
            self.begun = self.log.stat().st_size
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.environment,
                text=True,
            )
        return self.process


def _raised(lines: Sequence[str]) -> str:
    """What the last traceback of a log ends with; the last line of a log that has none."""
    _, found, after = "\n".join(lines).rpartition(TRACEBACK)
    if not found:
        return next(filter(None, map(str.strip, reversed(lines))), "it left no word")
    frames = after.splitlines()
    said = next((n for n, line in enumerate(frames) if line and not line[0].isspace()), 0)
    return "\n".join(frames[said:])


def _ended(process: subprocess.Popen[str]) -> str:
    """The signal that ended a process; empty if it ended by itself."""
    try:
        code = process.wait(timeout=GRACE)
    except subprocess.TimeoutExpired:
        return ""
    if code == EXIT_CODE:
        return "ended by SIGTERM; the same command goes on from the last checkpoint"
    return f"killed by signal {-code} (9: out of memory?)" if code < 0 else ""


def _environment(number: int, gpus: Sequence[str]) -> dict[str, str]:
    # More threads than cores would only get into each other's way, on a GPU's host as well.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return environment


def memory_shares(jobs: int, gpus: int) -> list[float]:
    """For each process the fraction of its GPU's memory that it may take.

    Empty if no GPU is shared, or there is none: nothing is limited then.
    """
    if not 0 < gpus < jobs:
        return []
    return [SHARED / len(range(number % gpus, jobs, gpus)) for number in range(jobs)]


def visible_gpus(count: int) -> list[str]:
    """Identifiers of this process's GPUs, `count` of them, as a child process names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]
