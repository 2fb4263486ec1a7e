"""Which answered questions stand before a question: drawn once for a group, the same for all of it.

What all questions of a group begin with is computed once. So a group's prompts are fixed; only a
question that stands among the shots itself gets a prompt of its own, with a reserve in its place.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cogcalib.records import Example

Prompts = Mapping[str, tuple["Prompt", ...]]
"""Group -> its prompts."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A few-shot prompt.

    Attributes:
        number: Among the group's prompts, from 0.
        shots: Examples shown with their answers.
        reserve: Takes the place of a shot where that is the question asked; None without shots.
    """

    number: int
    shots: tuple[Example, ...]
    reserve: Example | None

    def before(self, question: Example) -> tuple[str, tuple[Example, ...]]:
        """The prompt's id and the shots to show before a question, which is never among them.

        The id is the number, ``3``, or ``3:1`` where shot 1 had to give way to the reserve.
        """
        asked = same_question(question)
        for place, shot in enumerate(self.shots):
            if same_question(shot) == asked and self.reserve is not None:
                others = (*self.shots[:place], self.reserve, *self.shots[place + 1 :])
                return f"{self.number}:{place}", others
        return str(self.number), self.shots


def draw_prompts(
    pool: Sequence[Example],
    group_of: Mapping[str, str],
    groups: Sequence[str],
    *,
    prompts: int = 10,
    shots: int = 4,
    seed: int = 0,
) -> dict[str, tuple[Prompt, ...]]:
    """Draw every group's prompts from its own examples, whatever order those come in.

    Args:
        pool: Examples to draw from.
        group_of: Example id -> group, for those of `pool`; an id that is missing is in its task's.
        groups: Groups that prompts are needed for.
        prompts: Prompts of a group. Without shots they would all be alike, and there is one.
        shots: Examples in a prompt.
        seed: Of the drawing.

    Raises:
        ValueError: If a number is out of range, or a group has too few distinct questions.
    """
    if prompts < 1:
        raise ValueError(f"prompts must be at least 1, got {prompts}")
    if shots < 0:
        raise ValueError(f"shots must be at least 0, got {shots}")
    if shots == 0:
        return {group: (Prompt(0, (), None),) for group in groups}
    members: dict[str, dict[str, Example]] = {group: {} for group in groups}
    for example in sorted(pool, key=lambda e: (e.content_hash(), e.id)):
        group = group_of.get(example.id, example.task)
        if group in members:
            members[group].setdefault(same_question(example), example)
    drawn = {}
    for group, found in members.items():
        # Each question must find the shots full without itself.
        if len(found) <= shots:
            raise ValueError(
                f"shots must be fewer than the group's questions: {group!r} has {len(found)} to "
                f"draw from and {shots} + 1 in reserve are needed"
            )
        # By what is asked: neither order nor ids nor the split decide.
        questions = [found[key] for key in sorted(found)]
        drawn[group] = tuple(
            _draw(questions, shots, number, f"{seed}/{group}/{number}") for number in range(prompts)
        )
    return drawn


def same_question(example: Example) -> str:
    """A key that two examples share if they ask the same, whatever they take for the answer."""
    texts = sorted(option.text for option in example.options or ())
    content = [" ".join(example.prompt.split()), example.context, texts]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _draw(questions: Sequence[Example], shots: int, number: int, seed: str) -> Prompt:
    *shown, reserve = random.Random(seed).sample(questions, shots + 1)
    return Prompt(number, tuple(shown), reserve)
