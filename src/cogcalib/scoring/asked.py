"""The settings of a scoring: model, task and everything that changes the result, by name."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from cogcalib.inference.endpoint_client import Endpoint
from cogcalib.records import PRESETS
from cogcalib.scoring.definitions import LETTER
from cogcalib.scoring.settings import DEFAULTS


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreTask:
    """What `score_task` is asked for.

    Each text under Attributes is the help of the option of ``cogcalib score``.

    Attributes:
        model: A folder, a hub id, or atlas; with an endpoint the name it serves.
        task: Its name, or the path of a task file.
        adapter: Folder or hub id of a PEFT adapter on top of the model.
        split: Split of the task.
        output: File to write the predictions to, ``.jsonl`` or ``.parquet``; what they were made
            with goes beside it, into ``<output>.record.json``.
        data_dir: Folder of local data sets.
        prompt: Prompt preset, ``+chat`` behind it for the model's chat template.
        answer: What is answered with: an option's letter, its label of several tokens, or its text.
        batch_size: Most sequences in one forward pass; as many as fit if not given.
        shots: Answered questions before each: the same before all, and never the one asked.
        shot_split: Split that they are drawn from.
        limit: Score so many questions of the split, drawn; all if not given.
        seed: Of both draws.
        max_new_tokens: Longest open-ended answer, in tokens.
        dtype: Number format of the weights.
        four_bit: Weights in 4 bits (bitsandbytes).
        endpoint: Address of a server to ask instead of loading a model, such as
            http://localhost:8000/v1.
        tokenizer: Folder or hub id of the tokenizer of the endpoint's model; that of `model` if not
            given.
        api_key_env: Environment variable of the key; OPENAI_API_KEY if not given.
        concurrency: Requests at once; 8 if not given.
        timeout: Seconds to wait for an answer; 120 if not given.
        top_logprobs: How many most probable tokens are asked for; 20 if not given.

    Raises:
        ValueError: If something is asked for that goes only with an endpoint or only without, or a
            number is out of range.
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
    shots: int = 0
    shot_split: str = "train"
    limit: int | None = None
    seed: int = 0
    max_new_tokens: int = DEFAULTS.max_new_tokens
    dtype: str = "float32"
    four_bit: bool = False
    endpoint: str | None = None
    tokenizer: str | None = None
    api_key_env: str | None = None
    concurrency: int | None = None
    timeout: float | None = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        where, names = ("without", _REMOTE) if self.endpoint is None else ("with", _LOCAL)
        default = {field.name: field.default for field in fields(self)}
        if given := [name for name in names if getattr(self, name) != default[name]]:
            raise ValueError(f"{given[0]} cannot be used {where} an endpoint")
        if self.shots < 0:
            raise ValueError(f"shots must be at least 0, got {self.shots}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}")

    def server(self) -> Endpoint | None:
        """The endpoint to ask, None if a model is to be loaded.

        Raises:
            ValueError: As `Endpoint`, or if the environment variable that was named is not set.
        """
        if self.endpoint is None:
            return None
        if self.api_key_env is not None and not os.environ.get(self.api_key_env):
            raise ValueError(f"api_key_env: the environment variable {self.api_key_env} is not set")
        given = {name: getattr(self, name) for name in _REMOTE if name != "tokenizer"}
        chosen = {name: value for name, value in given.items() if value is not None}
        return Endpoint(url=self.endpoint, model=self.model, **chosen)


_LOCAL = ("adapter", "four_bit", "dtype", "batch_size")
_REMOTE = ("tokenizer", "api_key_env", "concurrency", "timeout", "top_logprobs")
