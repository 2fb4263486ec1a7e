"""A task's YAML file and its keys. No code: columns, templates over them, splits, numbers."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from cogcalib.artifacts import named_kind
from cogcalib.records import PRESETS
from cogcalib.suggest import cut, did_you_mean, keys_at
from cogcalib.yaml_files import read_yaml

Count = Annotated[int, Field(ge=0)]
Value = str | int | float | bool


ROWS: Final = "prompt-completion"
"""Kind of a task whose rows stand as they are written."""

_WORDING = (
    "question",
    "key",
    "context",
    "options",
    "answer",
    "aliases",
    "equal_options",
    "presets",
)


class TaskSection(BaseModel):
    """A part of the file: unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _template(template: str) -> str:
    try:
        columns = [rest for _, *rest in Formatter().parse(template) if rest[0] is not None]
    except ValueError as error:
        raise ValueError(f"no valid template ({error}): {template!r}") from error
    if not all(re.fullmatch(r"[^\W\d][\w.]*", str(name)) for name, _, _ in columns):
        raise ValueError(f"braces must hold names of columns, as {{question}}, got {template!r}")
    if any(spec or conversion for _, spec, conversion in columns):
        raise ValueError(f"a column is shown as it is, without '!' or ':', got {template!r}")
    return template


Template = Annotated[str, AfterValidator(_template)]
"""Text with names of columns in braces."""


class Part(TaskSection):
    """One file, or one split on the hub.

    Attributes:
        file: JSONL, CSV or Parquet; below the data folder, or beside a user's own task file.
        config: On the hub, where it is not the source's.
        split: On the hub, where it is not called like the part.
        rows: How many rows there must be.
        without: Shipped task that does without the part, named where its file is missing.
    """

    file: str | None = None
    config: str | None = None
    split: str | None = None
    rows: Count | None = None
    without: str | None = None


class Source(TaskSection):
    """Where the rows come from.

    Attributes:
        hub: Data set on the Hugging Face hub, as ``owner/name``; null if its makers put none there.
        config: Its configuration.
        revision: Commit or branch of it.
        homepage: Where to get it otherwise.
        parts: Name -> part.
    """

    hub: str | None = None
    config: str | None = None
    revision: str = "main"
    homepage: str | None = None
    parts: Annotated[dict[str, Part], Field(min_length=1)]

    @model_validator(mode="after")
    def _every_part_can_be_found(self) -> Source:
        for name, part in self.parts.items():
            if part.file is None and self.hub is None:
                raise ValueError(f"part {name!r} needs a file, or the source a hub name")
        return self


class Options(TaskSection):
    """The options of a multiple-choice question: exactly one of three ways to say them.

    Attributes:
        column: A column that holds the list of texts; ``a.b`` is column b inside column a.
        texts: A template for each option.
        blank: Column with a sentence whose `mark` is replaced by each of the columns in `fill`.
        fill: See `blank`.
        mark: See `blank`.
        labels: A column with the list of labels the answer is given in, or that list itself.
        letters: What the model is to answer with; A, B, C ... if not given.
    """

    column: str | None = None
    texts: list[Template] | None = None
    blank: str | None = None
    fill: list[str] | None = None
    mark: str = "_"
    labels: str | list[Value]
    letters: list[str] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Options:
        given = [self.column, self.texts, self.blank]
        if sum(way is not None for way in given) != 1 or (self.blank is None) != (
            self.fill is None
        ):
            raise ValueError("needs exactly one of column, texts, or blank with fill")
        numbers = {
            len(words) for words in (self.texts, self.fill, self.letters) if words is not None
        }
        numbers |= {len(self.labels)} if isinstance(self.labels, list) else set()
        if len(numbers) > 1:
            raise ValueError("texts, fill, labels and letters must be equally many")
        return self


class Wording(TaskSection):
    """What another prompt preset asks instead."""

    question: Template | None = None
    options: Options | None = None


class Split(TaskSection):
    """Which rows make a split.

    Attributes:
        part: Of the source.
        share: Of the part's rows, drawn by their content; null takes them all.
        without: Another part whose questions are left out.
        rows: How many must remain, repeats dropped.
    """

    part: str
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    without: str | None = None
    rows: Count | None = None


