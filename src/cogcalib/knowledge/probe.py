"""What a model knows of a data set before any training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.batching import by_length
from cogcalib.inference.forward import Reader, inference, padding_id
from cogcalib.modeling.encoding import encode_batch
from cogcalib.records import DOUBTFUL, KNOWN, UNKNOWN, Example, ProbeRecord
from cogcalib.scoring import ScoreSettings, score


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
    letter is not taken for knowledge.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        examples: All multiple choice or all open-ended.
        batch_size: Most examples in one forward pass; None as in `ScoreSettings`.
        progress: Called with the number of renderings asked so far.

    Returns:
        One record an example, in the order given: ``known`` if right in every rendering,
        ``unknown`` if no more often than by always choosing the same letter, which is once.
        Open-ended: one rendering, right if every token of the canonical
        answer, the end token included, is the arg max under teacher forcing.

    Raises:
        ValueError: If the two kinds are mixed, or as `cogcalib.scoring.score`.
    """
    if len({example.options is None for example in examples}) > 1:
        raise ValueError("examples must be all multiple choice or all open-ended, got both")
    batches = ScoreSettings(batch_size=batch_size)
    if examples and examples[0].options is None:
        batches = replace(batches, progress=progress)
        return [
            ProbeRecord(
                e.id, KNOWN if right else UNKNOWN, float(right), p_gold, nll, "teacher-forcing"
            )
            for e, (right, p_gold, nll) in zip(
                examples,
                _teacher_forced(model, tokenizer, examples, batches),
                strict=True,
            )
        ]
    right: dict[str, list[bool]] = {example.id: [] for example in examples}
    p_gold: dict[str, list[float]] = {example.id: [] for example in examples}
    done = 0
    for rotation in range(max((len(e.options or ()) for e in examples), default=0)):
        rendered = [_rotated(e, rotation) for e in examples if rotation < len(e.options or ())]
        for p in score(model, tokenizer, rendered, batches):
            right[p.id].append(p.correct)
            p_gold[p.id].append(math.exp(-p.nll))
        done += len(rendered)
        if progress is not None:
            progress(done)
    nlls = [nll for _, _, nll in _teacher_forced(model, tokenizer, examples, batches)]
    return [
        ProbeRecord(
            example.id,
            _category(right[example.id]),
            _mean(right[example.id]),
            _mean(p_gold[example.id]),
            nll,
            "rotations",
        )
        for example, nll in zip(examples, nlls, strict=True)
    ]


def renderings(examples: Sequence[Example]) -> int:
    """How many questions `probe` asks."""
    return sum(len(example.options) if example.options else 1 for example in examples)


def _rotated(example: Example, by: int) -> Example:
    count = len(example.options or ())
    return example.reordered([(position + by) % count for position in range(count)])


def _category(right: Sequence[bool]) -> str:
    if all(right):
        return KNOWN
    return UNKNOWN if sum(right) <= 1 else DOUBTFUL


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _teacher_forced(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScoreSettings,
) -> list[tuple[bool, float, float]]:
    """Per example: every supervised token the arg max, joint probability, mean NLL."""
    encodings = encode_batch(examples, tokenizer)
    answers = [row.answer_ids for row in encodings]
    with inference(model):
        reader = Reader(
            model,
            [row.input_ids[:-1] for row in encodings],
            [len(ids) for ids in answers],
            padding_id(tokenizer),
        )

        def work(batch: list[int]) -> list[tuple[bool, float, float]]:
            rows = reader.logits(batch).split([len(answers[index]) for index in batch])
            return [_judge(answers[i], logits) for i, logits in zip(batch, rows, strict=True)]

        return by_length(reader.lengths, work, settings, model.device)


def _judge(answer: Sequence[int], logits: Tensor) -> tuple[bool, float, float]:
    ids = torch.tensor(answer, device=logits.device)
    log_p = logits.log_softmax(-1).gather(1, ids[:, None]).squeeze(1)
    right = bool((logits.argmax(-1) == ids).all())
    return right, log_p.sum().exp().item(), -log_p.mean().item()
