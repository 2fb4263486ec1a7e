"""Columns that reach the loss, checked as whole arrays: types, alignment, range, truth values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset
from numpy.typing import NDArray

from cogcalib.knowledge.slick_categories import CATEGORIES
from cogcalib.losses import NO_OPTION
from cogcalib.modeling.encoding import IGNORED
from cogcalib.training.collator import KNOWN, OPTION_IDS
from cogcalib.training.logs import get_logger

logger = get_logger(__name__)
MASKS = ("completion_mask", "assistant_masks")
"""Columns that say which tokens are supervised, where there are no labels."""


@dataclass(frozen=True, slots=True)
class _Flat:
    """A column of lists, one behind the other.

    Attributes:
        values: What the lists hold.
        rows: The row of each value.
        size: Number of rows.
    """

    values: NDArray[Any]
    rows: NDArray[np.int64]
    size: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Of the lists."""
        return np.bincount(self.rows, minlength=self.size)

    @property
    def positions(self) -> NDArray[np.int64]:
        """The place of each value in its list."""
        starts = np.cumsum(self.lengths) - self.lengths
        return np.arange(len(self.values)) - starts[self.rows]


def check_token_columns(dataset: Dataset, name: str, *, own_collator: bool) -> None:
    """Raise ValueError for columns of tokenised examples that are no lists of numbers that align.

    Warns of labels that are not the tokens they stand at, as labels shifted by one are.

    Args:
        dataset: As given; of text nothing is checked.
        name: ``train``, ``calibration`` or an evaluation set's name.
        own_collator: Whether the user's collator makes the batches; TRL's leaves out
            ``attention_mask`` and ``position_ids``.
    """
    columns = set(dataset.column_names)
    if "input_ids" not in columns:
        return
    ids = _flat(dataset, "input_ids", name)
    if OPTION_IDS in columns:
        _flat(dataset, OPTION_IDS, name)
    for column in columns.intersection(MASKS):
        mask = _aligned(dataset, column, name, ids)
        _refuse_first(
            mask, (mask.values != 0) & (mask.values != 1), f"{name} data set", column, "0 or 1"
        )
    labels = _aligned(dataset, "labels", name, ids) if "labels" in columns else None
    if own_collator:
        return
    if "attention_mask" in columns:
        _refuse_hidden(_aligned(dataset, "attention_mask", name, ids), labels, name)
    if "position_ids" in columns:
        places = _aligned(dataset, "position_ids", name, ids)
        _refuse_first(
            places,
            places.values != places.positions,
            f"{name} data set",
            "position_ids",
            "its place, counted from 0: give single examples and set packing=True",
        )
    if labels is not None:
        other = (labels.values != IGNORED) & (labels.values != ids.values)
        if other.any():
            logger.warning(
                "%s data set, example %s: a supervised label is not the token it stands at, in %s "
                "of %s examples. Labels are not to be shifted: the model does that.",
                name,
                labels.rows[other.argmax()],
                len(np.unique(labels.rows[other])),
                labels.size,
            )


def check_vocabulary(dataset: Dataset, name: str, inputs: int, outputs: int) -> None:
    """Raise ValueError for the first token that the model does not have.

    Args:
        dataset: Prepared examples, packed or not.
        name: As in `check_token_columns`.
        inputs: Tokens the model has an embedding of.
        outputs: Tokens it has a logit of.
    """
    for column, limit in (("input_ids", inputs), ("labels", outputs), (OPTION_IDS, outputs)):
        if column not in dataset.column_names:
            continue
        flat = _flat(dataset, column, name)
        wrong = (flat.values < 0) | (flat.values >= limit)
        filler = {"labels": IGNORED, OPTION_IDS: NO_OPTION}.get(column)
        if filler is not None:
            wrong &= flat.values != filler
        allowed = f"a token of the model, 0 to {limit - 1}"
        _refuse_first(flat, wrong, f"prepared {name} data set", column, allowed)


