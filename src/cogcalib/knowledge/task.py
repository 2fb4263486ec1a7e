"""A model by name, questions by name or as a table: what the model knows of them, in a folder.

The work is done partition by partition, here or by Ray's workers. Each leaves a file, and a probe
that was interrupted does not repeat what is there.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cogcalib.knowledge.parts import merge, part_files
from cogcalib.knowledge.questions import Listed, Questions, named, partitions, survey
from cogcalib.knowledge.record import FILE, Probed, load_probe
from cogcalib.knowledge.settings import EXACT, SlickSettings
from cogcalib.knowledge.worker import Finished, Plan, Worker
from cogcalib.modeling import fingerprint
from cogcalib.modeling.shots import Prompt, Prompts, draw_prompts
from cogcalib.records import PRESETS, Example
from cogcalib.run_folder import RunFolder, data_manifest
from cogcalib.scoring.batches import from_main, process
from cogcalib.tasks import Asked, Table, Task, draw, load_task

PARTITION = 4096
"""Questions in a partition."""

LOCAL, RAY = ENGINES = ("local", "ray")

SHOTS = 4
"""Shots of an open-ended question, if nothing is said; multiple choice is asked zero-shot."""

_NOT_SETTINGS = ("output", "batch_size", "data_dir", "engine", "workers")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeTask:
    """What `probe_task` is asked for.

    Attributes:
        model: A folder, a hub id, or an embedded model.
        task: Name of a task, or the path of a task file; either this or `data`.
        data: File of own questions or folder of such, see `cogcalib.tasks.Table`.
        adapter: Folder or hub id of a PEFT adapter on top of the model.
        split: Split of the task to probe.
        shot_split: Split that shots are drawn from; None takes ``train``, or `split` where the
            task has no ``train``.
        limit: Questions drawn from the split; None probes all.
        prompts, shots: Prompts of a group, and examples in each; `shots` None takes `SHOTS` for
            open-ended questions and none for multiple choice.
        mode, samples, temperature, top_k, max_new_tokens, batch_size: As in `SlickSettings`.
        seed: Of the drawing of prompts, questions and samples.
        prompt: Prompt preset.
        output: Folder of the results; None names one below ``runs`` after model and task.
        data_dir: Folder of local data sets.
        dtype, four_bit: As in `load_model`.
        engine: ``local``: this process, or those of ``accelerate launch``; ``ray``: workers of Ray,
            which leave a folder of Parquet files, one a partition, instead of one file.
        workers: Of Ray, each with a replica of the model; None takes one for each GPU, or one.
        partition: Questions whose groups are brought together, and that go into one part.

    Raises:
        ValueError: If something is out of range, or does not go together.
    """

    model: str
    task: str | None = None
    data: Path | None = None
    adapter: str | None = None
    split: str = "train"
    shot_split: str | None = None
    limit: int | None = None
    prompts: int = 10
    shots: int | None = None
    mode: str = EXACT
    samples: int = 16
    temperature: float = 0.5
    top_k: int = 40
    max_new_tokens: int = 32
    seed: int = 0
    prompt: str = PRESETS[0]
    output: Path | None = None
    data_dir: Path | None = None
    batch_size: int | None = None
    dtype: str = "float32"
    four_bit: bool = False
    engine: str = LOCAL
    workers: int | None = None
    partition: int = PARTITION

    def __post_init__(self) -> None:
        if (self.task is None) == (self.data is None):
            raise ValueError("either task or data must be given, and not both")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}")
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}")
        if self.workers is not None and self.engine != RAY:
            raise ValueError("workers are Ray's: they need engine ray")
        for name, value in (("workers", self.workers), ("partition", self.partition)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    @property
    def folder(self) -> Path:
        """Where the results go."""
        if self.output is not None:
            return self.output
        asked = Path(self.task).stem if self.task and self.task.endswith(".yaml") else self.task
        words = (self.adapter or self.model, asked or (self.data or Path()).stem)
        return Path("runs") / "-".join(("probe", *(re.sub(r"[^\w.]+", "-", w) for w in words)))


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of it.

    Attributes:
        folder: Where the rows are.
        name: Of the questions' task.
        kept: Questions whose rows an earlier call had left.
        shortened: Passages this call cut so that their questions fit the model.
        main: Whether this is the process that writes and prints.
    """

    folder: Path
    name: str
    kept: int
    shortened: int
    main: bool

    @property
    def rows(self) -> Probed:
        """What the model knows, in the order of the questions; read into memory whole."""
        return load_probe(self.folder)


