"""The run of a scoring: a model by name, a task by name; predictions, a record and a summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend_loading import (
    answers_file,
    check_backend,
    kept_answers,
    load_backend,
    settled,
)
from cogcalib.inference.batching import process
from cogcalib.modeling import LabelAudit, audit_labels, shorten_passages
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.shot_prompts import as_texts, behind_shots
from cogcalib.modeling.shots import Prompt, draw_shots
from cogcalib.provenance import data_manifest
from cogcalib.records import Example, Prediction
from cogcalib.scoring.confidence_names import TEXT
from cogcalib.scoring.config import ScoreSettings, ScoreTask
from cogcalib.scoring.metrics_row import summarize
from cogcalib.scoring.prediction_files import write_predictions
from cogcalib.scoring.score import check_examples, score_with
from cogcalib.scoring.score_record import check_outputs, describe_task, write_record
from cogcalib.tasks import Task, draw, load_rows, load_task
from cogcalib.tasks.loading import no_such_split
from cogcalib.tasks.match import token_f1


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of it.

    Attributes:
        predictions: One per example, in the order of the split.
        summary: A row as in ``metrics.json``, its seed None.
        f1: Mean token F1, a fraction; None if multiple choice.
        shortened: How many passages were cut so that their questions fit the model.
        labels: Audit of the option labels, made before any question was asked; None where none is
            read: open-ended, or options answered with their text.
        dropped: Sentences on rows that the asked split lost because a later one asks them too.
        main: Whether this is the process that writes and prints.
    """

    predictions: list[Prediction]
    summary: dict[str, Any]
    f1: float | None
    shortened: int
    labels: LabelAudit | None
    dropped: list[str]
    main: bool


def score_task(
    asked: ScoreTask, progress: Callable[[int, int], None] | None = None, *, resamples: int = 1000
) -> Scored:
    """Score a model on a split of a task, loaded into an engine here or behind an endpoint.

    Answers of an endpoint are kept beside the output until that is written, so that a scoring that
    was cut short goes on where it ended. Under ``accelerate launch`` the processes share the work;
    the first writes the file.

    Args:
        asked: What to score.
        progress: Called with the number of examples this process has done, and of all there are.
        resamples: Bootstrap resamples per interval.

    Raises:
        ValueError: If the output or its record exists already, there is no such task, split or
            model, an example does not fit the model or its tokenizer, or the engine cannot give
            what is needed or, an endpoint, refuses a request.
        EndpointError: If the endpoint stops answering.
    """
    name = asked.model if asked.adapter is None else f"{asked.model} + {asked.adapter}"
    check_backend(asked)
    if asked.output is not None:
        check_outputs(asked.output)
    task = _task(asked)
    # What progress counts.
    examples = draw(_split(task, "split", asked.split), asked.limit, asked.seed)
    check_examples(examples, asked.answer)
    settings = ScoreSettings(
        model_name=name,
        answer=asked.answer,
        max_new_tokens=asked.max_new_tokens,
        shots=_shots(asked, task),
        progress=None if progress is None else lambda done: progress(done, len(examples)),
    )
    asked = settled(asked)
    found = _ask(asked, examples, settings)
    main = process()[0] == 0
    if asked.output is not None and main:
        write_predictions(asked.output, found.predictions)
    summary = summarize(
        found.predictions, method=name, seed=None, resamples=resamples if main else 1
    )
    if asked.output is not None and main:
        write_record(asked.output, _record(asked, task, settings.shots, found, summary))
        answers_file(asked.output).unlink(missing_ok=True)
    return Scored(
        predictions=found.predictions,
        summary=summary,
        f1=_mean_f1(found.examples, found.predictions),
        shortened=found.shortened,
        labels=found.labels,
        dropped=task.dropped_lines(asked.split, asked.shot_split if asked.shots else None),
        main=main,
    )


def _task(asked: ScoreTask) -> Task:
    if asked.data is not None:
        return load_rows(asked.data)
    return load_task(str(asked.task), asked.data_dir, prompt=asked.prompt)


def _split(task: Task, name: str, split: str) -> list[Example]:
    if split not in task.splits:
        raise no_such_split(name, split, task.name, task.splits)
    return task.splits[split]


