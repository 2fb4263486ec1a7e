"""A model by name, a task by name: predictions, in a file if asked, and what they sum up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogcalib.modeling import load_model, shorten_passages
from cogcalib.records import PRESETS, Example, Prediction
from cogcalib.scoring.batches import process
from cogcalib.scoring.definitions import LETTER
from cogcalib.scoring.files import check_output, write_predictions
from cogcalib.scoring.forward import max_positions
from cogcalib.scoring.match import token_f1
from cogcalib.scoring.score import score
from cogcalib.scoring.settings import ScoreSettings
from cogcalib.scoring.summary import summarize
from cogcalib.tasks import load_task


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreTask:
    """What `score_task` is asked for.

    Attributes:
        model: A folder, a hub id, or an embedded model.
        task: Its name, or the path of a task file.
        adapter: Folder or hub id of a PEFT adapter on top of the model.
        split: Split of the task.
        output: File to write the predictions to, ``.jsonl`` or ``.parquet``.
        data_dir: Folder of local data sets.
        prompt: Prompt preset.
        answer, batch_size: As in `ScoreSettings`.
        dtype, four_bit: As in `load_model`.
    """

    model: str
    task: str
    adapter: str | None = None
    split: str = "test"
    output: Path | None = None
    data_dir: Path | None = None
    prompt: str = PRESETS[0]
    answer: str = LETTER
    batch_size: int | None = None
    dtype: str = "float32"
    four_bit: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of it.

    Attributes:
        predictions: One per example, in the order of the split.
        summary: A row as in ``metrics.json``, its seed None.
        f1: Mean token F1, a fraction; None if multiple choice.
        shortened: How many passages were cut so that their questions fit the model.
        main: Whether this is the process that writes and prints.
    """

    predictions: list[Prediction]
    summary: dict[str, Any]
    f1: float | None
    shortened: int
    main: bool


def score_task(
    asked: ScoreTask, progress: Callable[[int, int], None] | None = None, *, resamples: int = 1000
) -> Scored:
    """Score a model on a split of a task.

    Under ``accelerate launch`` the processes share the work; the first writes the file.

    Args:
        asked: What to score.
        progress: Called with the number of examples this process has done, and of all there are.
        resamples: Bootstrap resamples per interval.

    Raises:
        ValueError: If the output exists already, there is no such task, split or model, or an
            example does not fit the model or its tokenizer.
    """
    name = asked.model if asked.adapter is None else f"{asked.model} + {asked.adapter}"
    settings = ScoreSettings(
        model_name=name,
        batch_size=asked.batch_size,
        answer=asked.answer,
        progress=None if progress is None else lambda done: progress(done, len(examples)),
    )
    if asked.output is not None:
        check_output(asked.output)
    task = load_task(asked.task, asked.data_dir, prompt=asked.prompt)
    if asked.split not in task.splits:
        raise ValueError(
            f"split must be one of {', '.join(task.splits)} for task {task.name}, "
            f"got {asked.split!r}"
        )
    model, tokenizer = load_model(
        asked.model, adapter=asked.adapter, dtype=asked.dtype, four_bit=asked.four_bit
    )
    examples, shortened = list(task.splits[asked.split]), 0
    if (limit := max_positions(model)) is not None:
        room = 0 if examples[0].options is not None else settings.max_new_tokens
        examples, shortened = shorten_passages(examples, tokenizer, limit - room)
    predictions = score(model, tokenizer, examples, settings)
    main = process()[0] == 0
    if asked.output is not None and main:
        write_predictions(asked.output, predictions)
    summary = summarize(predictions, method=name, seed=None, resamples=resamples if main else 1)
    return Scored(predictions, summary, _mean_f1(examples, predictions), shortened, main)


def _mean_f1(examples: Sequence[Example], predictions: Sequence[Prediction]) -> float | None:
    if examples[0].options is not None:
        return None
    pairs = zip(examples, predictions, strict=True)
    values = [token_f1(row.prediction, [e.answer, *e.aliases]) for e, row in pairs]
    return sum(values) / len(values)
