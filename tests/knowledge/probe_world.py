"""A tiny world to probe: a model sharp enough to know something, and questions with aliases."""

from __future__ import annotations

import functools

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.knowledge import Prompt, draw_prompts
from cogcalib.records import Example, Option

CITIES = [
    "Lyon", "Pune", "Lima", "Gdansk", "Ho Chi Minh City", "Ouagadougou", "San Jose", "Ur", "Oslo",
    "Kyoto", "Turin", "Leeds",
]  # fmt: skip
COUNTRIES = [
    "France", "India", "Peru", "Poland", "Vietnam", "Burkina Faso", "Costa Rica", "Iraq", "Norway",
    "Japan", "Italy", "England",
]  # fmt: skip


def build_questions(count: int = 12) -> list[Example]:
    return [
        Example(f"q{i}", "t", "train", f"In which country is {city}?", None, country, (city, "it"))
        for i, (city, country) in enumerate(zip(CITIES[:count], COUNTRIES[:count], strict=True))
    ]


def build_choices(count: int = 6, options: int = 4) -> list[Example]:
    examples = []
    for i in range(count):
        texts = [COUNTRIES[(i + k) % 12] for k in range(options)]
        shown = tuple(Option(*pair) for pair in zip("ABCD", texts, strict=False))
        examples.append(Example(f"c{i}", "t", "train", f"Where is {CITIES[i]}?", shown, "A"))
    return examples


@functools.cache
def build_tokenizer() -> PreTrainedTokenizerFast:
    texts = [f"Question: In which country is {city}?\nAnswer:" for city in CITIES]
    letters = ["Question: Where is A\nA. B\n\nAnswer: A B C D"] * 50
    return train_tokenizer([*texts, *COUNTRIES, *letters], 330)


@functools.cache
def build_model(seed: int = 0, spread: float = 0.25) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(build_tokenizer()), hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=512, initializer_range=spread,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()


def backend_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None
) -> TransformersBackend:
    return TransformersBackend(model, tokenizer or build_tokenizer())


def build_prompts(questions: list[Example], prompts: int = 3, shots: int = 2) -> list[Prompt]:
    return list(draw_prompts(questions, {}, ["t"], prompts=prompts, shots=shots)["t"])
