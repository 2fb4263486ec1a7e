"""A probe's questions answered by vLLM: the same judgements, read off what vLLM shows.

At a temperature the top k tokens of a position alone decide the distribution sampled from, so that
exact mode is as exact as with all logits. The entropy over the vocabulary is not to be had.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.batching import process
from cogcalib.inference.vllm_model import TEMPERATURES, Next, VllmModel, check_vllm
from cogcalib.knowledge.candidates import (
    Asked,
    Tokens,
    answer_ends,
    ask,
    ask_behind,
    check_lengths,
)
from cogcalib.knowledge.detectors import Signals
from cogcalib.knowledge.exact import Answered
from cogcalib.knowledge.model_spec import Outline, read_outline
from cogcalib.knowledge.probe_task import ProbeTask
from cogcalib.knowledge.rotations import ask_rotations
from cogcalib.knowledge.sampled import draw_seed, judge_answers
from cogcalib.knowledge.settings import EXACT, SAMPLED, SlickSettings
from cogcalib.modeling.encoding import encode_batch
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example


def check_worker(asked: ProbeTask) -> None:
    """Raise if vLLM is missing or cannot do what a probe asks for.

    Raises:
        ValueError: Saying what it can do.
    """
    check_vllm()
    if process()[1] > 1:
        raise ValueError(
            "worker vllm runs in one process, not under accelerate launch; engine ray gives it "
            "several GPUs"
        )
    if asked.mode == EXACT and asked.top_k == 0:
        raise ValueError(
            "top_k must be at least 1 in exact mode with worker vllm, which shows the most "
            "probable tokens and not the whole vocabulary; mode sampled or worker transformers "
            "can sample from all tokens"
        )
    low, high = TEMPERATURES
    if asked.mode == SAMPLED and not low <= asked.temperature <= high:
        raise ValueError(
            f"temperature must be between {low} and {high} in sampled mode with worker vllm, got "
            f"{asked.temperature}"
        )


def vllm_outline(path_or_id: str) -> Outline:
    """A model without its weights, as vLLM takes it: a text leaves room for one token after it."""
    found = read_outline(path_or_id)
    return found if found.limit is None else replace(found, limit=found.limit - 1)


class VllmRespondent:
    """A model in vLLM, which answers as one in transformers does, but for rounding.

    Args:
        model, adapter, dtype: As in `cogcalib.modeling.load_model`.
        batch_size: Most sequences in one forward pass; None leaves it to vLLM.

    Raises:
        ValueError: As `VllmModel`.
    """

    def __init__(self, model: str, adapter: str | None, dtype: str, batch_size: int | None) -> None:
        self.outline = vllm_outline(model)
        self.model = VllmModel(model, adapter, dtype, self.outline.vocabulary, batch_size)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's."""
        return self.outline.tokenizer

    @property
    def limit(self) -> int | None:
        """One less than the model's positions."""
        return self.outline.limit

    def answer_exactly(
        self, examples: Sequence[Example], prompts: Sequence[Prompt], settings: SlickSettings
    ) -> list[list[Answered]]:
        """Read q after the prompt and after each token of each accepted answer."""
        ends = answer_ends(examples, self.tokenizer, self.outline.ends)

        def answer(chosen: list[Asked], shown: list[Tokens], _: Prompt) -> list[Answered]:
            check_lengths(chosen, shown, settings, self.limit)
            texts = _texts(chosen, shown)
            found = self.model.following(texts, settings.temperature, settings.top_k)
            after = dict(zip(texts, found, strict=True))
            pairs = zip(chosen, shown, strict=True)
            return [_judge(each, tuple(prompt), after, ends) for each, prompt in pairs]

        asked = ask(examples, self.tokenizer, ends)
        return ask_behind(prompts, asked, self.tokenizer, settings, answer)

    def answer_by_sampling(
        self, examples: Sequence[Example], prompts: Sequence[Prompt], settings: SlickSettings
    ) -> list[list[Answered]]:
        """Generate one greedy and N sampled answers; the draws belong to question and prompt."""
        settings = replace(settings, mode=SAMPLED)
        ends = answer_ends(examples, self.tokenizer, self.outline.ends)

        def answer(chosen: list[Asked], shown: list[Tokens], prompt: Prompt) -> list[Answered]:
            check_lengths(chosen, shown, settings, self.limit)
            # vLLM adds a sample's number to the seed, in 63 bits.
            seeds = [draw_seed(settings.seed, prompt.number, each) >> 66 for each in chosen]
            found = self.model.answers(shown, seeds, ends, settings)
            pairs = zip(chosen, found, strict=True)
            return [judge_answers(each, tokens, ends, self.tokenizer) for each, tokens in pairs]

        asked = ask(examples, self.tokenizer, ends)
        return ask_behind(prompts, asked, self.tokenizer, settings, answer)

    def answer_choices(
        self, examples: Sequence[Example], prompts: Sequence[Prompt], settings: SlickSettings
    ) -> list[list[Answered]]:
        """Score every option letter behind the question, as the last token of a text of its own."""

        def read(shown: list[Tokens], letters: list[Tokens]) -> list[list[float]]:
            texts = [[*s, token] for s, own in zip(shown, letters, strict=True) for token in own]
            scores = iter(self.model.score(texts, [1] * len(texts)))
            return [[next(scores)[0][0] for _ in own] for own in letters]

        return ask_rotations(prompts, examples, self.tokenizer, self.limit, settings, read)

    def read_signals(self, examples: Sequence[Example], settings: SlickSettings) -> list[Signals]:
        """Score the answer's tokens as in training; without the entropy."""
        encoded = encode_batch(examples, self.tokenizer, self.limit)
        kept = [len(row.answer_ids) for row in encoded]
        return [
            Signals(
                nll=-fmean(own for own, _ in tokens),
                margin=fmean(own - other for own, other in tokens),
                entropy=None,
                p_gold=math.exp(math.fsum(own for own, _ in tokens)),
                tokens=len(tokens),
            )
            for tokens in self.model.score([row.input_ids for row in encoded], kept)
        ]


def _texts(asked: Sequence[Asked], shown: Sequence[Tokens]) -> list[tuple[int, ...]]:
    """Every prompt with every beginning of its answers, none twice."""
    return list(
        dict.fromkeys(
            (*prompt, *answer[:length])
            for each, prompt in zip(asked, shown, strict=True)
            for answer in each.answers
            for length in range(len(answer) + 1)
        )
    )


def _judge(
    asked: Asked,
    prompt: tuple[int, ...],
    after: Mapping[tuple[int, ...], Next],
    ends: Collection[int],
) -> Answered:
    """As `cogcalib.knowledge.exact` has it: summed over the accepted answers."""
    greedy, total = False, 0.0
    for answer in asked.answers:
        *steps, last = (after[(*prompt, *answer[:t])] for t in range(len(answer) + 1))
        pairs = list(zip(steps, answer, strict=True))
        greedy |= all(step.greedy == token for step, token in pairs) and last.greedy in ends
        spelt = math.prod(step.q.get(token, 0.0) for step, token in pairs)
        total += spelt * math.fsum(last.q.get(end, 0.0) for end in ends)
    p = min(1.0, total)
    return Answered(greedy, p, p)
