"""What a probe is asked for: a model, questions, how to ask them, and where the results go."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cogcalib.inference.vllm_model import DTYPES as VLLM_DTYPES
from cogcalib.knowledge.settings import EXACT
from cogcalib.modeling import DTYPES
from cogcalib.records import PRESETS

PARTITION = 4096
"""Questions in a partition."""

LOCAL, RAY = ENGINES = ("local", "ray")

TRANSFORMERS, VLLM = WORKERS = ("transformers", "vllm")

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
            open-ended questions and none for multiple choice. Without shots all prompts would be
            alike, and there is one, whatever `prompts` says.
        mode, samples, temperature, top_k, max_new_tokens, batch_size: As in `SlickSettings`.
        seed: Of the drawing of prompts, questions and samples.
        prompt: Prompt preset.
        output: Folder of the results; None names one below ``runs`` after model and task.
        data_dir: Folder of local data sets.
        dtype, four_bit: As in `load_model`.
        worker: What the model runs in, ``transformers`` or ``vllm``. It decides the last digits,
            and vLLM gives no entropy.
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
