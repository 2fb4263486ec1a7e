"""Tiny random models of the paper's architectures, with tokenizers of their kinds, on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

WORDS = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")
SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def byte_level(corpus: Iterable[str], start: str | None, end: str) -> PreTrainedTokenizerFast:
    """As Llama 3 and Qwen 2.5: byte-level BPE; Llama opens a text with a start token."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(WORDS, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token in (start, end) if token]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, tokenizer.token_to_id(start))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=start, eos_token=end)


def sentencepiece(corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    """As Llama 2 and Mistral: a word carries its space, what is rare falls back to bytes."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    learner.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=240, show_progress=False))
    learnt = json.loads(learner.to_str())["model"]
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learnt["vocab"]]
    tokenizer = Tokenizer(
        models.BPE(
            {word: index for index, word in enumerate(words)},
            [tuple(pair) for pair in learnt["merges"]],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = learner.pre_tokenizer
    space = decoders.Replace("\u2581", " ")
    tokenizer.decoder = decoders.Sequence(
        [space, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def save(name: str, corpus: list[str], folder: Path) -> Path:
    """The model and tokenizer that stand for one of the paper's, in a folder of their own."""
    tokenizer = {
        "meta-llama/Meta-Llama-3-8B": lambda: byte_level(corpus, "<|begin|>", "<|end|>"),
        "meta-llama/Llama-2-13b-hf": lambda: sentencepiece(corpus),
        "mistralai/Mistral-7B-v0.1": lambda: sentencepiece(corpus),
        "Qwen/Qwen2.5-7B": lambda: byte_level(corpus, None, "<|endoftext|>"),
    }[name]()
    tokens = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    size = {**SIZE, **tokens, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    model: PreTrainedModel = {
        "meta-llama/Meta-Llama-3-8B": lambda: LlamaForCausalLM(LlamaConfig(**size)),
        "meta-llama/Llama-2-13b-hf": lambda: LlamaForCausalLM(
            LlamaConfig(**{**size, "num_key_value_heads": 4})
        ),
        "mistralai/Mistral-7B-v0.1": lambda: MistralForCausalLM(
            MistralConfig(**size, sliding_window=64)
        ),
        "Qwen/Qwen2.5-7B": lambda: Qwen2ForCausalLM(Qwen2Config(**size, tie_word_embeddings=False)),
    }[name]()
    path = folder / name.rpartition("/")[2]
    model.to(torch.bfloat16).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
