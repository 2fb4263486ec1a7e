"""The worker of a probe: a model replica that finishes partitions, in whichever process it stands.

Within a partition the questions of a group come together, and every `BATCH` of them leave a file.
When all are there they become the partition's file, in the order of the questions. So what a
partition holds does not depend on which worker finishes it, nor on how often it was interrupted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cogcalib.inference.backend_loading import load_backend
from cogcalib.inference.backend_spec import BackendSpec
from cogcalib.inference.batching import from_main, process
from cogcalib.knowledge.assess import assess_with, pairs
from cogcalib.knowledge.partitions import part_name, release_freed
from cogcalib.knowledge.probe_rows import Knowledge, write_rows
from cogcalib.knowledge.question_check import fit
from cogcalib.knowledge.questions import Questions
from cogcalib.knowledge.slick_settings import SlickSettings
from cogcalib.modeling.shots import Prompts
from cogcalib.parquet import write_table
from cogcalib.records import Example
from cogcalib.tasks import Asked

BATCH = 256
"""Questions in a batch's file."""

Tell = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class ProbePlan:
    """All that a worker needs. It can be pickled.

    Attributes:
        backend: The model and what it runs in.
        questions: In partitions.
        prompts: Of every group.
        settings: How to ask; without `progress`.
        shots: Examples in each prompt.
        folder: Of the parts.
    """

    backend: BackendSpec
    questions: Questions
    prompts: Prompts
    settings: SlickSettings
    shots: int
    folder: Path

    def part(self, number: int) -> Path:
        """The file of a partition; it exists when the partition is finished."""
        return self.folder / part_name(number)

    @property
    def renderings(self) -> int:
        """Question-prompt pairs of the whole probe."""
        return self.questions.renderings * len(next(iter(self.prompts.values())))


@dataclass(frozen=True, slots=True)
class Finished:
    """A completed partition.

    Attributes:
        renderings: Question-prompt pairs in it.
        kept: Questions whose rows were there before.
        shortened: Passages cut so that their questions fit the model, among the others.
    """

    renderings: int
    kept: int = 0
    shortened: int = 0


class ProbeWorker:
    """Finishes partitions, one after the other. Under ``accelerate launch`` all processes must.

    Args:
        plan: What to do.

    Raises:
        ValueError: As `load_backend`.
    """

    def __init__(self, plan: ProbePlan) -> None:
        self.plan = plan
        self.backend = load_backend(plan.backend)

    def finish(self, number: int, tell: Tell | None = None) -> Finished:
        """Finish a partition, unless it is.

        Args:
            number: Of the partition.
            tell: Called with the number of its question-prompt pairs done so far.

        Raises:
            ValueError: As `assess`.
        """
        asked = self.plan.questions.read(number)
        file = self.plan.part(number)
        if from_main(file.exists):
            return Finished(self._pairs(asked), kept=len(asked))
        batches = list(_batches(asked))
        folder = file.with_suffix("")
        done = kept = shortened = 0
        for place, batch in enumerate(batches):
            chosen, path = [asked[index] for index in batch], folder / part_name(place)
            if from_main(path.exists):
                kept += len(chosen)
            else:
                rows, cut = self._assess(chosen, _after(done, tell))
                shortened += cut
                if process()[0] == 0:
                    write_rows(path, rows)
            done += self._pairs(chosen)
            if tell is not None:
                tell(done)
        if process()[0] == 0:
            _gather(folder, batches, file)
            release_freed()
        return Finished(done, kept, shortened)

    def _pairs(self, asked: Sequence[Asked]) -> int:
        prompts = self.plan.prompts
        return sum(pairs([example], prompts[group]) for example, group in asked)

    def _assess(self, asked: Sequence[Asked], tell: Tell | None) -> tuple[list[Knowledge], int]:
        """The rows of questions of which those of a group stand together; the passages cut."""
        groups: dict[str, list[Example]] = {}
        for each in asked:
            groups.setdefault(each.group, []).append(each.example)
        rows: list[Knowledge] = []
        done = shortened = 0
        for group, examples in groups.items():
            examples, cut = self._fitting(examples)
            prompts = self.plan.prompts[group]
            settings = replace(self.plan.settings, progress=_after(done, tell))
            rows += assess_with(self.backend, examples, prompts, settings, group=group)
            done += pairs(examples, prompts)
            shortened += cut
        return rows, shortened

    def _fitting(self, examples: list[Example]) -> tuple[list[Example], int]:
        model, plan = self.backend, self.plan
        return fit(examples, model.tokenizer, model.positions, plan.shots, plan.settings)


def _batches(asked: Sequence[Asked]) -> Iterator[list[int]]:
    """Indices of the questions, group by group, `BATCH` at once."""
    first: dict[str, int] = {}
    for each in asked:
        first.setdefault(each.group, len(first))
    order = sorted(range(len(asked)), key=lambda index: first[asked[index].group])
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


def _after(done: int, tell: Tell | None) -> Tell | None:
    return None if tell is None else lambda more: tell(done + more)


def _gather(folder: Path, batches: Sequence[Sequence[int]], file: Path) -> None:
    """Make the batches' files one, its rows in the order of the questions."""
    tables = [pq.read_table(folder / part_name(place)) for place in range(len(batches))]
    order = [index for batch in batches for index in batch]
    place = sorted(range(len(order)), key=order.__getitem__)
    write_table(file, pa.concat_tables(tables).combine_chunks().take(pa.array(place)))
    shutil.rmtree(folder)
