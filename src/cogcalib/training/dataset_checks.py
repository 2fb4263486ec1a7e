"""Data sets as the method needs them: checked before the training, not discovered during it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, TypeAlias

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from cogcalib.losses import NO_OPTION
from cogcalib.modeling.encoding import IGNORED
from cogcalib.training.collator import NUMBER, OPTION_IDS
from cogcalib.training.option_ids import OPTIONS
from cogcalib.training.packing import examples
from cogcalib.training.supervision import Unit, competing_start, has_prompt

OF_TOKENS = {"labels", "completion_mask", "assistant_masks"}
"""Columns that TRL would read beside tokens made of text, whatever they were."""
Rows: TypeAlias = Mapping[str, Sequence[int]]
"""``train`` and ``calibration`` -> the rows that each has of a data set that was split."""


@contextmanager
def numbered_as_given(rows: Rows) -> Iterator[None]:
    """Errors about an example of either side have the number that it had before the split.

    Args:
        rows: As `cogcalib.training.calibration_split` splits; empty where nothing was.
    """

    def numbered(found: re.Match[str]) -> str:
        given, number = rows[found[1]], int(found[2])
        return f"train data set, example {given[number]}" if number < len(given) else found[0]

    try:
        yield
    except ValueError as error:
        if not rows:
            raise
        pattern = rf"\b({'|'.join(rows)}) data set, example (\d+)"
        said = re.sub(pattern, numbered, str(error))
        if said == str(error):
            raise
        raise ValueError(said) from error


def data_format(dataset: object, name: str, text_field: str | None) -> str:
    """How a data set's examples are written, after checking what can be seen without reading it.

    Args:
        dataset: What the user gave.
        name: The argument's name, for the error.
        text_field: Name of the column of plain text; None if a formatting function makes one.

    Returns:
        ``tokenised``, ``prompt-completion``, ``messages`` or ``text``.

    Raises:
        ValueError: If it is empty, streamed, transformed as it is read, with images, or lacks the
            columns of every format.
    """
    from cogcalib.suggest import any_meant, slip

    if isinstance(dataset, Mapping):
        raise ValueError(
            f"{name} must be one datasets.Dataset, got a {type(dataset).__name__} of "
            f"{sorted(map(str, dataset))}: give one of them"
        )
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"{name} must be a datasets.Dataset, got {type(dataset).__name__}: {_remedy(dataset)}"
        )
    if len(dataset) == 0:
        raise ValueError(f"{name} must hold at least one example, got none")
    if dataset.format["type"] == "custom":
        raise ValueError(
            f"{name} has a transform (with_transform), which may make other examples at each "
            "reading: make them once, by map"
        )
    shown: Dataset = as_python(dataset)
    columns = set(shown.column_names)
    if told := slip(sorted(columns), (OPTIONS, OPTION_IDS)):
        raise ValueError(f"{name}: the column {told}")
    if columns & {"image", "images"}:
        raise ValueError(f"{name} has images, which are not supported: give text only")
    if "input_ids" in columns:
        return "tokenised"
    if of_tokens := sorted(columns & OF_TOKENS):
        raise ValueError(
            f"{name} has no 'input_ids' but a column {of_tokens[0]!r}, which goes with them alone: "
            "drop or rename it"
        )
    if text_field is None:
        return "text"
    if {"prompt", "completion"} <= columns:
        return "prompt-completion"
    if columns & {"messages", "conversations"}:
        return "messages"
    if text_field in columns:
        return "text"
    formats = ("prompt", "completion", "messages", text_field, "input_ids")
    raise ValueError(
        f"{name} must have columns 'prompt' and 'completion', or 'messages', or '{text_field}', "
        f"or 'input_ids' and 'labels', got {sorted(columns)}"
        + (_renamed(columns) or any_meant(sorted(columns - {OPTIONS}), formats))
    )


def _renamed(columns: Set[str]) -> str:
    """What to rename where question and answer stand under other common names."""
    asked = next((name for name in ("question", "instruction", "input") if name in columns), None)
    given = next((n for n in ("answer", "response", "output", "target") if n in columns), None)
    if asked is None or given is None:
        return ""
    return f": rename them, {asked!r} to 'prompt' and {given!r} to 'completion'"


def _remedy(given: object) -> str:
    """What to do with a data set of another kind."""
    kind = type(given).__name__
    if kind == "DataFrame":
        return "make it one by Dataset.from_pandas"
    if kind == "Table":
        return "make it one by Dataset(table)"
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        return "make it one by Dataset.from_list(list(rows))"
    return "a stream cannot be checked for leaks and cut answers before the training"


def without_other_texts(dataset: Dataset, text_field: str) -> Dataset:
    """Examples of prompt and completion without a column of plain text beside them.

    TRL would append the end token to that one, and the answers would be learnt without their end.
    """
    if {"prompt", "completion"} <= set(dataset.column_names):
        return dataset.remove_columns([c for c in (text_field,) if c in dataset.column_names])
    return dataset


def as_python(dataset: Any) -> Any:
    """The data set with Python's lists and numbers, whatever format (torch, pandas) it is in."""
    if isinstance(dataset, Dataset) and dataset.format["type"] not in (None, "custom"):
        return dataset.with_format(None)
    return dataset


def numbered(dataset: Dataset) -> Dataset:
    """A tokenised data set with the numbers of its examples, -1 for texts without a prompt."""
    asked = [has_prompt(labels) for labels in dataset["labels"]]
    numbers = [number if each else -1 for number, each in enumerate(asked)]
    return without_numbers(dataset).add_column(NUMBER, numbers)


def without_numbers(dataset: Dataset) -> Dataset:
    """A data set without the numbers of its examples, if it has them."""
    return dataset.remove_columns([c for c in (NUMBER,) if c in dataset.column_names])


