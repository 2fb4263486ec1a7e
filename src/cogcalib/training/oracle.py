"""The fixed labels that `gate="oracle"` goes by."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset

from cogcalib.knowledge.slick_categories import CATEGORIES
from cogcalib.training.collator import KNOWN


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
        raise _no_label(f"{value!r} in example {index}", value)


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
