"""How often a sampled answer is right, and whether the greedy one is: by generating them.

A prompt's keys and values are computed once for all its answers, and answers that begin alike are
read together until they part: sampling sixteen times costs little more than the different answers
that come of it. The draws belong to the question and the prompt, so that neither the batch nor the
other questions change an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.batching import by_length
from cogcalib.inference.forward import (
    forward,
    inference,
    max_positions,
    pad_left,
    padding_id,
    upcast,
)
from cogcalib.inference.prefix import Prefix, compute_prefix, shared_length
from cogcalib.inference.truncation import cumulative, draw
from cogcalib.knowledge.candidates import (
    Asked,
    Tokens,
    answer_ends,
    ask,
    ask_behind,
    check_lengths,
    ends_at_line_break,
    generation_ends,
)
from cogcalib.knowledge.exact import Answered
from cogcalib.knowledge.settings import SAMPLED, SlickSettings
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example
from cogcalib.scoring import ScoreSettings, exact_match


def answer_by_sampling(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    settings: SlickSettings | None = None,
) -> list[list[Answered]]:
    """Judge every open-ended question behind every prompt by one greedy and N sampled answers.

    An answer is what stands before the first end token or, outside a chat, line break; it is right
    if it matches the answer or an alias as `cogcalib.scoring.exact_match` has it, and strictly
    right if its tokens are those of one of them and the end follows.

    Args:
        model: A Hugging Face causal language model with a key-value cache.
        tokenizer: Its tokenizer.
        examples: Open-ended questions of one group.
        prompts: The group's prompts.
        settings: Samples, temperature, top-k, longest answer, seed, batches.

    Returns:
        For each example, in the order given, one entry a prompt.

    Raises:
        ValueError: As `cogcalib.knowledge.exact.answer_exactly`, if the model has no key-value
            cache, or an answer does not fit `max_new_tokens`.
    """
    settings = replace(settings or SlickSettings(), mode=SAMPLED)
    ends = answer_ends(examples, tokenizer, generation_ends(model.generation_config))
    asked = ask(examples, tokenizer, ends)
    sampler = Sampler(model, padding_id(tokenizer), ends, settings)

    def answer(chosen: list[Asked], shown: list[Tokens], prompt: Prompt) -> list[Answered]:
        drawn = sampler(chosen, shown, prompt.number)
        pairs = zip(chosen, drawn, strict=True)
        return [judge_answers(each, tokens, ends, tokenizer) for each, tokens in pairs]

    with inference(model):
        return ask_behind(prompts, asked, tokenizer, settings, answer)


class Sampler:
    """Generates answers behind one prompt: the greedy one first, then the samples."""

    def __init__(
        self, model: PreTrainedModel, pad_id: int, ends: Sequence[int], settings: SlickSettings
    ) -> None:
        self.model, self.pad_id, self.settings = model, pad_id, settings
        self.ends = torch.tensor(ends, device=model.device)
        self.limit = max_positions(model)

    def __call__(
        self, asked: Sequence[Asked], prompts: Sequence[Tokens], number: int
    ) -> list[list[Tokens]]:
        """The tokens of 1 + N answers to each question, what follows an end included."""
        most = self.settings.max_new_tokens
        check_lengths(asked, prompts, self.settings, self.limit)
        prefix = None
        if length := shared_length(prompts, [1] * len(prompts)):
            prefix = compute_prefix(self.model, prompts[0][:length])
        rest = [row[prefix.length if prefix else 0 :] for row in prompts]
        uniforms = [self._uniforms(each, number) for each in asked]

        def work(batch: list[int]) -> list[list[Tokens]]:
            drawn = torch.from_numpy(np.concatenate([uniforms[index] for index in batch]))
            tokens = self._decode([rest[i] for i in batch], prefix, drawn.to(self.model.device))
            return tokens.view(len(batch), -1, tokens.shape[1]).tolist()

        # A question takes as many rows as it has different answers: one as a rule, at worst 1 + N.
        lengths = [len(row) + most for row in prompts]
        batches = ScoreSettings(batch_size=self.settings.batch_size)
        return by_length(lengths, work, batches, self.model.device, counted=False)

    def _uniforms(self, asked: Asked, number: int) -> np.ndarray:
        """The draws of a question behind a prompt, whatever else is asked, [N, steps]."""
        shape = (self.settings.samples, self.settings.max_new_tokens)
        return np.random.default_rng(draw_seed(self.settings.seed, number, asked)).random(shape)

    def _decode(self, rest: Sequence[Tokens], prefix: Prefix | None, uniforms: Tensor) -> Tensor:
        """Tokens of all answers, [b * (1 + N), steps]; a question's greedy one comes first."""
        logits, cache, mask = self._read(rest, prefix)
        # Which row of the batch each answer stands on: a question's answers share one until they
        # part, and most never do.
        answers = self.settings.samples + 1
        row = torch.arange(len(rest), device=logits.device).repeat_interleave(answers)
        open_ = torch.ones_like(row, dtype=torch.bool)
        tokens: list[Tensor] = []
        while True:
            chosen = self._next(logits, row, uniforms[:, len(tokens)])
            tokens.append(torch.where(open_, chosen, self.ends[0]))
            open_ &= ~torch.isin(chosen, self.ends)
            if len(tokens) == self.settings.max_new_tokens or not open_.any():
                return torch.stack(tokens, dim=1)
            vocabulary = logits.shape[-1]
            pairs = row[open_] * vocabulary + chosen[open_]
            distinct, row[open_] = pairs.unique(return_inverse=True)
            row[~open_] = 0
            before, ids = distinct // vocabulary, (distinct % vocabulary)[:, None]
            cache.batch_select_indices(before)
            mask = torch.cat([mask[before], torch.ones_like(ids)], dim=1)
            output = forward(self.model, ids, mask, 1, past_key_values=cache, use_cache=True)
            logits = upcast(output.logits[:, -1])

    def _read(
        self, rest: Sequence[Tokens], prefix: Prefix | None
    ) -> tuple[Tensor, DynamicCache, Tensor]:
        """Logits after the prompts, their keys and values, and their mask."""
        ids, mask = pad_left(rest, self.pad_id, self.model.device)
        given = {}
        if prefix is not None:
            mask = torch.cat([mask.new_ones(len(ids), prefix.length), mask], dim=1)
            given = {"past_key_values": prefix.repeated(len(ids))}
        output = forward(self.model, ids, mask, 1, use_cache=True, **given)
        cache = getattr(output, "past_key_values", None)
        if not isinstance(cache, DynamicCache):
            raise ValueError(
                f"the model {type(self.model).__name__} gives no plain key-value cache to sample "
                "with; exact mode needs none"
            )
        return upcast(output.logits[:, -1]), cache, mask

    def _next(self, logits: Tensor, row: Tensor, uniform: Tensor) -> Tensor:
        """The next token of every answer, of which each (1 + N)-th is greedy."""
        rows = row.view(-1, self.settings.samples + 1)
        ids, summed = cumulative(logits, self.settings.temperature, self.settings.top_k)
        samples = rows[:, 1:].flatten()
        drawn = draw(ids[samples], summed[samples], uniform)
        greedy = logits[rows[:, 0]].argmax(-1, keepdim=True)
        return torch.cat([greedy, drawn.view(len(rows), -1)], dim=1).flatten()


