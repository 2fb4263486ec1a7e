"""The records beside a saved model: `calibration.json`, `trained_on.txt`, `base_model.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from cogcalib.deployment.calibration_file import (
    OPEN_ENDED,
    OPTIONS,
    AnswerFormat,
    Calibration,
    ModelIdentity,
    SplitMetrics,
    tokenizer_hash,
    write_calibration,
)
from cogcalib.deployment.seen_questions import CALIBRATED_ON, set_hash, write_seen
from cogcalib.deployment.split_metrics import confidence_histogram, reliability_bins
from cogcalib.losses import NO_OPTION
from cogcalib.modeling.adapters import adapter_hash, record_base, sort_targets
from cogcalib.modeling.encoding import IGNORED
from cogcalib.modeling.model_files import ADAPTER, fingerprint, public_name
from cogcalib.training.collator import OPTION_IDS
from cogcalib.training.config import CogCalibConfig
from cogcalib.training.dataset_checks import hashes_of_asked
from cogcalib.training.logs import get_logger
from cogcalib.training.measured_answers import MeasuredAnswers
from cogcalib.training.option_ids import shared_options
from cogcalib.training.packing import LENGTHS, examples
from cogcalib.training.row_questions import decode_options
from cogcalib.training.supervision import competing_start, has_prompt

logger = get_logger(__name__)
SPLIT = "calibration"
"""Name of the calibration split."""
UNNAMED = "unnamed"
"""Name of a model that was made in memory."""
_NOWHERE: Mapping[str, str | None] = {"path": None, "sha256": None, "commit": None}
SHORTEST = 32
"""Tokens that a generated answer may have at least, however short those trained on are."""


class ModelRecords:
    """What lies beside every model that one trainer saves; what is costly is computed once.

    Args:
        args: Settled arguments of the training.
        tokenizer: Its tokenizer.
        base: Folder or hub id of the model that was trained; empty where it has none.
        adapter: Whether an adapter is trained on it.
        train: Prepared training examples.
        calibration: Prepared calibration examples, if any.
        choice: Prepared examples that the model is chosen by, if any.
        split_off: Whether these were split off the training set.
        options: What every training example chooses from, as it was given; None if it was not,
            or they differ.
        preset: Prompt preset that worded the questions, if one did.
        tasks: Names of the tasks that they are from, as far as they are known.
        name: Of a model trained whole; empty: that of the folder it is saved into.
        precision: Number format of the training, as `Calibration.precision`.
    """

    def __init__(
        self,
        args: CogCalibConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        base: str,
        revision: str | None = None,
        adapter: bool,
        train: Dataset,
        calibration: Dataset | None,
        choice: Dataset | None,
        split_off: bool,
        options: tuple[str, ...] | None,
        preset: str | None,
        tasks: Sequence[str],
        name: str,
        precision: str,
    ) -> None:
        self._tokenizer, self._method = tokenizer, describe_method(args)
        self._answers = describe_answers(train, tokenizer, options, preset)
        self._trained_on = frozenset(hashes_of_asked(train, tokenizer))
        self._calibrated_on = [] if calibration is None else hashes_of_asked(calibration, tokenizer)
        chosen_by = [] if choice is None else hashes_of_asked(choice, tokenizer)
        self._looked_at = frozenset([*self._calibrated_on, *chosen_by])
        self._name, self._precision = name, precision
        self._more: dict[str, Any] = {"tasks": list(tasks)} if tasks else {}
        if base and not adapter:  # of an adapter it is the model that the calibration is of
            self._more["base"] = public_name(base)
        if split_off:
            self._more["split_off"] = len(set(self._calibrated_on))
        self._of_base = _fingerprint(base, revision) if adapter else None

    def write(self, folder: Path, measured: MeasuredAnswers | None) -> None:
        """Write the records into a folder that the model was saved into.

        Args:
            folder: With the weights.
            measured: The calibration split, answered by the model as saved; None if it was not.
        """
        of_base, adapter = self._of_base, None
        if of_base is not None:
            if (folder / ADAPTER[0]).is_file():
                sort_targets(folder)
            adapter = adapter_hash(folder)
        if of_base is not None and (of_base["sha256"] or of_base["commit"]):
            record_base(folder, of_base)
        write_seen(folder, self._trained_on)
        write_seen(folder, self._looked_at, CALIBRATED_ON)
        if of_base is None:
            own = _fingerprint(str(folder))
            of_base = {**own, "path": self._name or own["path"]}
        made = self.calibration(of_base, measured)
        write_calibration(folder, replace(made, model=replace(made.model, adapter=adapter)))

    def calibration(
        self,
        model: Mapping[str, str | None] | None = None,
        measured: MeasuredAnswers | None = None,
    ) -> Calibration:
        """The calibration of a model, in memory without a fingerprint."""
        model = model or self._of_base or _NOWHERE
        seen = {"n": len(self._trained_on), "sha256": set_hash(self._trained_on)}
        looked_at = {"n": len(self._looked_at), "sha256": set_hash(self._looked_at)}
        return Calibration(
            model=self._identity(model),
            answers=self._answers,
            metrics=split_metrics(measured, self._calibrated_on),
            trained_on={**seen, **self._more},
            calibrated_on=looked_at,
            confidence_histogram=_histogram(measured),
            method=self._method,
            precision=self._precision,
        )

    def _identity(self, found: Mapping[str, str | None]) -> ModelIdentity:
        name = public_name(str(found["path"])) if found["path"] else UNNAMED
        return ModelIdentity(
            name, found["sha256"], found["commit"], tokenizer_hash(self._tokenizer)
        )


def _fingerprint(model: str, revision: str | None = None) -> dict[str, str | None]:
    """What identifies a model, as far as it can be told: some have no files, or no more."""
    if model:
        try:
            return fingerprint(model, revision)
        except (ValueError, OSError):  # nothing lies there, or the hub cannot be asked
            pass
    return {**_NOWHERE, "path": model}


def describe_answers(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    options: tuple[str, ...] | None,
    preset: str | None,
) -> AnswerFormat:
    """How the questions of a prepared data set are put and answered.

    Args:
        dataset: Training examples, packed or not.
        tokenizer: Theirs.
        options: As all examples gave them; None: read off their tokens.
        preset: Prompt preset that worded them, if one did.
    """
    if OPTION_IDS in dataset.column_names:
        options = options or _read_options(dataset, tokenizer)
        return AnswerFormat(OPTIONS, "options", preset=preset, options=options)
    answers = _last_answers(dataset)
    return AnswerFormat(
        OPEN_ENDED,
        "mean",
        preset=preset,
        max_new_tokens=max([SHORTEST, *map(len, answers)]),
        multiline=_has_lines(answers, tokenizer),
    )


def _read_options(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...] | None:
    """The completions that all examples choose from, read off their tokens; None if they differ."""
    column = dataset[OPTION_IDS]
    rows = (row for rows in column for row in rows) if LENGTHS in dataset.column_names else column
    shared = shared_options([i for i in row or () if i != NO_OPTION] for row in rows)
    if shared is None:
        return None
    ids, labels = next(examples(dataset))
    start = competing_start(labels, "turn") or 1
    return decode_options(ids[start - 1], shared, tokenizer)


def _last_answers(dataset: Dataset) -> list[list[int]]:
    """The tokens of the last answer of each example that has a prompt."""
    found = []
    for _, labels in examples(dataset):
        start = competing_start(labels, "turn")
        if has_prompt(labels) and start is not None:
            found.append([token for token in labels[start:] if token != IGNORED])
    return found


def _has_lines(answers: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether an answer goes on behind a line break."""
    used = sorted({token for answer in answers for token in answer})
    breaks = {token for token in used if "\n" in str(tokenizer.decode([token]))}
    return any(
        "\n" in str(tokenizer.decode(answer, skip_special_tokens=True)).strip()
        for answer in answers
        if not breaks.isdisjoint(answer)
    )


