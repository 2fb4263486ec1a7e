"""The settings of a probe: a model, questions, how to ask them, and where the results go."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cogcalib.inference.backend_spec import LOCAL as HERE
from cogcalib.inference.backend_spec import REMOTE, BackendSpec
from cogcalib.knowledge.slick_settings import PAPER, SlickSettings
from cogcalib.records import PRESETS

PARTITION = 4096
"""Questions in a partition."""

LOCAL, RAY = ENGINES = ("local", "ray")

SHOTS = 4
"""Shots of an open-ended question, if nothing is said; multiple choice is asked zero-shot."""

# The fields that decide the results, in the order in which a probe's folder names them.
_DECISIVE = (
    "model", "task", "data", "adapter", "split", "shot_split", "limit", "prompts", "shots", "mode",
    "samples", "temperature", "top_k", "max_new_tokens", "seed", "prompt", "dtype", "four_bit",
    "worker", "partition", "endpoint", "tokenizer", "top_logprobs",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeTask(BackendSpec):
    """What `probe_task` is asked for: a model and what it runs in, questions, and how to ask them.

    Each text under Attributes is the help of the option of ``cogcalib probe``.

    Attributes:
        task: Name of a task, or the path of a task file; either this or `data`.
        data: Own questions: .csv, .jsonl or .parquet, or a folder of such files, with the columns
            question and answer, and if wanted aliases, group and id.
        split: Split of the task to probe.
        shot_split: Split that shots are drawn from; train if not given, or the split probed where
            the task has no train.
        limit: Probe so many questions of the split, drawn; all if not given.
        prompts: Few-shot prompts that each question is asked behind; without shots all would be
            alike, and there is one.
        shots: Answered questions in each prompt; if not given 4, for multiple choice 0.
        mode: exact computes the probability of a correct answer, sampled generates answers and
            counts the correct ones; open-ended only, multiple choice is always exact.
        samples: Answers behind each prompt: drawn if sampled, assumed if exact.
        temperature: Temperature of the sampled answers.
        top_k: Most probable tokens that an answer is sampled from, 0 for all.
        max_new_tokens: Longest sampled answer in tokens, its end included.
        seed: Of the draws of prompts, questions and samples.
        prompt: Prompt preset, ``+chat`` behind it for the model's chat template.
        output: Folder of the results; runs/probe-MODEL-TASK if not given.
        data_dir: Folder of local data sets.
        engine: local is this process, or those of accelerate launch; ray are workers of Ray, which
            leave a folder of Parquet files, one a partition.
        workers: Workers of Ray, each with the model; one for each GPU if not given, or one.
        partition: Questions whose groups are brought together, and that go into one file.

    Raises:
        ValueError: If something is out of range, or does not go together.
    """

    task: str | None = None
    data: Path | None = None
    split: str = "train"
    shot_split: str | None = None
    limit: int | None = None
    prompts: int = 10
    shots: int | None = None
    mode: str = PAPER.mode
    samples: int = PAPER.samples
    temperature: float = PAPER.temperature
    top_k: int = PAPER.top_k
    max_new_tokens: int = PAPER.max_new_tokens
    seed: int = PAPER.seed
    prompt: str = PRESETS[0]
    output: Path | None = None
    data_dir: Path | None = None
    engine: str = LOCAL
    workers: int | None = None
    partition: int = PARTITION

    def __post_init__(self) -> None:
        BackendSpec.__post_init__(self)
        if (self.task is None) == (self.data is None):
            raise ValueError("either task or data must be given, and not both")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}")
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}")
        if self.endpoint is not None and self.engine == RAY:
            raise ValueError(
                "engine must be local with an endpoint, which is asked by one process; concurrency "
                "says how much at once"
            )
        if self.workers is not None and self.engine != RAY:
            raise ValueError("workers are Ray's: they need engine ray")
        for name, value in (("workers", self.workers), ("partition", self.partition)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    @property
    def settings(self) -> SlickSettings:
        """How to ask.

        Raises:
            ValueError: If a number is out of range or the mode unknown.
        """
        names = [field.name for field in fields(SlickSettings) if field.name != "progress"]
        return SlickSettings(**{name: getattr(self, name) for name in names})

    @property
    def decisive(self) -> dict[str, Any]:
        """The fields that decide the results, as YAML has them."""
        others = REMOTE if self.endpoint is None else HERE
        chosen = {name: getattr(self, name) for name in _DECISIVE if name not in others}
        return {k: str(value) if isinstance(value, Path) else value for k, value in chosen.items()}

    @property
    def folder(self) -> Path:
        """Where the results go."""
        if self.output is not None:
            return self.output
        asked = Path(self.task).stem if self.task and self.task.endswith(".yaml") else self.task
        words = (self.adapter or self.model, asked or (self.data or Path()).stem)
        return Path("runs") / "-".join(("probe", *(re.sub(r"[^\w.]+", "-", w) for w in words)))
