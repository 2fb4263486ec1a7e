"""A task: questions in disjoint splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cogcalib.records import Example, asked_text


@dataclass(frozen=True, slots=True)
class Repeats:
    """Questions of one split that the data set also has in a later one, and that were dropped.

    Attributes:
        split: They were dropped from this one.
        found_in: They stay in this one.
        questions: Distinct questions.
        rows: Rows dropped; a question may stand in several.
    """

    split: str
    found_in: str
    questions: int
    rows: int


@dataclass(frozen=True)
class Task:
    """A named set of questions.

    Attributes:
        name: Such as ``atlas/country``.
        description: One line for `cogcalib tasks`.
        licence: Of the data.
        splits: Split name -> examples. A task without ``train`` can only be tested on.
        version: Of the task's definition: another one may give other numbers.
        source: Data set and revision, or where else it comes from.
        dropped: Repeats between splits.
        equal_options: Split -> questions that show one text under two letters, as the data set has
            them; splits without any are left out.
        shortened: Split -> passages cut so that their questions fit a length limit.
        group_of: Example id -> its relation or subject; empty where the task does not tell them
            apart.
    """

    name: str
    description: str
    licence: str
    splits: Mapping[str, list[Example]]
    version: int = 1
    source: str = "embedded"
    dropped: tuple[Repeats, ...] = ()
    equal_options: Mapping[str, int] = field(default_factory=dict)
    shortened: Mapping[str, int] = field(default_factory=dict)
    group_of: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_disjoint(self.splits)

    def dropped_lines(self, *splits: str | None) -> list[str]:
        """What was dropped because a later split asks it too, a sentence each, for people.

        Args:
            splits: Those of interest; without any, all that are there.
        """
        return [
            f"{self.name}: {repeats.rows:,} rows dropped from {repeats.split}, their questions "
            f"stand in {repeats.found_in} too; {len(self.splits[repeats.split]):,} are left"
            for repeats in self.dropped
            if repeats.split in (splits or self.splits)
        ]


def check_disjoint(splits: Mapping[str, Sequence[Example]]) -> None:
    """Raise if a question and its answer stand in two splits, whatever its id or option order.

    Texts are compared as `asked_text` has them.

    Raises:
        ValueError: Naming the splits, how many questions they share and the first of them.
    """
    names = list(splits)
    hashes = {name: {_content(e): e for e in splits[name]} for name in names}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = hashes[first].keys() & hashes[second].keys()
            if shared:
                example = min((hashes[first][h] for h in shared), key=lambda e: e.id)
                raise ValueError(
                    f"splits {first!r} and {second!r} share {len(shared)} question(s), "
                    f"the first of them {example.id!r}: {example.prompt!r}"
                )


def _content(example: Example) -> tuple[str, ...]:
    texts = sorted(asked_text(option.text) for option in example.options or ())
    return (example.asked, asked_text(example.answer_text), *texts)