def describe_method(args: CogCalibConfig) -> str:
    """How a model was trained, in a line; the arguments are settled."""
    if args.gate == "none":
        return "fine-tuning, gate none"
    return f"{args.penalty}, support {args.support}, alpha {args.alpha}, gate {args.gate}"


def split_metrics(
    answers: MeasuredAnswers | None, hashes: Sequence[str]
) -> tuple[SplitMetrics, ...]:
    """The metrics of a calibration split; none where nothing was measured or it has diverged."""
    if answers is None:
        return ()
    if not np.isfinite(answers.confidence).all():
        logger.warning("The calibration split was not measured: the model's logits are not finite.")
        return ()
    raw = {
        name: {"value": each.value, "low": each.low, "high": each.high}
        for name, each in answers.estimates().items()
    }
    bins = reliability_bins(answers.confidence, answers.correct)
    of_questions = len(answers.correct), set_hash(set(hashes))
    # With options the answer is read off one position, whatever follows.
    forced = answers.nll is None
    return (SplitMetrics(SPLIT, *of_questions, raw, raw_bins=bins, teacher_forced=forced),)


def _histogram(answers: MeasuredAnswers | None) -> tuple[float, ...]:
    """Shares of the confidences by bin; empty where there are none."""
    if answers is None or not np.isfinite(answers.confidence).all():
        return ()
    return confidence_histogram(answers.confidence)
