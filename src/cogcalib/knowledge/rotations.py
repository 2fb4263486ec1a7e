"""Multiple choice: every rotation of the options asked, the probability of the right one read off.

Over the rotations each option stands once under each letter, so that a liking for a letter is not
taken for knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.batching import by_length
from cogcalib.inference.forward import Reader, inference, max_positions, padding_id
from cogcalib.knowledge.candidates import Tokens
from cogcalib.knowledge.exact import Answered
from cogcalib.knowledge.settings import EXACT, PAPER, SlickSettings
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.encoding import encode_batch
from cogcalib.modeling.few_shot import after_shots
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example
from cogcalib.scoring import ScoreSettings

Letters = Callable[[list[Tokens], list[Tokens]], list[list[float]]]


def rotated(example: Example, by: int) -> Example:
    """The question with its option texts moved on by so many letters."""
    count = len(example.options or ())
    return example.reordered([(place + by) % count for place in range(count)])


def answer_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    settings: SlickSettings = PAPER,
) -> list[list[Answered]]:
    """Judge every multiple-choice question behind every prompt in every rotation of its options.

    With z the logits of the option letters' tokens behind the prompt (in the form in which a letter
    follows it), the probability of the right option is that of sampling it at the temperature T
    among the options: softmax(z / T) over these tokens alone. Top-k does not apply.

    Args:
        model: A Hugging Face causal language model.
        tokenizer: Its tokenizer.
        examples: Multiple-choice questions of one group.
        prompts: The group's prompts; one without shots asks zero-shot.
        settings: Temperature, batches. Its mode must be exact: there is nothing to sample.

    Returns:
        For each example, in the order given, one entry a prompt and rotation: all rotations of the
        first prompt come first.

    Raises:
        ValueError: If the mode is not exact, or as `cogcalib.scoring.score`.
    """

    def read(sequences: list[Tokens], letters: list[Tokens]) -> list[list[float]]:
        reader = Reader(model, sequences, [1] * len(sequences), padding_id(tokenizer))

        def work(batch: list[int]) -> list[list[float]]:
            rows = zip(reader.logits(batch), batch, strict=True)
            return [row[letters[index]].double().tolist() for row, index in rows]

        batches = ScoreSettings(batch_size=settings.batch_size)
        return by_length(reader.lengths, work, batches, model.device, counted=False)

    with inference(model):
        return ask_rotations(prompts, examples, tokenizer, max_positions(model), settings, read)


def ask_rotations(
    prompts: Sequence[Prompt],
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    settings: SlickSettings,
    read: Letters,
) -> list[list[Answered]]:
    """`answer_choices` of whoever can tell how likely each option letter is.

    Args:
        prompts, examples, tokenizer, settings: As `answer_choices`.
        limit: The model's positions, None if it names no limit.
        read: Takes prompts and for each the tokens of its option letters; gives the letters'
            logits, or what differs from them by the same number.

    Raises:
        ValueError: As `answer_choices`.
    """
    check_mode(settings)
    rows: list[list[Answered]] = [[] for _ in examples]
    turns = max((len(example.options or ()) for example in examples), default=0)
    done = 0
    for prompt in prompts:
        for turn in range(turns):
            chosen = [i for i, e in enumerate(examples) if turn < len(e.options or ())]
            asked = [rotated(examples[i], turn) for i in chosen]
            encoded = encode_batch(asked, tokenizer, limit)
            letters = [list(row.option_ids or ()) for row in encoded]
            found = _behind(prompt, asked, letters, tokenizer, read)
            for index, example, logits in zip(chosen, asked, found, strict=True):
                rows[index].append(_chosen(example, logits, settings.temperature))
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
    tokenizer: PreTrainedTokenizerBase,
    read: Letters,
) -> list[list[float]]:
    """What `read` gives for each question behind a prompt."""
    alone = [row for row, _ in continuations(asked, [()] * len(asked), tokenizer)]
    found: dict[int, list[float]] = {}
    sharing: dict[tuple[Example, ...], list[int]] = {}
    for index, example in enumerate(asked):
        sharing.setdefault(prompt.before(example)[1], []).append(index)
    for shots, indices in sharing.items():
        examples = [asked[index] for index in indices]
        shown = after_shots(shots, examples, [alone[index] for index in indices], tokenizer)
        read_of = read(shown, [letters[index] for index in indices])
        found |= dict(zip(indices, read_of, strict=True))
    return [found[index] for index in range(len(asked))]


def _chosen(example: Example, logits: Sequence[float], temperature: float) -> Answered:
    letters = [option.letter for option in example.options or ()]
    gold, z = letters.index(example.answer), torch.tensor(logits, dtype=torch.float64)
    p = (z / temperature).softmax(-1)[gold].item()
    return Answered(int(z.argmax()) == gold, p, p)
