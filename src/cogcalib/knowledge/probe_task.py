"""The settings of a probe: a model, questions, how to ask them, and where the results go."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cogcalib.knowledge.settings import EXACT
from cogcalib.records import DTYPES, PRESETS

PARTITION = 4096
"""Questions in a partition."""

LOCAL, RAY = ENGINES = ("local", "ray")

TRANSFORMERS, VLLM = WORKERS = ("transformers", "vllm")

VLLM_DTYPES = ("float32", "bfloat16", "float16")
"""Number formats that vLLM has; with an adapter not float32."""

SHOTS = 4
"""Shots of an open-ended question, if nothing is said; multiple choice is asked zero-shot."""

_NOT_SETTINGS = ("output", "batch_size", "data_dir", "engine", "workers")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeTask:
    """What `probe_task` is asked for.

    Each text under Attributes is the help of the option of ``cogcalib probe``.

    Attributes:
        model: A folder, a hub id, or atlas.
        task: Name of a task, or the path of a task file; either this or `data`.
        data: Own questions: .csv, .jsonl or .parquet, or a folder of such files, with the columns
            question and answer, and if wanted aliases, group and id.
        adapter: Folder or hub id of a PEFT adapter on top of the model.
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
        batch_size: Most sequences in one forward pass; as many as fit if not given.
        dtype: Number format of the weights.
        four_bit: Weights in 4 bits (bitsandbytes).
        worker: Engine of the model; vllm is experimental and gives no entropy. It decides the last
            digits.
        engine: local is this process, or those of accelerate launch; ray are workers of Ray, which
            leave a folder of Parquet files, one a partition.
        workers: Workers of Ray, each with the model; one for each GPU if not given, or one.
        partition: Questions whose groups are brought together, and that go into one file.

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
    worker: str = TRANSFORMERS
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
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.worker not in WORKERS:
            raise ValueError(f"worker must be one of {', '.join(WORKERS)}, got {self.worker!r}")
        if self.worker == VLLM:
            self._check_vllm()
        if self.workers is not None and self.engine != RAY:
            raise ValueError("workers are Ray's: they need engine ray")
        for name, value in (("workers", self.workers), ("partition", self.partition)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def _check_vllm(self) -> None:
        if self.four_bit:
            raise ValueError("four_bit needs worker transformers: vLLM quantises in other ways")
        if self.dtype not in VLLM_DTYPES:
            raise ValueError(
                f"dtype must be one of {', '.join(VLLM_DTYPES)} with worker vllm, "
                f"got {self.dtype!r}"
            )
        if self.adapter is not None and self.dtype == "float32":
            raise ValueError(
                "dtype must be bfloat16 or float16 for an adapter with worker vllm, which computes "
                "adapters in half precision, got 'float32'"
            )

    @property
    def decisive(self) -> dict[str, Any]:
        """The fields that decide the results, as YAML has them."""
        chosen = {key: value for key, value in asdict(self).items() if key not in _NOT_SETTINGS}
        return {k: str(value) if isinstance(value, Path) else value for k, value in chosen.items()}

    @property
    def folder(self) -> Path:
        """Where the results go."""
        if self.output is not None:
            return self.output
        asked = Path(self.task).stem if self.task and self.task.endswith(".yaml") else self.task
        words = (self.adapter or self.model, asked or (self.data or Path()).stem)
        return Path("runs") / "-".join(("probe", *(re.sub(r"[^\w.]+", "-", w) for w in words)))