class Carve(TaskSection):
    """How a part is divided between splits.

    Attributes:
        seed: Goes into the hash that draws.
        together: Template; rows that agree in it stay on one side. The question if not given.
    """

    seed: int = 0
    together: Template | None = None


class Group(TaskSection):
    """A task of its own made of some of the rows, ``name/group``."""

    description: str
    only: dict[str, list[Value]]
    rows: dict[Literal["train", "calibration", "test"], Count] = {}


class Definition(TaskSection):
    """A whole task file; see docs/tasks.md.

    Attributes:
        kind: ``multiple-choice`` or ``open-ended``, or ``prompt-completion``: rows to train on, as
            they are written (`cogcalib.tasks.prompt_rows`), which need none of the keys that word
            a question.
        id: Column that names a row; without, ids come from the content.
        question: Template.
        key: Template of what makes two rows the same question; `question` if not given.
        context: Column with a passage.
        answer: Column: a label if there are `options`, else the answer or a list of accepted ones.
        aliases: Column with further accepted answers.
        group: Template of what a question belongs with, such as its relation or subject: a probe
            draws its few-shot prompts and shows its shares by it.
        equal_options: Whether a question may show one text under two letters; such rows are
            refused without it, and counted in `Task.equal_options` with it.
        exclude: ``question`` or ``answer`` -> words or phrases; rows that hold one are left
            out, whatever the case.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_./-]*$")]
    version: Annotated[int, Field(ge=1)] = 1
    description: str
    licence: str = "not stated"
    paper: str | None = None
    kind: Literal["multiple-choice", "open-ended", "prompt-completion"]
    source: Source
    id: str | None = None
    question: Template = ""
    key: Template | None = None
    context: str | None = None
    options: Options | None = None
    answer: str = ""
    aliases: str | None = None
    group: Template | None = None
    equal_options: bool = False
    exclude: dict[Literal["question", "answer"], list[str]] = {}
    splits: Annotated[dict[Literal["train", "calibration", "test"], Split], Field(min_length=1)]
    carve: Carve = Carve()
    presets: dict[str, Wording] = {}
    groups: dict[str, Group] = {}

    @model_validator(mode="after")
    def _words_questions(self) -> Definition:
        if self.kind == ROWS:
            given = [name for name in _WORDING if name in self.model_fields_set]
            if given:
                raise ValueError(
                    f"{given[0]}: rows of kind {ROWS} stand as they are written; leave it out"
                )
            return self
        for name in ("question", "answer"):
            if not getattr(self, name):
                raise ValueError(f"{name}: a task of kind {self.kind} needs it")
        if self.kind == "multiple-choice" and self.options is None:
            raise ValueError("options: a multiple-choice task needs them")
        if self.kind == "multiple-choice" and self.aliases is not None:
            raise ValueError("aliases: only an open-ended task has them")
        if "{" not in (self.key or self.question):
            raise ValueError("key: must name a column in braces where the question names none")
        if wrong := sorted(set(self.presets) - set(PRESETS[1:])):
            raise ValueError(f"presets: must be among {', '.join(PRESETS[1:])}, got {wrong}")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Definition:
        for name, split in self.splits.items():
            for part in (split.part, split.without):
                if part is not None and part not in self.source.parts:
                    raise ValueError(f"splits.{name}: the source has no part {part!r}")
        for part in self.source.parts:
            taken = [split for split in self.splits.values() if split.part == part]
            if len(taken) > 1 and any(split.share is None for split in taken):
                raise ValueError(f"splits: two of them take part {part!r}, so each needs a share")
            if sum(split.share or 0 for split in taken) > 1 + 1e-9:
                raise ValueError(f"splits: the shares of part {part!r} add up to more than 1")
        return self


def read_definition(path: Path) -> Definition:
    """Read a task file.

    Raises:
        ValueError: Naming the file, each key that is wrong, what was allowed and what came.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such task file")
    values: Any = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must hold keys and values, got {named_kind(values)}")
    try:
        return Definition.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"] if part != "[key]") or "the whole"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            *section, last = problem["loc"]
            message = f"no such key{did_you_mean(str(last), keys_at(Definition, section))}"
        elif problem["type"] != "missing" and not isinstance(problem["input"], dict | BaseModel):
            message += f" (got {cut(str(problem['input']))!r})"
        lines.append(f"{key}: {message}")
    return "; ".join(lines)
