"""The examples of a split that a run uses: all, a draw, a half, or a mix of known and unknown."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cogcalib.records import Example

SPLITS = ("train", "calibration", "test")
"""Names of the splits of a task, in the order in which they are used."""


def draw(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    """`limit` examples drawn at random, in their original order; all without a limit.

    Raises:
        ValueError: If there are fewer than `limit`.
    """
    if limit is None:
        return list(examples)
    if limit > len(examples):
        split = examples[0].split if examples else "the split"
        raise ValueError(f"limit for {split} must be at most {len(examples)}, got {limit}")
    chosen = sorted(random.Random(seed).sample(range(len(examples)), limit))
    return [examples[index] for index in chosen]


def halve(ids: Iterable[str], seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """Two halves of a split, drawn by the hash of each id and a seed; the second is the larger.

    Neither the order of the ids nor any generator matters, so that whoever has the ids has the
    halves.

    Args:
        ids: Of distinct examples.
        seed: Of the drawing.

    Raises:
        ValueError: If there are fewer than two.
    """
    drawn = sorted(set(ids), key=lambda each: hashlib.sha256(f"{seed}:{each}".encode()).digest())
    if len(drawn) < 2:
        raise ValueError(f"a split needs at least 2 examples to be halved, got {len(drawn)}")
    middle = len(drawn) // 2
    return frozenset(drawn[:middle]), frozenset(drawn[middle:])


def drawn_as_one(examples: Iterable[Example]) -> dict[str, str]:
    """Example id -> id of the first example that asks the same, see `Example.asked`."""
    first: dict[str, str] = {}
    return {each.id: first.setdefault(each.asked, each.id) for each in examples}


def largest_mixture(categories: Iterable[str], shares: Iterable[float]) -> int:
    """The most examples that `compose` finds for each of several shares of unknown ones.

    Args:
        categories: Probe category of each example of the pool.
        shares: Fractions of ``unknown``, at least one.

    Returns:
        0 if some share has none.
    """
    counts = Counter(categories)
    known, unknown = counts["known"], counts["unknown"]

    def fits(size: int, share: float) -> bool:
        wanted = round(share * size)
        return wanted <= unknown and size - wanted <= known

    wanted = list(shares)
    sizes = range(known + unknown, 0, -1)
    return next((size for size in sizes if all(fits(size, share) for share in wanted)), 0)


def compose(
    examples: Sequence[Example],
    categories: Mapping[str, str],
    *,
    size: int,
    unknown_share: float,
    seed: int,
) -> list[Example]:
    """`size` examples of which a share is unknown to the base model and the rest known for certain.

    Args:
        examples: The pool.
        categories: Example id -> probe category; ``doubtful`` examples are left out.
        size: Number of examples wanted.
        unknown_share: Fraction of them from category ``unknown``.
        seed: Of the drawing.

    Raises:
        ValueError: If a category has too few examples, saying how many.
    """
    wanted = {"unknown": round(unknown_share * size)}
    wanted["known"] = size - wanted["unknown"]
    chosen: list[Example] = []
    for category, number in wanted.items():
        pool = [example for example in examples if categories[example.id] == category]
        if len(pool) < number:
            raise ValueError(
                f"unknown_share {unknown_share:g} of {size} examples needs {number} {category} "
                f"ones, the train split has {len(pool)}"
            )
        chosen += draw(pool, number, seed)
    order = {example.id: position for position, example in enumerate(examples)}
    return sorted(chosen, key=lambda example: order[example.id])
