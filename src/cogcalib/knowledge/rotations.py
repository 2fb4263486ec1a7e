"""Multiple choice: every rotation of the options asked, the probability of the right one read off.

Over the rotations each option stands once under each letter, so that a liking for a letter is not
taken for knowledge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.knowledge.exact import Answered
from cogcalib.knowledge.settings import EXACT, PAPER, SlickSettings
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.encoding import encode_batch
from cogcalib.modeling.few_shot import after_shots
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example
from cogcalib.scoring import ScoreSettings
from cogcalib.scoring.batches import by_length
from cogcalib.scoring.forward import Reader, inference, max_positions, padding_id


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
    check_mode(settings)
    rows: list[list[Answered]] = [[] for _ in examples]
    turns = max((len(example.options or ()) for example in examples), default=0)
    done = 0
    with inference(model):
        for prompt in prompts:
            for turn in range(turns):
                chosen = [i for i, e in enumerate(examples) if turn < len(e.options or ())]
                asked = [rotated(examples[i], turn) for i in chosen]
                for index, each in zip(
                    chosen, _read(model, tokenizer, asked, prompt, settings), strict=True
                ):
                    rows[index].append(each)
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


def _read(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Example],
    prompt: Prompt,
    settings: SlickSettings,
) -> list[Answered]:
    encoded = encode_batch(asked, tokenizer, max_positions(model))
    alone = [row for row, _ in continuations(asked, [()] * len(asked), tokenizer)]
    batches = ScoreSettings(batch_size=settings.batch_size)
    found: dict[int, Answered] = {}
    sharing: dict[tuple[Example, ...], list[int]] = {}
    for index, example in enumerate(asked):
        sharing.setdefault(prompt.before(example)[1], []).append(index)
    for shots, indices in sharing.items():
        examples = [asked[index] for index in indices]
        prompts = after_shots(shots, examples, [alone[index] for index in indices], tokenizer)
        reader = Reader(model, prompts, [1] * len(prompts), padding_id(tokenizer))

        def work(
            batch: list[int], reader: Reader = reader, indices: list[int] = indices
        ) -> list[Answered]:
            logits = reader.logits(batch)
            return [
                _chosen(asked[indices[at]], row[list(encoded[indices[at]].option_ids or ())])
                for at, row in zip(batch, logits, strict=True)
            ]

        def _chosen(example: Example, logits: torch.Tensor) -> Answered:
            letters = [option.letter for option in example.options or ()]
            gold = letters.index(example.answer)
            p = (logits.double() / settings.temperature).softmax(-1)[gold].item()
            return Answered(int(logits.argmax()) == gold, p, p)

        results = by_length(reader.lengths, work, batches, model.device, counted=False)
        found |= dict(zip(indices, results, strict=True))
    return [found[index] for index in range(len(asked))]
