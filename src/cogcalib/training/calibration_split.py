"""A calibration split off the training set, by the hash of each question, where none is given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from cogcalib.modeling.encoding import IGNORED
from cogcalib.records import asked_text
from cogcalib.training.dataset_checks import Rows
from cogcalib.training.logs import get_logger
from cogcalib.training.text import ASSISTANTS

logger = get_logger(__name__)
FEWEST = 200
"""Different questions that a training set must have to be split."""
LEAST, MOST = 100, 2_000
"""Questions of the calibration split, whatever the share: fewer make a threshold that is mostly
noise, and more cost training examples and time without making it better."""


def split_calibration(
    train: Dataset, share: float, text_field: str | None, reason: str
) -> tuple[Dataset, Dataset, Rows]:
    """Training and calibration examples of one data set; the order of both is that of the rows.

    The questions with the smallest hashes become the calibration split: the same whatever the order
    of the rows, and all examples of one question on the same side. No random number is drawn.

    Args:
        train: The training set as given.
        share: Of the questions that are split off, a fraction; at least `LEAST` are, and at most
            `MOST`.
        text_field: Name of the column of plain text; None if a formatting function makes one.
        reason: Who needs the split, for messages.

    Returns:
        Both, and the rows of `train` that each has, for `numbered_as_given`.

    Raises:
        ValueError: If there are fewer than `FEWEST` different questions.
    """
    keys = [_hash(_question(row, text_field)) for row in train]
    different = sorted(set(keys))
    if len(different) < FEWEST:
        raise ValueError(
            f"{reason}, and train_dataset is too small for one to be split off: it has "
            f"{len(different)} different questions, {FEWEST} are needed; give a "
            "calibration_dataset, disjoint and in the same format"
        )
    wanted = min(max(round(share * len(different)), LEAST), MOST)
    chosen = set(different[:wanted])
    sides: tuple[list[int], list[int]] = ([], [])
    for index, key in enumerate(keys):
        sides[key in chosen].append(index)
    logger.warning(
        "%s, and none was given: %s of the %s examples of train_dataset are split off for it, by "
        "the hash of their questions, and are not trained on.",
        reason,
        len(sides[1]),
        len(train),
    )
    rows = dict(zip(("train", "calibration"), sides, strict=True))
    return train.select(sides[0]), train.select(sides[1]), rows


def _question(row: Mapping[str, Any], text_field: str | None) -> Any:
    """What is asked in a row, whatever the answer."""
    if "input_ids" in row:
        return row["input_ids"][: _prompt_length(row)] or row["input_ids"]
    if text_field is None:
        return row
    if "prompt" in row and "completion" in row:
        return row["prompt"]
    messages = row.get("messages") or row.get("conversations")
    if messages:
        roles = [turn.get("role") or turn.get("from") for turn in messages]
        first = next((n for n, role in enumerate(roles) if role in ASSISTANTS), len(roles))
        return messages[:first] or messages
    return row.get(text_field)


def _prompt_length(row: Mapping[str, Any]) -> int:
    """Tokens before the first that is learnt."""
    if "labels" in row:
        learnt: Sequence[bool] = [label != IGNORED for label in row["labels"]]
    else:
        masks = [row[name] for name in ("completion_mask", "assistant_masks") if row.get(name)]
        learnt = [all(flags) for flags in zip(*masks, strict=False)]
    return next((place for place, each in enumerate(learnt) if each), 0)


def _hash(question: Any) -> str:
    return hashlib.sha256(asked_text(question).encode()).hexdigest()
