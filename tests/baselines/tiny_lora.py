"""A tiny Llama with a LoRA adapter that does something, in float64, and questions for it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.modeling import lora_config
from cogcalib.records import Example, Option

CITIES = ["Lyon", "Pune", "Lima", "Gdansk", "Ho Chi Minh City", "Ouagadougou", "San Jose", "Ur"]
COUNTRIES = ["France", "India", "Peru", "Poland", "Vietnam", "Burkina Faso", "Costa Rica", "Iraq"]


@functools.cache
def build_tokenizer(letters: str = "A B C D E F G H I J") -> PreTrainedTokenizerFast:
    questions = [f"Question: In which country is {city}?" for city in CITIES]
    return train_tokenizer([*questions, *COUNTRIES, *[f"Answer: {letters}"] * 50], 320)


def build_base() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(build_tokenizer()),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=160,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).double().eval()


def build_adapted(seed: int = 0, dropout: float = 0.0, target: Any = "all-linear") -> PeftModel:
    """The same base for every seed, another adapter."""
    base = build_base()
    torch.manual_seed(seed)
    model = get_peft_model(base, lora_config(2, 4, dropout, target)).double()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def build_questions(split: str = "train") -> list[Example]:
    """Multiple choice with two to four options, of different lengths."""
    examples = []
    for i, (city, country) in enumerate(zip(CITIES, COUNTRIES, strict=True)):
        n = 2 + i % 3
        gold = i % n
        others = [name for name in COUNTRIES if name != country]
        texts = [*others[:gold], country, *others[gold : n - 1]]
        options = tuple(Option(letter, text) for letter, text in zip("ABCD", texts, strict=False))
        question = f"In which country is {city}?"
        examples.append(Example(f"{split}{i}", "t", split, question, options, "ABCD"[gold]))
    return examples


def build_open() -> Example:
    return Example("open", "t", "test", "In which country is Ur?", None, "Iraq")


def save_base(folder: Path) -> Path:
    """The base model and its tokenizer as a user would find them on disk."""
    build_base().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder
