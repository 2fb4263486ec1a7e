"""A short training and one scored batch of a plan's first run folder, timed."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from cogcalib.harness.config import Config, Method, parse_config
from cogcalib.harness.reproduce.cell import device
from cogcalib.harness.reproduce.measured_rates import MeasuredRates
from cogcalib.harness.reproduce.plan import Place, Plan
from cogcalib.harness.stages import load_tasks
from cogcalib.harness.stages.train import train_into
from cogcalib.modeling import encode_batch, load_model
from cogcalib.records import Example, ProbeRecord
from cogcalib.scoring import ScoreSettings
from cogcalib.scoring import score as score_examples

GATED, PLAIN = 20, 2
"""Steps that are timed, and those of the style phase before."""
CALIBRATION, SCORED = 128, 64
"""Questions for the threshold, and of a scored batch where the configuration names no size."""


def measure(plan: Plan, folder: Path, data_dir: Path | None = None) -> MeasuredRates:
    """Train 20 gated steps, load what was trained, score a batch.

    Args:
        plan: Its first run folder with rows is measured.
        folder: An empty folder for what is trained.
        data_dir: Folder of local data sets.

    Raises:
        ValueError, OSError, RuntimeError: Whatever would end a cell.
    """
    place = plan.shown()[0]
    config, method = _short(place), _gated(place)
    task, _ = load_tasks(config, data_dir)
    wanted = (GATED + PLAIN) * config.train.batch_size * config.train.gradient_accumulation
    splits = {
        "train": task.splits["train"][:wanted],
        "calibration": task.splits["calibration"][: 2 * CALIBRATION],
    }
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    clock = _Clock()
    output = folder / "trained"
    # Labels are for a gate that is not taken here; a training asks for some.
    labels = {each.id: ProbeRecord(each.id, "unknown", 0.0, 0.0, 0.0) for each in splits["train"]}
    train_into(output, config, method, 0, splits, labels, lambda _: clock.tick)
    started = time.perf_counter()
    model, tokenizer = load_model(
        config.model.path if config.model.lora else output,
        adapter=output if config.model.lora else None,
        **config.model.loading(trained=config.model.lora is None),
    )
    _wait()
    load = time.perf_counter() - started
    questions = task.splits["test"][: config.score.batch_size or SCORED]
    settings = ScoreSettings(batch_size=config.score.batch_size)
    score_examples(model, tokenizer, questions[:2], settings)  # what is only done once
    started = time.perf_counter()
    score_examples(model, tokenizer, questions, settings)
    _wait()
    scored = time.perf_counter() - started
    host = _host_peak()
    return MeasuredRates(
        model=config.model.path,
        task=task.name,
        device=device(),
        dtype=config.model.dtype,
        adapter=config.model.lora is not None,
        load=round(load, 3),
        step=round(median(clock.steps()), 5),
        step_tokens=_tokens(splits["train"], tokenizer, answers=True) / (GATED + PLAIN),
        scored=round(scored, 4),
        scored_questions=len(questions),
        scored_tokens=_tokens(questions, tokenizer, answers=False),
        saved=sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
        memory=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else host,
        host=host,
    )


def _short(place: Place) -> Config:
    """The configuration of a place with so few steps; most of them estimate no threshold."""
    values = place.config.model_dump(mode="json")
    values["train"] |= {
        "steps": GATED + PLAIN,
        "epochs": None,
        "style_steps": PLAIN,
        "threshold_every": GATED // 4,
        "save_every": None,
    }
    return parse_config(json.dumps(values), source="--check")


def _gated(place: Place) -> Method:
    """A row with the method's gate and a constant alpha; CoLS where the table has none."""
    for name in map(Method.parse, place.methods):
        plain = name.before_posthoc
        if plain.gate == "nll" and not name.baseline and not isinstance(plain.alpha, str):
            return plain
    return Method.parse("cols")


class _Clock:
    """The end of each optimiser step, when the device has done it."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def tick(self, done: int) -> None:
        _wait()
        self.ends.append(time.perf_counter())

    def steps(self) -> list[float]:
        """Seconds of the gated steps but the first; their median is one without an estimate."""
        ends = self.ends[PLAIN:]
        return [after - before for before, after in pairwise(ends)]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _tokens(examples: list[Example], tokenizer: Any, *, answers: bool) -> int:
    count: Callable[[Any], int] = (
        (lambda each: len(each.prompt_ids) + len(each.answer_ids))
        if answers
        else (lambda each: len(each.prompt_ids))
    )
    return sum(map(count, encode_batch(examples, tokenizer)))


def _host_peak() -> int:
    """Bytes; Linux counts KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
