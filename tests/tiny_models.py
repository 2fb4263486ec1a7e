"""Tiny models of three families in float64, and questions of very different lengths."""

from __future__ import annotations

import functools

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.records import Example, Option

CITIES = ["Lyon", "Pune", "Lima", "Gdansk", "Ho Chi Minh City", "Ouagadougou", "San Jose", "Ur"]
COUNTRIES = ["France", "India", "Peru", "Poland", "Vietnam", "Burkina Faso", "Costa Rica", "Iraq"]


@functools.cache
def build_tokenizer() -> PreTrainedTokenizerFast:
    questions = [f"Question: In which country is {city}?" for city in CITIES]
    letters = ["Answer: A B C D E F G H I J"] * 50
    return train_tokenizer([*questions, *COUNTRIES, *letters], 320)


@functools.cache
def build_model(family: str) -> PreTrainedModel:
    """A model sharp enough that its answers differ from question to question."""
    torch.manual_seed(0)
    size = len(build_tokenizer())
    common = {
        "vocab_size": size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 160,
        "initializer_range": 0.3,
    }
    gated = {**common, "intermediate_size": 48, "num_key_value_heads": 2}
    model: PreTrainedModel
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**gated))
    elif family == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**gated))
    else:
        model = GPT2LMHeadModel(GPT2Config(bos_token_id=1, eos_token_id=2, **common))
    return model.double().eval()


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(params=["llama", "qwen2", "gpt2"])
def model(request) -> PreTrainedModel:
    return build_model(request.param)


@pytest.fixture
def llama() -> PreTrainedModel:
    return build_model("llama")


def build_choices() -> list[Example]:
    """Multiple choice with two to four options."""
    examples = []
    for i, (city, country) in enumerate(zip(CITIES, COUNTRIES, strict=True)):
        n = 2 + i % 3
        gold = i % n
        others = [name for name in COUNTRIES if name != country]
        texts = [*others[:gold], country, *others[gold : n - 1]]
        options = tuple(Option(letter, text) for letter, text in zip("ABCD", texts, strict=False))
        examples.append(
            Example(f"c{i}", "t", "test", f"In which country is {city}?", options, "ABCD"[gold])
        )
    return examples


def build_questions() -> list[Example]:
    """Open-ended questions, some with aliases."""
    return [
        Example(f"q{i}", "t", "test", f"In which country is {city}?", None, country, (city,))
        for i, (city, country) in enumerate(zip(CITIES, COUNTRIES, strict=True))
    ]


@pytest.fixture
def choices() -> list[Example]:
    return build_choices()


@pytest.fixture
def questions() -> list[Example]:
    return build_questions()