def _shots(asked: ScoreTask, task: Task) -> Prompt | None:
    if not asked.shots:
        return None
    return draw_shots(_split(task, "shot_split", asked.shot_split), asked.shots, seed=asked.seed)


@dataclass(frozen=True, slots=True)
class _Answers:
    """The examples as they were asked, how many of them were shortened, and what came of them."""

    examples: list[Example]
    shortened: int
    labels: LabelAudit | None
    predictions: list[Prediction]


def _ask(asked: ScoreTask, examples: list[Example], settings: ScoreSettings) -> _Answers:
    backend = load_backend(asked)
    examples, shortened = _fitting(examples, backend.tokenizer, backend.positions, settings)
    labels = _audit(examples, backend.tokenizer, settings)
    with kept_answers(backend, asked.output, examples, answer_settings(settings)):
        return _Answers(examples, shortened, labels, score_with(backend, examples, settings))


def answer_settings(settings: ScoreSettings) -> dict[str, Any]:
    """Settings that an endpoint's answers depend on, as `kept_answers` takes them."""
    return {
        "answer": settings.answer,
        "max_new_tokens": settings.max_new_tokens,
        "shots": [] if settings.shots is None else [shot.id for shot in settings.shots.shots],
    }


def _fitting(
    examples: list[Example],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    settings: ScoreSettings,
) -> tuple[list[Example], int]:
    if limit is None:
        return examples, 0
    room = 0 if examples[0].options is not None else settings.max_new_tokens
    by_text = settings.answer == TEXT
    taken = _most_before(examples, tokenizer, settings)
    try:
        return shorten_passages(examples, tokenizer, limit - room - taken, by_text=by_text)
    except ValueError as error:
        if not taken:
            raise
        raise ValueError(f"{error}; use fewer shots: they take {taken} of {limit}") from error


def _most_before(
    examples: list[Example], tokenizer: PreTrainedTokenizerBase, settings: ScoreSettings
) -> int:
    """Most tokens that the shots take before a question with a passage."""
    asked = [example for example in examples if example.context]
    shots = settings.shots
    if shots is None or not asked:
        return 0
    if settings.answer == TEXT and asked[0].options is not None:
        shots = as_texts(shots)
        asked = [replace(e, options=None, answer=e.answer_text) for e in asked]
    alone = [prompt for prompt, _ in continuations(asked, [()] * len(asked), tokenizer)]
    behind = behind_shots(shots, asked, alone, tokenizer)
    return max(len(row) - len(own) for row, own in zip(behind, alone, strict=True))


def _audit(
    examples: list[Example], tokenizer: PreTrainedTokenizerBase, settings: ScoreSettings
) -> LabelAudit | None:
    return None if settings.answer == TEXT else audit_labels(examples, tokenizer)


def _record(
    asked: ScoreTask,
    task: Task,
    shots: Prompt | None,
    found: _Answers,
    summary: dict[str, Any],
) -> dict[str, Any]:
    """What the predictions were made with. Keys are no part of it, nor where the data lay."""
    shortened = replace(task, shortened={asked.split: found.shortened})
    if asked.endpoint is None:
        engine = {"dtype": asked.dtype, "four_bit": asked.four_bit, "worker": asked.worker}
    else:
        engine = {"endpoint": asked.endpoint, "tokenizer": asked.tokenizer}
    return {
        "model": {"name": asked.model, "adapter": asked.adapter, **engine},
        "tasks": {task.name: describe_task(shortened, found.labels)},
        "split": asked.split,
        "limit": asked.limit,
        "seed": asked.seed,
        "shots": None
        if shots is None
        else {"split": asked.shot_split, "ids": [shot.id for shot in shots.shots]},
        "data": data_manifest({asked.split: found.examples}),
        "answer": asked.answer if found.examples[0].options is not None else None,
        "max_new_tokens": asked.max_new_tokens if found.examples[0].options is None else None,
        "metrics": [summary],
    }


def _mean_f1(examples: Sequence[Example], predictions: Sequence[Prediction]) -> float | None:
    if examples[0].options is not None:
        return None
    pairs = zip(examples, predictions, strict=True)
    values = [token_f1(row.prediction, [e.answer, *e.aliases]) for e, row in pairs]
    return sum(values) / len(values)
