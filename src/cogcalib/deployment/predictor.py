"""Predictions: a calibrated model that answers, or abstains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from cogcalib.deployment.access import ModelAccess
from cogcalib.deployment.answer import Answer
from cogcalib.deployment.calibrated import calibrate, restore
from cogcalib.deployment.calibration_file import (
    Calibration,
    ModelIdentity,
    read_calibration,
)
from cogcalib.deployment.identity import check_identity, warn_of_precision
from cogcalib.deployment.inputs import Question, check_inputs, to_questions
from cogcalib.deployment.opened import (
    FoundModel,
    calibration_folder,
    find_model,
    identify_model,
)
from cogcalib.deployment.raw_answers import ask, check_room
from cogcalib.inference.backend import Backend, Progress
from cogcalib.records import InputError

CHUNK = 512
"""Inputs of a stream that are asked at once: enough to make batches of like length."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """A model, and how its confidence is to be read.

    Attributes:
        backend: The model.
        calibration: Its calibration.
        identity: What the model is known by.
        folder: Where its `calibration.json` lies.
    """

    backend: Backend
    calibration: Calibration
    identity: ModelIdentity
    folder: Path

    def predict(
        self, inputs: Iterable[Any], *, target_error: float | None = None, progress: bool = False
    ) -> list[Answer]:
        """Answers to inputs of any kind that `to_questions` takes, in their order.

        Args:
            inputs: Prompts, conversations and questions, all of which are checked before any is
                asked.
            target_error: Obey the recorded rule with this target (a fraction) instead of the one
                in force.
            progress: Show a bar on stderr.

        Raises:
            RefusedInput: Naming the index of an input that cannot be asked, or is too long.
            InputError: If there is no such rule, naming those there are.
        """
        calibration = self.obeying(target_error)
        questions = self.questions(inputs)
        with _bar(len(questions) if progress else None) as told:
            return calibrate(
                ask(self.backend, questions, self.calibration.answers, told), calibration
            )

    def stream(
        self,
        inputs: Iterable[Any],
        *,
        target_error: float | None = None,
        progress: bool = False,
        chunk: int = CHUNK,
    ) -> Iterator[Answer]:
        """`predict` for as many inputs as come, of which a chunk at a time is in memory.

        Args:
            inputs: Taken when they are needed. A wrong one is found when its chunk is reached.
            target_error: As `predict`.
            progress: As `predict`; how many there are in all is only known of what has a length.
            chunk: Inputs asked at once.

        Raises:
            InputError: As `predict`, or if `chunk` is not positive.
        """
        if chunk < 1:
            raise InputError(f"chunk must be at least 1, got {chunk}")
        calibration = self.obeying(target_error)
        check_inputs(inputs)
        return self._stream(inputs, calibration, progress, chunk)

    def questions(self, inputs: Iterable[Any], *, first: int = 0) -> list[Question]:
        """Inputs as tokens, `first` the index of the first one; raises as `predict`."""
        answers = self.calibration.answers
        questions = to_questions(inputs, self.backend.tokenizer, answers, first=first)
        check_room(questions, self.backend.positions, answers.max_new_tokens, first)
        return questions

    def obeying(self, target_error: float | None) -> Calibration:
        """The calibration with the rule for a target in force; see `obeying`."""
        return obeying(self.calibration, target_error)

    def _stream(
        self, inputs: Iterable[Any], calibration: Calibration, progress: bool, chunk: int
    ) -> Iterator[Answer]:
        total = len(inputs) if isinstance(inputs, Sized) else -1
        first, coming = 0, iter(inputs)
        with _bar(total if progress else None) as told:
            while part := list(islice(coming, chunk)):
                questions = self.questions(part, first=first)
                moved: Progress | None = told and partial(_ahead, told, first)
                raw = ask(self.backend, questions, calibration.answers, moved, first=first)
                yield from calibrate(raw, calibration, first=first)
                first += len(part)


def load(
    path: str | Path,
    *,
    calibration: str | Path | Calibration | None = None,
    base: str | None = None,
    dtype: str = "auto",
    four_bit: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    endpoint: str | None = None,
    served_name: str | None = None,
    tokenizer: str | None = None,
    api_key_env: str | None = None,
    concurrency: int | None = None,
    timeout: float | None = None,
    top_logprobs: int | None = None,
) -> Predictor:
    """Open a calibrated model to be asked.

    Args:
        path: Folder of an adapter or of a whole model, or a hub id; `calibration.json` lies there.
        calibration: Folder that has it instead, or the calibration itself.
        base: Of an adapter; if not given, the model that its files name.
        dtype: As `cogcalib.modeling.load_model`; ``auto`` is the format that the model was
            calibrated in, else that of the stored weights.
        four_bit, device, batch_size: As `cogcalib.modeling.load_model`.
        endpoint, served_name: Address of an OpenAI-compatible server to ask instead of loading the
            model, and what it calls the model.
        tokenizer, api_key_env, concurrency, timeout, top_logprobs: Of the endpoint, see
            `ModelAccess`.

    Raises:
        ValueError: If the model is not there, has no calibration, or one that was made with
            another model or tokenizer; an adapter's base is not there; or as `load_model`.
        EndpointError: If the endpoint does not answer.
    """
    access = ModelAccess(
        base=base,
        dtype=dtype,
        four_bit=four_bit,
        device=device,
        batch_size=batch_size,
        endpoint=endpoint,
        served_name=served_name,
        tokenizer=tokenizer,
        api_key_env=api_key_env,
        concurrency=concurrency,
        timeout=timeout,
        top_logprobs=top_logprobs,
    )
    return open_predictor(path, access, calibration)


def open_predictor(
    path: str | Path,
    access: ModelAccess,
    calibration: str | Path | Calibration | None = None,
    check: Callable[[Calibration, FoundModel], None] | None = None,
) -> Predictor:
    """`load` with the way to ask in one object; raises as it.

    Args:
        path, calibration: As `load` takes them.
        access: The way to the model.
        check: Called before any weights are read, with what will be obeyed and asked.
    """
    saved = find_model(path)
    if isinstance(calibration, Calibration):
        folder, read = saved.folder or Path(), calibration
    else:
        folder = Path(calibration) if calibration is not None else calibration_folder(saved)
        read = read_calibration(folder)
    if read.map is not None:
        restore(read.map)
    found = identify_model(saved, access, read)
    check_identity(read, found.identity, folder)
    warn_of_precision(read, found.precision)
    if check is not None:
        check(read, found)
    opened = found.load()
    return Predictor(opened.backend, read, opened.identity, folder)


def obeying(calibration: Calibration, target_error: float | None) -> Calibration:
    """A calibration with the rule for a target in force; as it is if there is no target.

    Raises:
        InputError: If no rule has that target, naming those there are.
    """
    if target_error is None:
        return calibration
    for rule in calibration.rules:
        if abs(rule.target_error - target_error) < 1e-9:
            return replace(calibration, rules=(rule,))
    there = ", ".join(f"{rule.target_error:g}" for rule in calibration.rules)
    raise InputError(
        f"target_error must be one that calibration.json records, {there}, got {target_error}"
        if there
        else f"target_error {target_error}: calibration.json records no abstention rule; "
        "`cogcalib guard` makes one"
    )


def _ahead(told: Progress, first: int, done: int) -> None:
    told(first + done)


@contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr that is gone in the end; nothing if there is no total, open if negative."""
    if total is None:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("predict", total=total if total >= 0 else None)
        yield lambda done: bars.update(bar, completed=done)
