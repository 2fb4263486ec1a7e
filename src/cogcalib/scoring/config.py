"""The settings of a scoring: how a model is scored, and what is to be scored by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cogcalib.inference.backend_spec import BackendSpec
from cogcalib.records import PRESETS
from cogcalib.scoring.confidence_names import (
    ANSWERS,
    LETTER,
    LIKELIHOOD,
    MULTIPLE_CHOICE,
    OPEN_ENDED,
)

if TYPE_CHECKING:
    from cogcalib.modeling.shots import Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSettings:
    """How to score: one frozen object that every function of this room takes.

    Everything has a default; speed and memory apart, no field but `temperature`, `answer`,
    `length_normalized`, `max_new_tokens` and `shots` changes a result. `batch_size` and
    `share_prefix` are for a model at hand: a backend that is given has its own.

    Attributes:
        model_name: Goes into `Prediction.model`.
        run: Goes into `Prediction.run`.
        batch_size: Most sequences in one forward pass; None lets a budget of tokens decide, which
            grows on an accelerator while it fits. Out of memory halves either.
        temperature: Confidence definition -> temperature its logits are divided by, 1 where
            missing. Multiple choice: `nll` and `option_logprobs` follow ``options``. Open-ended:
            `nll` has one of its own, by the name ``nll``.
        answer: What a multiple-choice question is answered with: the ``letter`` of an option shown,
            one token; its ``label``, the same of any number of tokens; or its ``text``, in which
            case the prompt does not show the options.
        length_normalized: Judge a label or text by the mean log-probability of its tokens instead
            of their sum.
        max_new_tokens: Longest open-ended answer, in tokens.
        shots: Answered questions to show before each (`cogcalib.modeling.shots.draw_shots`), in the
            questions' own preset; one that is asked is never among those it sees.
        share_prefix: Compute the tokens with which all prompts begin once, where that saves time.
            Generating does not: each batch of open-ended questions reads its prompts whole.
        progress: Called with the number of examples that this process has done, after each batch.

    Raises:
        ValueError: If a number is not positive or a name unknown.
    """

    model_name: str = ""
    run: str = ""
    batch_size: int | None = None
    temperature: Mapping[str, float] = field(default_factory=dict)
    answer: str = LETTER
    length_normalized: bool = False
    max_new_tokens: int = 32
    shots: Prompt | None = None
    share_prefix: bool = True
    progress: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.answer not in ANSWERS:
            raise ValueError(f"answer must be one of {', '.join(ANSWERS)}, got {self.answer!r}")
        if self.length_normalized and self.answer == LETTER:
            raise ValueError("length_normalized needs answer to be label or text, got letter")
        self.temperatures((*MULTIPLE_CHOICE, *OPEN_ENDED, LIKELIHOOD))

    def temperatures(self, definitions: tuple[str, ...]) -> dict[str, float]:
        """A temperature for every one of `definitions`, 1 where `temperature` names none.

        Raises:
            ValueError: If `temperature` names another, or a value is not positive and finite.
        """
        if unknown := sorted(set(self.temperature) - set(definitions)):
            raise ValueError(
                f"temperature must name definitions among {', '.join(definitions)}, got {unknown}"
            )
        for name, value in self.temperature.items():
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"temperature[{name!r}] must be positive and finite, got {value}")
        return {name: float(self.temperature.get(name, 1.0)) for name in definitions}


DEFAULTS = ScoreSettings()
"""What is scored with if nothing is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreTask(BackendSpec):
    """What `score_task` is asked for: a model and what it runs in, a task, and how to ask it.

    Each text under Attributes is the help of the option of ``cogcalib score``.

    Attributes:
        task: Its name, or the path of a task file; either this or `data`.
        data: Own rows as the trainer takes them, asked as they are written: .jsonl, .csv or
            .parquet with prompt, completion and perhaps options, or with messages.
        split: Split of the task.
        output: File to write the predictions to, ``.jsonl`` or ``.parquet``; what they were made
            with goes beside it, into ``<output>.record.json``.
        data_dir: Folder of local data sets.
        prompt: Prompt preset, ``+chat`` behind it for the model's chat template.
        answer: What is answered with: an option's letter, its label of several tokens, or its text.
        shots: Answered questions before each: the same before all, and never the one asked.
        shot_split: Split that they are drawn from.
        limit: Score so many questions of the split, drawn; all if not given.
        seed: Of both draws.
        max_new_tokens: Longest open-ended answer, in tokens.

    Raises:
        ValueError: As `BackendSpec`, or if a number is out of range.
    """

    task: str | None = None
    data: Path | None = None
    split: str = "test"
    output: Path | None = None
    data_dir: Path | None = None
    prompt: str = PRESETS[0]
    answer: str = LETTER
    shots: int = 0
    shot_split: str = "train"
    limit: int | None = None
    seed: int = 0
    max_new_tokens: int = DEFAULTS.max_new_tokens

    def __post_init__(self) -> None:
        BackendSpec.__post_init__(self)
        if (self.task is None) == (self.data is None):
            raise ValueError("either task or data must be given, and not both")
        if self.data is not None and self.prompt != PRESETS[0]:
            raise ValueError(f"data is asked as it is written; leave out prompt {self.prompt!r}")
        if self.shots < 0:
            raise ValueError(f"shots must be at least 0, got {self.shots}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}")