def probe_task(asked: ProbeTask, progress: Callable[[int, int], None] | None = None) -> Probe:
    """Probe what a model knows of a split of a task or of a table.

    Of a table no more than a partition is in memory at once. Under ``accelerate launch`` the
    processes share the work; the first writes.

    Args:
        asked: What to probe.
        progress: Called with the number of question-prompt pairs done, and of all there are.

    Raises:
        ValueError: If there is no such task, table, split or model, a setting is out of range, a
            group has too few questions to draw prompts from, the folder holds something else, or
            Ray is not installed or has no room for the workers.
    """
    settings = SlickSettings(
        mode=asked.mode, temperature=asked.temperature, top_k=asked.top_k, samples=asked.samples,
        max_new_tokens=asked.max_new_tokens, seed=asked.seed, batch_size=asked.batch_size,
    )  # fmt: skip
    if asked.engine == RAY:
        from cogcalib.knowledge.ray_engine import check_ray

        check_ray()
        if process()[1] > 1:
            raise ValueError("engine ray starts its own workers: not under accelerate launch")
    data = _of_table(asked) if asked.data is not None else _of_task(asked)
    shots = asked.shots
    if shots is None:
        shots = SHOTS if data.questions.read(0)[0].example.options is None else 0
    prompts = draw_prompts(
        data.pool, data.group_of, data.groups, prompts=asked.prompts, shots=shots, seed=asked.seed
    )
    main = process()[0] == 0
    folder = from_main(lambda: _claimed(asked, data.manifest, prompts).path)
    done = folder / FILE
    if from_main(done.exists):
        return Probe(folder, data.name, data.questions.count, 0, main)
    plan = Plan(
        model=asked.model, adapter=asked.adapter, dtype=asked.dtype, four_bit=asked.four_bit,
        questions=data.questions, prompts=prompts, settings=settings, shots=shots,
        folder=folder / "parts",
    )  # fmt: skip
    found = _by_ray(plan, asked, progress) if asked.engine == RAY else _here(plan, progress)
    if main:
        _conclude(plan, done, asked.engine)
    return Probe(folder, data.name, found.kept, found.shortened, main)


class _Data(NamedTuple):
    """What is asked: questions, and what their prompts are drawn from."""

    name: str
    questions: Questions
    pool: list[Example]
    group_of: dict[str, str]
    groups: list[str]
    manifest: dict[str, Any]


def _of_table(asked: ProbeTask) -> _Data:
    table = Table(asked.data or "", prompt=asked.prompt)
    for key, split in (("split", asked.split), ("shot_split", asked.shot_split)):
        if split not in (None, "train"):
            raise ValueError(f"{key} must be train for a table, got {split!r}")
    found = survey(table, asked.partition)
    questions: Questions = found.questions
    if asked.limit is not None:
        questions = Listed(
            _picked(table, questions.count, asked.limit, asked.seed), asked.partition
        )
    manifest = {"asked": found.manifest, "shots": found.manifest}
    return _Data(table.name, questions, found.pool, found.group_of, found.groups, manifest)


def _of_task(asked: ProbeTask) -> _Data:
    task = load_task(asked.task or "", asked.data_dir, prompt=asked.prompt)
    examples, pool = _questions(asked, task)
    rows = [Asked(e, task.group_of.get(e.id, e.task)) for e in examples]
    questions = Listed(rows, asked.partition)
    groups = list(dict.fromkeys(row.group for row in rows))
    manifest = data_manifest({"asked": examples, "shots": pool})
    return _Data(task.name, questions, pool, dict(task.group_of), groups, manifest)


def _picked(table: Table, count: int, limit: int, seed: int) -> list[Asked]:
    if limit > count:
        raise ValueError(f"limit must be at most {count}, the table's questions, got {limit}")
    wanted = set(random.Random(seed).sample(range(count), limit))
    rows = (row for _, row in table.read())
    return [named(row) for index, row in enumerate(rows) if index in wanted]


def _here(plan: Plan, progress: Callable[[int, int], None] | None) -> Finished:
    """Finish all partitions in this process; how many pairs, kept questions, cut passages."""
    worker = Worker(plan)
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


def _by_ray(plan: Plan, asked: ProbeTask, progress: Callable[[int, int], None] | None) -> Finished:
    from cogcalib.knowledge.ray_engine import finish_all

    return finish_all(plan, asked.workers, progress)


def _conclude(plan: Plan, done: Path, engine: str) -> None:
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


def _questions(asked: ProbeTask, task: Task) -> tuple[list[Example], list[Example]]:
    """The questions to probe, and those to draw shots from."""
    shown = asked.shot_split or ("train" if "train" in task.splits else asked.split)
    for name, split in (("split", asked.split), ("shot_split", shown)):
        if split not in task.splits:
            raise ValueError(
                f"{name} must be one of {', '.join(task.splits)} for {task.name}, got {split!r}"
            )
    return draw(task.splits[asked.split], asked.limit, asked.seed), task.splits[shown]


def _claimed(asked: ProbeTask, data: dict[str, Any], prompts: Prompts) -> RunFolder:
    """The folder, if it is new or holds the same probe."""
    settings = {key: value for key, value in asdict(asked).items() if key not in _NOT_SETTINGS}
    text = yaml.safe_dump(
        {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()},
        sort_keys=False,
    )
    folder = RunFolder(asked.folder, text, resume=True)
    inputs = {"model": fingerprint(asked.model), "data": data}
    folder.claim("inputs.json", inputs)
    shown: dict[str, list[dict[str, Any]]] = {
        group: [_named(prompt) for prompt in drawn] for group, drawn in prompts.items()
    }
    folder.claim("prompts.json", shown)
    return folder


def _named(prompt: Prompt) -> dict[str, Any]:
    reserve = prompt.reserve.id if prompt.reserve is not None else None
    return {"shots": [shot.id for shot in prompt.shots], "reserve": reserve}