def check_masks(dataset: Dataset, name: str, completion_only_loss: bool | None) -> None:
    """Raise ValueError for tokenised examples whose prompts would be supervised in silence.

    Args:
        dataset: The examples, tokenised or not.
        name: As in `check_rows`.
        completion_only_loss: TRL's option, True also where TRL sets it by itself; without it TRL
            overlooks a ``completion_mask``, also beside ``assistant_masks``, which it always takes.
    """
    columns = set(dataset.column_names)
    if "input_ids" not in columns or "labels" in columns:
        return
    if not columns & {"completion_mask", "assistant_masks"}:
        raise ValueError(
            f"{name} data set has 'input_ids' but none of 'labels', 'completion_mask' and "
            f"'assistant_masks': the prompts would be trained on as well; give 'labels' "
            f"({IGNORED} where nothing is to be learnt)"
        )
    if "completion_mask" in columns and completion_only_loss is None:
        raise ValueError(
            f"{name} data set has 'completion_mask', which TRL overlooks beside 'input_ids' unless "
            "completion_only_loss=True is set; set it to True or False, or give 'labels'"
        )


def check_rows(dataset: Dataset, name: str, max_length: int | None, unit: Unit) -> None:
    """Raise ValueError for the first tokenised example that cannot be trained on as it is.

    Args:
        dataset: Tokenised, not truncated.
        name: ``train``, ``calibration`` or an evaluation set's name.
        max_length: Tokens to which TRL would cut an example, silently.
        unit: What is judged as one; the options belong to the first token of an example's last
            unit, or of its last turn where each token is a unit.
    """
    options = dataset[OPTION_IDS] if OPTION_IDS in dataset.column_names else None
    for index, (ids, labels) in enumerate(
        zip(dataset["input_ids"], dataset["labels"], strict=True)
    ):
        where = f"{name} data set, example {index}"
        if len(ids) != len(labels):
            raise ValueError(f"{where}: {len(ids)} input_ids but {len(labels)} labels")
        first = competing_start(labels, unit)
        if first is None:
            raise ValueError(f"{where}: no token is supervised, all labels are {IGNORED}")
        cut = () if max_length is None else labels[max(1, max_length) :]
        if any(label != IGNORED for label in cut):
            raise ValueError(
                f"{where}: it has {len(ids)} tokens, and max_length={max_length} would cut its "
                "answer; shorten the example or raise max_length"
            )
        if options is not None and options[index]:
            _check_option_ids(where, list(options[index]), labels[first])


def _check_option_ids(where: str, ids: Sequence[int], gold: int) -> None:
    """Raise ValueError unless two or more different tokens compete, the gold one among them."""
    ids = [token for token in ids if token != NO_OPTION]
    if ids and min(ids) < 0:
        raise ValueError(
            f"{where}: {OPTION_IDS} has {min(ids)}, which is no token, in {ids}; examples may have "
            f"different numbers of options, and only {NO_OPTION} fills a row up"
        )
    if len(ids) < 2 or len(set(ids)) < len(ids):
        raise ValueError(f"{where}: {OPTION_IDS} needs two or more tokens, each once, got {ids}")
    if gold not in ids:
        raise ValueError(
            f"{where}: its answer's first token {gold} is none of its {OPTION_IDS} {ids}"
        )


def check_options(train: Dataset) -> None:
    """Raise ValueError unless every training example has options: ``support='options'``."""
    columns = (OPTION_IDS, OPTIONS)
    column = next((name for name in columns if name in train.column_names), None)
    if column is None:
        raise ValueError(
            f"support='options' needs a column {OPTION_IDS!r} or {OPTIONS!r} in train_dataset; "
            "add one, or leave support out"
        )
    for index, value in enumerate(as_python(train)[column]):
        if value is None or value == []:
            raise ValueError(
                f"support='options', or 'auto' and a column {column!r}: train data set, example "
                f"{index} has no {column}; give every example its options, or set support='vocab'"
            )


def check_disjoint(
    train: Dataset, calibration: Dataset, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raise ValueError if a calibration example, or its prompt with any answer, is trained on.

    Args:
        train: Prepared examples, packed or not.
        calibration: Prepared examples.
        tokenizer: Theirs.
    """
    trained = set(hashes_of_asked(train, tokenizer))
    asked = hashes_of_asked(calibration, tokenizer)
    shared = [index for index, each in enumerate(asked) if each in trained]
    if shared:
        raise ValueError(
            f"calibration_dataset must be disjoint from train_dataset, but {len(shared)} of its "
            f"{len(calibration)} examples or their prompts are in both, the first is example "
            f"{shared[0]}; white space and the form of accents make no difference"
        )


def hashes_of_asked(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """`question_hashes` of a prepared data set: of the tokens before the first supervised one, of
    an example without a prompt of all its tokens."""
    from cogcalib.deployment.seen_questions import question_hashes

    special = set(tokenizer.all_special_ids)
    found = []
    for ids, labels in examples(dataset):
        start = next((t for t, label in enumerate(labels) if label != IGNORED), len(labels))
        prompt = ids[:start]
        found.append(prompt if set(prompt) - special else ids)
    return question_hashes(found, tokenizer)


def check_alike(train: Dataset, calibration: Dataset) -> None:
    """Raise ValueError if only one of the data sets says which options compete."""
    with_options = [bool({OPTION_IDS, OPTIONS} & set(d.column_names)) for d in (train, calibration)]
    if len(set(with_options)) == 2:
        raise ValueError(
            f"train_dataset and calibration_dataset must both have a column {OPTIONS!r} or "
            f"{OPTION_IDS!r}, or neither: it decides what counts as known"
        )
