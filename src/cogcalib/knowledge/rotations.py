"""Multiple choice in every rotation of the options: the probability of the correct one.

Over the rotations each option stands once under each letter, so that a liking for a letter is not
taken for knowledge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cogcalib.inference.backend import Backend, Tokens
from cogcalib.knowledge.exact import Answered
from cogcalib.knowledge.slick_settings import EXACT, PAPER, SlickSettings
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.encoding import encode_batch
from cogcalib.modeling.few_shot import after_shots
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example, is_verbatim


def turns(example: Example) -> int:
    """In how many rotations of its options a question is asked; in one without any, and where its
    prompt stands as it is written."""
    fixed = example.options is None or is_verbatim(example.preset)
    return 1 if fixed else len(example.options or ())


def rotated(example: Example, by: int) -> Example:
    """The question with its option texts moved on by so many letters."""
    if by == 0:
        return example
    count = len(example.options or ())
    return example.reordered([(place + by) % count for place in range(count)])


def answer_choices(
    backend: Backend,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    settings: SlickSettings = PAPER,
) -> list[list[Answered]]:
    """Judge every multiple-choice question behind every prompt in every rotation of its options.

    With z the scores of the option letters' tokens behind the prompt (in the form in which a letter
    follows it), the probability of the correct option is that of sampling it at the temperature T
    among the options: softmax(z / T) over these tokens alone. Top-k does not apply.

    Args:
        backend: The model.
        examples: Multiple-choice questions of one group.
        prompts: The group's prompts; one without shots asks zero-shot.
        settings: Temperature. Its mode must be exact: there is nothing to sample.

    Returns:
        For each example, in the order given, one entry a prompt and rotation: all rotations of the
        first prompt come first.

    Raises:
        ValueError: If the mode is not exact, or as `cogcalib.modeling.encode_batch`.
    """
    check_mode(settings)
    rows: list[list[Answered]] = [[] for _ in examples]
    most = max(map(turns, examples), default=0)
    done = 0
    for prompt in prompts:
        for turn in range(most):
            chosen = [i for i, e in enumerate(examples) if turn < turns(e)]
            asked = [rotated(examples[i], turn) for i in chosen]
            encoded = encode_batch(asked, backend.tokenizer, backend.positions)
            letters = [list(row.option_ids or ()) for row in encoded]
            found = _behind(prompt, asked, letters, backend)
            for index, example, scores in zip(chosen, asked, found, strict=True):
                rows[index].append(_chosen(example, scores, settings.temperature))
            done += len(chosen)
            if settings.progress is not None:
                settings.progress(done)
    return rows


def check_mode(settings: SlickSettings) -> None:
    """Raise unless the mode is one that multiple choice is asked in.

    Raises:
        ValueError: If the mode is not exact.
    """
    if settings.mode != EXACT:
        raise ValueError(
            "mode must be exact for multiple choice, whose probabilities need no samples, "
            f"got {settings.mode!r}"
        )


def _behind(
    prompt: Prompt,
    asked: Sequence[Example],
    letters: Sequence[Tokens],
    backend: Backend,
) -> list[list[float]]:
    """The scores of each question's letters behind a prompt."""
    tokenizer = backend.tokenizer
    alone = [row for row, _ in continuations(asked, [()] * len(asked), tokenizer)]
    found: dict[int, list[float]] = {}
    sharing: dict[tuple[Example, ...], list[int]] = {}
    for index, example in enumerate(asked):
        sharing.setdefault(prompt.before(example)[1], []).append(index)
    for shots, indices in sharing.items():
        examples = [asked[index] for index in indices]
        shown = after_shots(shots, examples, [alone[index] for index in indices], tokenizer)
        wanted = [letters[index] for index in indices]
        first = backend.first_tokens(shown, wanted)
        for index, tokens, read in zip(indices, wanted, first, strict=True):
            found[index] = [read.scores[token] for token in tokens]
    return [found[index] for index in range(len(asked))]


def _chosen(example: Example, scores: Sequence[float], temperature: float) -> Answered:
    letters = [option.letter for option in example.options or ()]
    gold, z = letters.index(example.answer), torch.tensor(scores, dtype=torch.float64)
    p = (z / temperature).softmax(-1)[gold].item()
    return Answered(int(z.argmax()) == gold, p, p)
