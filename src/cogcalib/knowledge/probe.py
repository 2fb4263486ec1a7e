"""The probe before a training: known, unknown or between, for every training question."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend, Progress, TokenScores
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.knowledge.rotations import rotated, turns
from cogcalib.modeling.encoding import encode_batch
from cogcalib.modeling.option_letters import encode_choices
from cogcalib.records import DOUBTFUL, KNOWN, UNKNOWN, Example, ProbeRecord


def probe(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[ProbeRecord]:
    """Ask every question, multiple choice in every rotation of its options.

    Over the rotations each option text stands once under each letter, so that a liking for a
    letter is not taken for knowledge. A prompt as written shows its options itself, and is asked
    once.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        examples: All multiple choice or all open-ended.
        batch_size: Most examples in one forward pass; None lets a budget of tokens decide.
        progress: Called with the number of renderings asked so far.

    Returns:
        One record an example, in the order given: ``known`` if correct in every rendering,
        ``unknown`` if no more often than by always choosing the same letter, which is once.
        Open-ended: one rendering, correct if every token of the canonical
        answer, the end token included, is the arg max under teacher forcing.

    Raises:
        ValueError: If the two kinds are mixed, or as `cogcalib.modeling.encode_batch`.
    """
    if len({example.options is None for example in examples}) > 1:
        raise ValueError("examples must be all multiple choice or all open-ended, got both")
    backend = TransformersBackend(model, tokenizer, batch_size=batch_size)
    if examples and examples[0].options is None:
        scores = _supervised(backend, examples, progress)
        return [
            ProbeRecord(
                example.id,
                KNOWN if row.greedy.all() else UNKNOWN,
                float(row.greedy.all()),
                row.log_p.sum().exp().item(),
                -row.log_p.mean().item(),
                "teacher-forcing",
            )
            for example, row in zip(examples, scores, strict=True)
        ]
    judged: list[list[tuple[bool, float]]] = [[] for _ in examples]
    done = 0
    for rotation in range(max(map(turns, examples), default=0)):
        chosen = [i for i, e in enumerate(examples) if rotation < turns(e)]
        found = _choose(backend, [rotated(examples[index], rotation) for index in chosen])
        for index, each in zip(chosen, found, strict=True):
            judged[index].append(each)
        done += len(chosen)
        if progress is not None:
            progress(done)
    rows = zip(examples, judged, _supervised(backend, examples), strict=True)
    return [
        ProbeRecord(
            example.id,
            _category([correct for correct, _ in each]),
            _mean([correct for correct, _ in each]),
            _mean([p for _, p in each]),
            -row.log_p.mean().item(),
            "rotations",
        )
        for example, each, row in rows
    ]


def renderings(examples: Sequence[Example]) -> int:
    """How many questions `probe` asks."""
    return sum(map(turns, examples))


def _choose(backend: Backend, examples: Sequence[Example]) -> list[tuple[bool, float]]:
    """Whether each question is answered correctly, and the gold letter's share of the options."""
    choices = encode_choices(examples, backend.tokenizer, backend.positions)
    letters = [[ids[0] for ids in choice.forms] for choice in choices]
    first = backend.first_tokens([choice.prompt_ids for choice in choices], letters)
    judged = []
    for example, tokens, read in zip(examples, letters, first, strict=True):
        shares = read.log_shares(tokens)
        gold = [option.letter for option in example.options or ()].index(example.answer)
        judged.append((shares.index(max(shares)) == gold, math.exp(min(0.0, shares[gold]))))
    return judged


def _supervised(
    backend: Backend, examples: Sequence[Example], progress: Progress | None = None
) -> list[TokenScores]:
    """The scores of the tokens that training supervises, the end token included."""
    rows = encode_batch(examples, backend.tokenizer)
    prompts, answers = [row.prompt_ids for row in rows], [row.answer_ids for row in rows]
    return backend.token_scores(prompts, answers, progress=progress)


def _category(correct: Sequence[bool]) -> str:
    if all(correct):
        return KNOWN
    return UNKNOWN if sum(correct) <= 1 else DOUBTFUL


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