def _flat(dataset: Dataset, column: str, name: str) -> _Flat:
    """The column as one array; lists of lists, as of packed rows, are flattened to the end.

    Raises:
        ValueError: Unless it holds lists of whole numbers, or a row of it is None.
    """
    table: pa.Table = dataset.with_format("arrow", columns=[column])[:]
    array = table[column].combine_chunks()
    optional = column == OPTION_IDS
    if array.null_count and not optional:
        row = pc.index(pc.is_null(array), True).as_py()
        raise ValueError(f"{name} data set, example {row}: {column} is None")
    rows, size = np.arange(len(array)), len(array)
    given = array.type
    while _is_list(array.type):
        rows = rows[pc.list_parent_indices(array).to_numpy()]
        array = pc.list_flatten(array)
    numbers = pa.types.is_integer(array.type) or pa.types.is_boolean(array.type)
    if optional and pa.types.is_floating(array.type):  # as pandas writes them beside a gap
        numbers = bool(pc.all(pc.equal(array, pc.floor(array))).as_py())
    if array.null_count:
        row = rows[pc.index(pc.is_null(array), True).as_py()]
        raise ValueError(
            f"{name} data set, example {row}: {column} has None among its values; leave out what "
            "is no token"
        )
    if not _is_list(given) or not (numbers or len(array) == 0):
        raise ValueError(f"{name} data set: {column} must hold lists of whole numbers, got {given}")
    if len(array) == 0:
        return _Flat(np.zeros(0, dtype=np.int64), rows, size)
    return _Flat(array.to_numpy(zero_copy_only=False).astype(np.int64), rows, size)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _aligned(dataset: Dataset, column: str, name: str, ids: _Flat) -> _Flat:
    """A column with a value for each token.

    Raises:
        ValueError: If it has more or fewer.
    """
    flat = _flat(dataset, column, name)
    other = flat.lengths != ids.lengths
    if other.any():
        row = int(other.argmax())
        raise ValueError(
            f"{name} data set, example {row}: {ids.lengths[row]} input_ids but "
            f"{flat.lengths[row]} {column}"
        )
    return flat


def _refuse_first(
    flat: _Flat, wrong: NDArray[np.bool_], where: str, column: str, allowed: str
) -> None:
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"{where}, example {flat.rows[first]}: {column} holds {flat.values[first]}, each must "
            f"be {allowed}"
        )


def _refuse_hidden(mask: _Flat, labels: _Flat | None, name: str) -> None:
    """Raise for tokens hidden before a supervised one: TRL's collator would show them."""
    hidden, places = mask.values == 0, mask.positions
    learnt = ~hidden if labels is None else labels.values != IGNORED
    first, last = np.full(mask.size, len(places)), np.full(mask.size, -1)
    np.minimum.at(first, mask.rows[hidden], places[hidden])
    np.maximum.at(last, mask.rows[learnt], places[learnt])
    if (last > first).any():
        row = int((last > first).argmax())
        raise ValueError(
            f"{name} data set, example {row}: attention_mask hides token {first[row]}, before what "
            "is to be learnt, and TRL's collator leaves the mask out; remove padding and hidden "
            "tokens from input_ids and labels"
        )


def check_known(dataset: Dataset) -> None:
    """Raise ValueError unless the column ``known`` has a truth value for every training example.

    Anything else has one in Python, too: the string "Unknown" is as true as "HighlyKnown".

    Args:
        dataset: The argument ``train_dataset``.
    """
    if KNOWN not in dataset.column_names:
        raise ValueError(f"gate='oracle' needs a column {KNOWN!r} in train_dataset")
    feature = dataset.features[KNOWN]
    if isinstance(feature, ClassLabel):  # whose numbers are names: 0 may well stand for "known"
        raise _no_label(f"a ClassLabel of {feature.names}", *feature.names)
    # The whole table in one go; of a shuffled one, row after row would take seconds per million.
    if _first_without(dataset.data.column(KNOWN)) is None:
        return
    values = dataset.with_format("arrow", columns=[KNOWN])[:][KNOWN]
    index = _first_without(values)
    if index is not None:  # it may be a row that a selection left out
        value = values[index].as_py()
        raise _no_label(f"{value!r} in train data set, example {index}", value)


def _first_without(values: pa.ChunkedArray) -> int | None:
    """The first that is no truth value; None if all are."""
    if values.null_count:
        good = pc.is_valid(values)
    elif pa.types.is_boolean(values.type):
        return None
    elif pa.types.is_integer(values.type):
        good = pc.or_(pc.equal(values, 0), pc.equal(values, 1))
    else:
        return 0
    index = pc.index(good, False).as_py()
    return None if index < 0 else index


def _no_label(got: str, *values: Any) -> ValueError:
    """The error; `values` are some of those that came."""
    advice = (
        f"; make labels of SliCK categories by train_dataset.map(lambda row: {{{KNOWN!r}: "
        f"row[{KNOWN!r}] == {CATEGORIES[0]!r}}})"
    )
    slick = any(value in CATEGORIES for value in values)
    return ValueError(
        f"gate='oracle' needs True or False, or 1 or 0, in the column {KNOWN!r} of train_dataset, "
        f"got {got}{advice if slick else ''}"
    )
