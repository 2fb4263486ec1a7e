"""The records beside a saved model: `calibration.json`, `trained_on.txt`, `base_model.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.logging import get_logger
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
from cogcalib.deployment.seen_questions import question_hash, set_hash, write_seen
from cogcalib.deployment.split_metrics import confidence_histogram, reliability_bins
from cogcalib.losses import NO_OPTION
from cogcalib.modeling.adapters import record_base
from cogcalib.modeling.encoding import IGNORED
from cogcalib.modeling.model_files import fingerprint, public_name
from cogcalib.training.answering import Origin
from cogcalib.training.collator import OPTION_IDS
from cogcalib.training.config import CogCalibConfig
from cogcalib.training.measured_answers import MeasuredAnswers
from cogcalib.training.packing import LENGTHS, examples

logger = get_logger(__name__)
UNNAMED = "unnamed"
"""Name of a model that was made in memory."""
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
        split: Name of the calibration split.
        origin: Where the questions come from, as far as it is known.
    """

    def __init__(
        self,
        args: CogCalibConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        base: str,
        adapter: bool,
        train: Dataset,
        calibration: Dataset | None,
        split: str,
        origin: Origin,
    ) -> None:
        self._tokenizer, self._split, self._method = tokenizer, split, describe_method(args)
        self._answers = describe_answers(train, tokenizer, origin.preset)
        self._trained_on = frozenset(question_hashes(train, tokenizer))
        self._calibrated_on = [] if calibration is None else question_hashes(calibration, tokenizer)
        self._name = origin.name
        self._tasks: dict[str, Any] = {"tasks": list(origin.tasks)} if origin.tasks else {}
        if base and not adapter:  # of an adapter it is the model that the calibration is of
            self._tasks["base"] = public_name(base)
        self._of_base = _fingerprint(base) if adapter else None

    def write(self, folder: Path, measured: MeasuredAnswers | None, *, hashed: bool) -> None:
        """Write the records into a folder that the model was saved into.

        Args:
            folder: With the weights.
            measured: The calibration split, answered by the model as saved; None if it was not.
            hashed: Whether the weights of a model that was trained whole are hashed: not those of
                every checkpoint.
        """
        if self._of_base is not None and (self._of_base["sha256"] or self._of_base["commit"]):
            record_base(folder, self._of_base)
        write_seen(folder, self._trained_on)
        found = self._of_base or _fingerprint(str(folder), hashed=hashed)
        if self._of_base is None and self._name:
            found = {**found, "path": self._name}
        n_seen = {"n": len(self._trained_on), "sha256": set_hash(self._trained_on)}
        calibration = Calibration(
            model=self._identity(found),
            answers=self._answers,
            metrics=split_metrics(measured, self._calibrated_on, self._split),
            trained_on={**n_seen, **self._tasks},
            confidence_histogram=_histogram(measured),
            method=self._method,
        )
        write_calibration(folder, calibration)

    def _identity(self, found: Mapping[str, str | None]) -> ModelIdentity:
        name = public_name(str(found["path"])) if found["path"] else UNNAMED
        return ModelIdentity(
            name, found["sha256"], found["commit"], tokenizer_hash(self._tokenizer)
        )


def _fingerprint(model: str, *, hashed: bool = True) -> dict[str, str | None]:
    """What identifies a model, as far as it can be told: some have no files, or no more."""
    if model and hashed:
        try:
            return fingerprint(model)
        except (ValueError, OSError):  # nothing lies there, or the hub cannot be asked
            pass
    return {"path": model, "sha256": None, "commit": None}


def question_hashes(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """`question_hash` of every example of a prepared data set: of the tokens before the first
    supervised one, of a text without a prompt of all its tokens."""
    special = set(tokenizer.all_special_ids)
    found = []
    for ids, labels in examples(dataset):
        start = next((t for t, label in enumerate(labels) if label != IGNORED), len(labels))
        prompt = ids[:start]
        found.append(question_hash(prompt if set(prompt) - special else ids))
    return found


def describe_answers(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, preset: str | None
) -> AnswerFormat:
    """How the questions of a prepared data set are put and answered.

    Args:
        dataset: Training examples, packed or not.
        tokenizer: Theirs.
        preset: Prompt preset that worded them, if one did.
    """
    if OPTION_IDS in dataset.column_names:
        options = _shared_options(dataset, tokenizer)
        return AnswerFormat(OPTIONS, "options", preset=preset, options=options)
    supervised = [[i for i in labels if i != IGNORED] for _, labels in examples(dataset)]
    texts = tokenizer.batch_decode(supervised, skip_special_tokens=True)
    return AnswerFormat(
        OPEN_ENDED,
        "mean",
        preset=preset,
        max_new_tokens=max(SHORTEST, *map(len, supervised)),
        multiline=any("\n" in text.strip() for text in texts),
    )


def _shared_options(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...] | None:
    """The completions that every example's options are, in their order; None if they differ."""
    column = dataset[OPTION_IDS]
    rows = (row for rows in column for row in rows) if LENGTHS in dataset.column_names else column
    sets = {tuple(i for i in row or () if i != NO_OPTION) for row in rows}
    if len(sets) != 1 or () in sets:
        return None
    ids, labels = next(examples(dataset))
    # Behind the prompt's last token: by itself a token may lose the space that it begins with.
    before = ids[max(0, next(t for t, label in enumerate(labels) if label != IGNORED) - 1)]
    start = str(tokenizer.decode([before]))
    texts = [str(tokenizer.decode([before, option])) for option in next(iter(sets))]
    return tuple(text.removeprefix(start) for text in texts)


def describe_method(args: CogCalibConfig) -> str:
    """How a model was trained, in a line; the arguments are settled."""
    if args.gate == "none":
        return "fine-tuning, gate none"
    return f"{args.penalty}, support {args.support}, alpha {args.alpha}, gate {args.gate}"


def split_metrics(
    answers: MeasuredAnswers | None, hashes: Sequence[str], split: str
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
    return (SplitMetrics(split, *of_questions, raw, raw_bins=bins),)


def _histogram(answers: MeasuredAnswers | None) -> tuple[float, ...]:
    """Shares of the confidences by bin; empty where there are none."""
    if answers is None or not np.isfinite(answers.confidence).all():
        return ()
    return confidence_histogram(answers.confidence)
