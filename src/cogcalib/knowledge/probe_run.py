"""The run of a probe: a model and questions by name; what the model knows of them, in a folder.

The work is done partition by partition, here or by Ray's workers. Each leaves a file, and a probe
that was interrupted does not repeat what is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cogcalib.artifacts import check_writable
from cogcalib.inference.backend_loading import (
    check_answers,
    check_backend,
    check_sampling,
    fingerprints,
    read_spec,
    settled,
)
from cogcalib.inference.batching import from_main, process
from cogcalib.knowledge.partitions import merge, part_files
from cogcalib.knowledge.probe_folder import PARTS, claim
from cogcalib.knowledge.probe_inputs import of_table, of_task
from cogcalib.knowledge.probe_rows import FILE, Probed, load_probe
from cogcalib.knowledge.probe_task import RAY, SHOTS, ProbeTask
from cogcalib.knowledge.probe_worker import Finished, ProbePlan, ProbeWorker
from cogcalib.knowledge.question_check import check_questions
from cogcalib.knowledge.questions import partitions
from cogcalib.knowledge.slick_settings import EXACT
from cogcalib.modeling.shots import draw_prompts
from cogcalib.owned_folder import holding

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of it.

    Attributes:
        folder: Where the rows are.
        name: Of the questions' task.
        kept: Questions whose rows an earlier call had left.
        shortened: Passages this call cut so that their questions fit the model.
        prompts, shots: As asked: without shots there is one prompt, see `ProbeTask`.
        repeats: Sentences on rows of a table that ask the same, or on those of a task that were
            dropped for it; empty if there are none.
        main: Whether this is the process that writes and prints.
    """

    folder: Path
    name: str
    kept: int
    shortened: int
    prompts: int
    shots: int
    repeats: str
    main: bool

    @property
    def rows(self) -> Probed:
        """What the model knows, in the order of the questions; read into memory whole."""
        return load_probe(self.folder)


def probe_task(asked: ProbeTask, progress: Progress | None = None) -> Probe:
    """Probe what a model knows of a split of a task or of a table.

    Of a table no more than a partition is in memory at once. Under ``accelerate launch`` the
    processes share the work; the first writes. Before a folder is begun every question is checked
    behind every prompt; what is refused leaves none.

    Args:
        asked: What to probe.
        progress: Called with the number of question-prompt pairs done, and of all there are.

    Raises:
        ValueError: If there is no such task, table, split or model, a setting is out of range, a
            group has too few questions to draw prompts from, a question does not fit the model,
            the folder holds something else, Ray or vLLM is not installed, Ray has no room for the
            workers, or vLLM or the endpoint cannot do what is asked for.
        EndpointError: If the endpoint stops answering.
    """
    settings = asked.settings
    check_writable(asked.folder)
    if asked.engine == RAY:
        from cogcalib.knowledge.ray_engine import check_ray

        check_ray()
        if process()[1] > 1:
            raise ValueError("engine ray starts its own workers: not under accelerate launch")
    check_backend(asked)
    data = of_table(asked) if asked.data is not None else of_task(asked)
    choice = data.questions.read(0)[0].example.options is not None
    shots = asked.shots
    if shots is None:
        shots = 0 if choice else SHOTS
    if not choice:
        check = check_answers if settings.mode == EXACT else check_sampling
        check(asked, settings.sampling)
    prompts = draw_prompts(
        data.pool, data.group_of, data.groups, prompts=asked.prompts, shots=shots, seed=asked.seed
    )
    # What is noted is what is done.
    asked = replace(settled(asked), shots=shots, prompts=len(next(iter(prompts.values()))))
    plan = ProbePlan(
        backend=asked, questions=data.questions, prompts=prompts, settings=settings, shots=shots,
        folder=asked.folder / PARTS,
    )  # fmt: skip
    main, done = process()[0] == 0, asked.folder / FILE
    with ExitStack() as stack:
        from_main(lambda: _begin(asked, plan, data.manifest, stack))
        found = Finished(0, kept=data.questions.count)
        if not from_main(done.exists):
            ray = asked.engine == RAY
            found = _by_ray(plan, asked, progress) if ray else _here(plan, progress)
            if main:
                _conclude(plan, done, asked.engine)
    return Probe(
        asked.folder, data.name, found.kept, found.shortened, asked.prompts, shots, data.repeats,
        main,
    )  # fmt: skip


def _begin(asked: ProbeTask, plan: ProbePlan, data: dict[str, Any], stack: ExitStack) -> None:
    """Check all that can be checked without the weights, and claim the folder until the end."""
    named = fingerprints(asked)
    model = read_spec(asked)
    inputs = {**named, "ends": list(model.ends), "data": data}
    stack.enter_context(holding(asked.folder))
    claim(
        asked.folder,
        asked.decisive,
        inputs,
        plan.prompts,
        lambda: check_questions(plan.questions, plan.prompts, plan.settings, plan.shots, model),
    )


def _here(plan: ProbePlan, progress: Progress | None) -> Finished:
    """Finish all partitions in this process; how many pairs, kept questions, cut passages."""
    worker = ProbeWorker(plan)
    total = plan.renderings
    done = kept = shortened = 0
    for number in range(partitions(plan.questions)):

        def tell(more: int, before: int = done) -> None:
            if progress is not None:
                progress(before + more, total)

        found = worker.finish(number, tell)
        done += found.renderings
        kept += found.kept
        shortened += found.shortened
        tell(0, done)
    return Finished(done, kept, shortened)


def _by_ray(plan: ProbePlan, asked: ProbeTask, progress: Progress | None) -> Finished:
    from cogcalib.knowledge.ray_engine import finish_all

    return finish_all(plan, asked.workers, progress)


def _conclude(plan: ProbePlan, done: Path, engine: str) -> None:
    """From a folder of finished partitions to what stays."""
    if engine == RAY:
        for left in plan.folder.iterdir():  # of a worker that was cut off and came back too late
            if left.is_dir():
                shutil.rmtree(left)
            elif left.suffix != ".parquet":
                left.unlink()
        plan.folder.rename(done)
        return
    merge(part_files(plan.folder), done)
    shutil.rmtree(plan.folder)
