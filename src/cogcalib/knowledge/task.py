"""A model by name, questions by name or as a table: what the model knows of them, in a folder.

Batches of a group are finished one by one. Each leaves a part file, and a probe that was
interrupted does not repeat what is there.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cogcalib.knowledge.assess import assess, pairs
from cogcalib.knowledge.record import FILE, Knowledge, Probed, load_probe, read_rows, write_rows
from cogcalib.knowledge.settings import EXACT, SlickSettings
from cogcalib.knowledge.shots import Prompt, Prompts, draw_prompts
from cogcalib.modeling import fingerprint, load_model, shorten_passages
from cogcalib.records import PRESETS, Example
from cogcalib.run_folder import RunFolder, data_manifest
from cogcalib.scoring.forward import max_positions
from cogcalib.tasks import Task, draw, load_table, load_task

BATCH = 256
"""Questions in a part file."""

SHOTS = 4
"""Shots of an open-ended question, if nothing is said; multiple choice is asked zero-shot."""

_NOT_SETTINGS = ("output", "batch_size", "data_dir")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeTask:
    """What `probe_task` is asked for.

    Attributes:
        model: A folder, a hub id, or an embedded model.
        task: Name of a task, or the path of a task file; either this or `data`.
        data: Table of own questions, see `cogcalib.tasks.load_table`.
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

    def __post_init__(self) -> None:
        if (self.task is None) == (self.data is None):
            raise ValueError("either task or data must be given, and not both")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}")

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
        rows: What the model knows, in the order of the split.
        folder: Where they are.
        task: The questions' task.
        kept: Questions whose rows an earlier call had left.
        shortened: Passages cut so that their questions fit the model.
    """

    rows: Probed
    folder: Path
    task: Task
    kept: int
    shortened: int


def probe_task(asked: ProbeTask, progress: Callable[[int, int], None] | None = None) -> Probe:
    """Probe what a model knows of a split of a task or of a table.

    Args:
        asked: What to probe.
        progress: Called with the number of question-prompt pairs done, and of all there are.

    Raises:
        ValueError: If there is no such task, table, split or model, a setting is out of range, a
            group has too few questions to draw prompts from, or the folder holds something else.
    """
    settings = SlickSettings(
        mode=asked.mode, temperature=asked.temperature, top_k=asked.top_k, samples=asked.samples,
        max_new_tokens=asked.max_new_tokens, seed=asked.seed, batch_size=asked.batch_size,
    )  # fmt: skip
    task = _load(asked)
    examples, pool = _questions(asked, task)
    groups = _grouped(examples, task.group_of)
    shots = asked.shots
    if shots is None:
        shots = SHOTS if examples[0].options is None else 0
    prompts = draw_prompts(
        pool, task.group_of, list(groups), prompts=asked.prompts, shots=shots, seed=asked.seed
    )
    folder = _claimed(asked, {"asked": examples, "shots": pool}, prompts)
    done = folder.path / FILE
    if done.exists():
        return Probe(load_probe(done), folder.path, task, len(examples), 0)
    model, tokenizer = load_model(
        asked.model, adapter=asked.adapter, dtype=asked.dtype, four_bit=asked.four_bit
    )
    shortened, limit = 0, max_positions(model)
    if limit is not None and shots == 0:
        room = settings.max_new_tokens if settings.mode != EXACT else 0
        examples, shortened = shorten_passages(examples, tokenizer, limit - room)
        groups = _grouped(examples, task.group_of)
    rows, kept = _parts(
        folder.path / "parts",
        groups,
        prompts,
        lambda batch, group, tell: assess(
            model, tokenizer, batch, prompts[group], _telling(settings, tell), group=group
        ),
        progress,
    )
    found = {row.example.id: row for row in rows}
    ordered = Probed([found[example.id] for example in examples])
    write_rows(done, ordered.rows)
    shutil.rmtree(folder.path / "parts")
    return Probe(ordered, folder.path, task, kept, shortened)


def _load(asked: ProbeTask) -> Task:
    if asked.data is not None:
        return load_table(asked.data, prompt=asked.prompt)
    return load_task(asked.task or "", asked.data_dir, prompt=asked.prompt)


def _questions(asked: ProbeTask, task: Task) -> tuple[list[Example], list[Example]]:
    """The questions to probe, and those to draw shots from."""
    shown = asked.shot_split or ("train" if "train" in task.splits else asked.split)
    for name, split in (("split", asked.split), ("shot_split", shown)):
        if split not in task.splits:
            raise ValueError(
                f"{name} must be one of {', '.join(task.splits)} for {task.name}, got {split!r}"
            )
    return draw(task.splits[asked.split], asked.limit, asked.seed), task.splits[shown]


def _grouped(examples: Sequence[Example], group_of: Mapping[str, str]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(group_of.get(example.id, example.task), []).append(example)
    return groups


def _claimed(asked: ProbeTask, data: dict[str, list[Example]], prompts: Prompts) -> RunFolder:
    """The folder, if it is new or holds the same probe."""
    settings = {key: value for key, value in asdict(asked).items() if key not in _NOT_SETTINGS}
    text = yaml.safe_dump(
        {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()},
        sort_keys=False,
    )
    folder = RunFolder(asked.folder, text, resume=True)
    inputs = {"model": fingerprint(asked.model), "data": data_manifest(data)}
    folder.claim("inputs.json", inputs)
    shown: dict[str, list[dict[str, Any]]] = {
        group: [_named(prompt) for prompt in drawn] for group, drawn in prompts.items()
    }
    folder.claim("prompts.json", shown)
    return folder


def _named(prompt: Prompt) -> dict[str, Any]:
    reserve = prompt.reserve.id if prompt.reserve is not None else None
    return {"shots": [shot.id for shot in prompt.shots], "reserve": reserve}


Assess = Callable[[Sequence[Example], str, Callable[[int], None]], list[Knowledge]]


def _parts(
    folder: Path,
    groups: Mapping[str, Sequence[Example]],
    prompts: Prompts,
    assess_batch: Assess,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Knowledge], int]:
    """All rows, from the part files that are there and by assessing the rest; how many were there.

    The parts' names say their place alone: the folder's settings, model and data are the same.
    """
    batches = list(_batches(groups))
    total = sum(pairs(batch, prompts[group]) for group, batch in batches)
    rows: list[Knowledge] = []
    kept = done = 0
    for number, (group, batch) in enumerate(batches):
        path = folder / f"{number:06d}.parquet"
        if path.exists():
            rows += read_rows(path)
            kept += len(batch)
        else:
            before = done

            def tell(pairs_done: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + pairs_done, total)

            found = assess_batch(batch, group, tell)
            write_rows(path, found)
            rows += found
        done += pairs(batch, prompts[group])
        if progress is not None:
            progress(done, total)
    return rows, kept


def _batches(groups: Mapping[str, Sequence[Example]]) -> Iterator[tuple[str, Sequence[Example]]]:
    for group, examples in groups.items():
        for start in range(0, len(examples), BATCH):
            yield group, examples[start : start + BATCH]


def _telling(settings: SlickSettings, tell: Callable[[int], None]) -> SlickSettings:
    return replace(settings, progress=tell)
