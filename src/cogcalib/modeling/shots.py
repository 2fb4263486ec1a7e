"""Shots, the answered questions before a question: drawn once for a group, the same for all of it.

What all questions of a group begin with is computed once. So a group's prompts are fixed; only a
question that stands among the shots itself gets a prompt of its own, with a reserve in its place.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogcalib.modeling.few_shot import after_shots
from cogcalib.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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

    def encode(
        self,
        questions: Sequence[Example],
        alone: Sequence[list[int]],
        tokenizer: PreTrainedTokenizerBase,
    ) -> list[list[int]]:
        """The token ids of each question's prompt behind its shots.

        Args:
            questions: In the shots' own preset and of their kind.
            alone: Token ids of their prompts without shots.
            tokenizer: A Hugging Face tokenizer.
        """
        sharing: dict[str, list[int]] = {}
        shown = {}
        for index, question in enumerate(questions):
            id, shown[id] = self.before(question)
            sharing.setdefault(id, []).append(index)
        rows: dict[int, list[int]] = {}
        for id, indices in sharing.items():
            same = [questions[index] for index in indices]
            found = after_shots(shown[id], same, [alone[index] for index in indices], tokenizer)
            rows |= dict(zip(indices, found, strict=True))
        return [rows[index] for index in range(len(questions))]


def draw_shots(pool: Sequence[Example], number: int, *, seed: int = 0) -> Prompt:
    """Draw the shots that all questions of a task have in common, and a reserve.

    Args:
        pool: Examples of one task to draw from, whatever order they come in.
        number: How many to show.
        seed: Of the drawing.

    Raises:
        ValueError: If the pool is empty, of several tasks, or has no more than `number` questions.
    """
    tasks = sorted({example.task for example in pool})
    if len(tasks) != 1:
        raise ValueError(f"pool must hold examples of one task, got those of {tasks}")
    return draw_prompts(pool, {}, tasks, prompts=1, shots=number, seed=seed)[tasks[0]][0]


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
    content = [example.asked, example.context, texts]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _draw(questions: Sequence[Example], shots: int, number: int, seed: str) -> Prompt:
    *shown, reserve = random.Random(seed).sample(questions, shots + 1)
    return Prompt(number, tuple(shown), reserve)