def draw_seed(seed: int, number: int, asked: Asked) -> int:
    """The seed of a question's samples behind a prompt, 128 bits."""
    words = f"{seed}/{number}/{asked.example.content_hash()}"
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:16])


def judge_answers(
    asked: Asked,
    answers: Sequence[Tokens],
    ends: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
) -> Answered:
    """Judge the tokens of the greedy answer and of the samples, what follows an end left aside."""
    accepted = [asked.example.answer, *asked.example.aliases]
    spelt = [_spelt(tokens, set(ends)) for tokens in answers]
    # Sixteen samples are few different answers.
    texts = dict.fromkeys(tokens for tokens, _ in spelt)
    line = ends_at_line_break([asked.example])
    right = {tokens: exact_match(_text(tokens, tokenizer, line), accepted) for tokens in texts}
    matching = [right[tokens] for tokens, _ in spelt]
    strict = [ended and tokens in asked.answers for tokens, ended in spelt]
    samples = len(answers) - 1
    return Answered(matching[0], sum(matching[1:]) / samples, sum(strict[1:]) / samples)


def _spelt(tokens: Tokens, ends: set[int]) -> tuple[tuple[int, ...], bool]:
    """The tokens before the first end, and whether there was one."""
    first = next((place for place, token in enumerate(tokens) if token in ends), None)
    return tuple(tokens[:first]), first is not None


def _text(tokens: tuple[int, ...], tokenizer: PreTrainedTokenizerBase, line: bool) -> str:
    text = str(tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()
    # A token may hold a line break behind other characters: it ends no answer, but the text does.
    return text.split("\n", 1)[0].strip() if line else text
