"""A probe's partitions dealt to the workers of Ray Data: actors, each with a model of its own.

What travels through Ray are the partitions' numbers. A worker reads its questions itself and leaves
a file; a partition whose worker is lost is tried again, and the batches that are there are kept.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cogcalib.knowledge.probe_worker import Finished, ProbePlan, ProbeWorker
from cogcalib.knowledge.questions import partitions

TRIES = 4
"""How often a partition is begun at most: Ray itself would never stop giving it out."""

MOST_BLOCKS = 10_000
"""Pieces that Ray Data keeps account of; beyond, several partitions are one piece."""

_TRIED = ".tried"
_FIELDS = ("renderings", "kept", "shortened")


def check_ray() -> None:
    """Raise if Ray Data is not installed.

    Raises:
        ValueError: Naming what to install.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError('engine ray needs Ray Data: pip install "cogcalib[ray]"')


def finish_all(
    plan: ProbePlan, workers: int | None, progress: Callable[[int, int], None] | None = None
) -> Finished:
    """Finish all partitions with Ray's workers.

    A Ray that is running is used (``RAY_ADDRESS``, or the machine's own); else one is started on
    this machine, and stopped. All machines must see the model, the data and the output folder under
    the same paths.

    Args:
        plan: What to do.
        workers: How many; None takes one for each GPU, or one if there is none.
        progress: Called with the number of question-prompt pairs done, and of all there are.

    Returns:
        The sums over all partitions.

    Raises:
        ValueError: If Ray is not installed or has no room for the workers, or as `ProbeWorker`.
        RuntimeError: If a partition has been lost with its worker `TRIES` times.
    """
    check_ray()
    import ray

    started = not ray.is_initialized()
    if started:
        _start(ray)
    try:
        return _stream(ray, _everywhere(plan), workers, progress)
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any) -> None:
    # Of Ray's own processes only what ends the run is told.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)


def _stream(
    ray: Any, plan: ProbePlan, workers: int | None, progress: Callable[[int, int], None] | None
) -> Finished:
    size, room = _room(ray.cluster_resources(), workers)
    numbers = list(range(partitions(plan.questions)))
    # The partitions that are there come first: they tell how far the probe was.
    numbers.sort(key=lambda number: not plan.part(number).exists())
    for left in plan.folder.glob(f"*{_TRIED}"):
        left.unlink()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = ray.data.from_items(
        [{"number": number} for number in numbers],
        override_num_blocks=min(len(numbers), MOST_BLOCKS),
    ).map_batches(
        _Actor,
        fn_constructor_args=(ray.put(plan),),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(size, len(numbers))),
        **room,
    )
    sums = dict.fromkeys(_FIELDS, 0)
    for row in rows.iter_rows():
        if row["wrong"]:
            raise ValueError(row["wrong"])
        if row["lost"]:
            raise RuntimeError(
                f"the questions from {row['lost']:,} on were lost with their worker {TRIES} times: "
                "it may have too little memory for them; a smaller batch_size takes less"
            )
        for name in _FIELDS:
            sums[name] += int(row[name])
        if progress is not None:
            progress(sums["renderings"], plan.renderings)
    return Finished(**sums)


def _room(resources: dict[str, float], workers: int | None) -> tuple[int, dict[str, float]]:
    """How many workers, and what each of them takes.

    Raises:
        ValueError: If there is no room for so many.
    """
    kind = "GPU" if resources.get("GPU", 0) >= 1 else "CPU"
    there = int(resources.get(kind, 0))
    size = workers or (there if kind == "GPU" else 1)
    if size > there:
        raise ValueError(f"workers must be at most {there}, the {kind}s that Ray has, got {size}")
    if kind == "GPU":
        return size, {"num_gpus": 1}
    # As many threads as CPUs: Ray sets OMP_NUM_THREADS so, where nobody else did.
    return size, {"num_cpus": there // size}


def _everywhere(plan: ProbePlan) -> ProbePlan:
    """The plan with paths that hold in the workers' folders, too."""

    return replace(
        plan,
        backend=plan.backend.everywhere(),
        questions=plan.questions.everywhere(),
        folder=plan.folder.resolve(),
    )


class _Actor:
    """A worker as Ray Data calls it."""

    def __init__(self, plan: Any) -> None:
        import ray

        self.plan: ProbePlan = ray.get(plan)
        self.worker: ProbeWorker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        number, wrong, found = int(batch["number"][0]), "", Finished(0)
        tried = self.plan.part(number).with_suffix(_TRIED)
        if _count(tried) > TRIES:
            return _row(found, lost=number * self.plan.questions.partition + 1)
        try:
            if self.worker is None:
                self.worker = ProbeWorker(self.plan)
            found = self.worker.finish(number)
        except ValueError as error:  # the user's to mend: no reason to try again
            wrong = str(error)
        tried.unlink(missing_ok=True)
        return _row(found, wrong=wrong)


def _count(file: Path) -> int:
    """Note one try more, and give how many there were: it outlives the worker."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write("begun\n")
    return len(file.read_text().splitlines())


def _row(found: Finished, *, wrong: str = "", lost: int = 0) -> dict[str, list[Any]]:
    sums = {name: [getattr(found, name)] for name in _FIELDS}
    return {"wrong": [wrong], "lost": [lost], **sums}
