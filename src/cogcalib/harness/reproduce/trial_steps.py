"""Two short trainings and one scored batch of the run folder with the most tokens, timed."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from cogcalib.harness.config import Config, Method, parse_config
from cogcalib.harness.reproduce.cell import device
from cogcalib.harness.reproduce.measured_rates import MeasuredRates
from cogcalib.harness.reproduce.plan import Place, Plan
from cogcalib.harness.reproduce.specs import is_open_ended
from cogcalib.harness.stages import load_tasks
from cogcalib.harness.stages.shared_files import share_tokenizer
from cogcalib.harness.stages.train import train_into
from cogcalib.modeling import encode_batch, load_model
from cogcalib.records import Example, ProbeRecord
from cogcalib.scoring import ScoreSettings
from cogcalib.scoring import score as score_examples

GATED, LONG, PLAIN = 20, 4, 2
"""Steps that are timed, over rows as they come and over the longest; of the style phase before."""
CALIBRATION, SCORED = 128, 64
"""Questions for the threshold, and of a scored batch where the configuration names no size."""


def measure(plan: Plan, folder: Path, data_dir: Path | None = None) -> MeasuredRates:
    """Train 20 gated steps, a few over the longest rows, load what was trained, score a batch.

    Args:
        plan: The run folder of its model with the most tokens a question is measured.
        folder: An empty folder for what is trained.
        data_dir: Folder of local data sets.

    Raises:
        ValueError, OSError, RuntimeError: Whatever would end a cell.
    """
    place = _longest_place(plan)
    task, _ = load_tasks(place.config, data_dir)
    size = place.config.train.batch_size
    calibration = task.splits["calibration"][: 2 * CALIBRATION]
    rows = task.splits["train"][: (GATED + PLAIN) * size]
    long = _longest(task.splits["train"], size)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    output, further = folder / "trained" / "short", folder / "trained" / "long"
    step = _step(place, output, {"train": rows, "calibration": calibration}, GATED)
    splits = {"train": long, "calibration": calibration[:16]}
    long_step = _step(place, further, splits, LONG)
    share_tokenizer(further)
    config = place.config
    started = time.perf_counter()
    model, tokenizer = load_model(
        config.model.path if config.model.lora else output,
        adapter=output if config.model.lora else None,
        **config.model.loading(trained=config.model.lora is None),
    )
    _wait()
    load = time.perf_counter() - started
    questions = _longest(task.splits["test"], config.score.batch_size or SCORED)
    # On a GPU the budget of tokens grows from batch to batch; one batch is one here.
    one = len(questions) if torch.cuda.is_available() else None
    settings = ScoreSettings(batch_size=config.score.batch_size or one)
    score_examples(model, tokenizer, questions[:2], settings)  # what is only done once
    started = time.perf_counter()
    score_examples(model, tokenizer, questions, settings)
    _wait()
    scored = time.perf_counter() - started
    if generated := next((each for each in plan.shown() if is_open_ended(each.config)), None):
        other, _ = load_tasks(generated.config, data_dir)
        score_examples(model, tokenizer, other.splits["test"][:1], settings)
    host = _host_peak()
    return MeasuredRates(
        model=config.model.path,
        task=task.name,
        device=device(),
        dtype=config.model.dtype,
        adapter=config.model.lora is not None,
        load=round(load, 3),
        step=round(step, 5),
        step_tokens=sum(_tokens(rows, tokenizer, answers=True)) / (GATED + PLAIN),
        long_step=round(long_step, 5),
        long_tokens=len(long) * max(_tokens(long, tokenizer, answers=True)),
        scored=round(scored, 4),
        scored_questions=len(questions),
        scored_tokens=sum(_tokens(questions, tokenizer, answers=False)),
        saved=_own_bytes(further),
        memory=_device_peak(host),
        host=host,
        checkpointing=config.train.gradient_checkpointing,
    )


def _longest_place(plan: Plan) -> Place:
    """The run folder of the plan's own model that trains on the longest questions, on average."""
    here = [place for place in plan.shown() if place.path.parent == plan.places[0].path.parent]
    return max(here, key=lambda each: plan.preset_of(each).tokens_of(each.config.tasks.train))


def _longest(examples: Sequence[Example], number: int) -> list[Example]:
    """So many of the longest of some questions, by their letters."""

    def letters(each: Example) -> int:
        options = sum(len(option.text) for option in each.options or ())
        return len(each.context) + len(each.prompt) + options + len(each.answer)

    return sorted(examples, key=letters)[-number:]


def _step(place: Place, output: Path, splits: dict[str, list[Example]], gated: int) -> float:
    """Seconds of one pass forward and back of a training of so many gated steps."""
    clock = _Clock()
    # Labels are for a gate that is not taken here; a training asks for some.
    labels = {each.id: ProbeRecord(each.id, "unknown", 0.0, 0.0, 0.0) for each in splits["train"]}
    config = _short(place, gated)
    with _unwarned():
        train_into(output, config, _gated(place), 0, splits, labels, lambda _: clock.tick)
    return median(clock.steps())


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without the trainer's advice, which is for trainings that are meant."""
    logger = logging.getLogger("cogcalib.training")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _short(place: Place, gated: int) -> Config:
    """The configuration of a place with so few steps; most of them estimate no threshold."""
    values = place.config.model_dump(mode="json")
    values["train"] |= {
        "steps": gated + PLAIN,
        "epochs": None,
        "gradient_accumulation": 1,
        "style_steps": PLAIN,
        "threshold_every": max(gated // 4, LONG),
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


def _own_bytes(folder: Path) -> int:
    """Of the files that are nobody else's."""
    found = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum(each.st_size for each in found if each.st_nlink == 1)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _tokens(examples: list[Example], tokenizer: Any, *, answers: bool) -> list[int]:
    count: Callable[[Any], int] = (
        (lambda each: len(each.prompt_ids) + len(each.answer_ids))
        if answers
        else (lambda each: len(each.prompt_ids))
    )
    return list(map(count, encode_batch(examples, tokenizer)))


def _device_peak(host: int) -> int:
    """Bytes that torch has taken of the device, in use or not: a share of it limits these."""
    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else host


def _host_peak() -> int:
    """Bytes; Linux counts KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
