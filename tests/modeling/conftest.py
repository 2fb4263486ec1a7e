"""Tokenizers of the kinds that real models come with, trained in process."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.records import Example, Option

CORPUS = [
    "Question: In which country is Lyon?\nA. Brazil\nB. France\nC. India\nD. Poland\nAnswer: B",
    "Question: In which country is Pune?\nA. India\nB. Peru\nC. Chile\nD. Japan\nAnswer: A",
    "Question: What is the capital of Poland?\nAnswer: Warsaw",
    "Question: Welche Stadt liegt an der Weichsel?\nAnswer: C D Kraków",
] * 3
LLAMA3 = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")


def atlas() -> PreTrainedTokenizerFast:
    """Byte-level BPE that opens with BOS."""
    return train_tokenizer(CORPUS, 340)


def gpt2() -> PreTrainedTokenizerFast:
    """Byte-level BPE without BOS; the end token is the only special one."""
    return _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


def llama3() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose words take one leading character of any kind: ``:A`` is one word."""
    split = pre_tokenizers.Split(LLAMA3, "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _byte_level(pre_tokenizers.Sequence([split, bytes_only]))


def merging() -> PreTrainedTokenizerFast:
    """Byte-level BPE over whole texts that merges the end of the prompt with `` B``."""
    merges = [("Ġ", letter) for letter in "ABCD"] + [(":", "ĠB")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<|end|>", *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def closing() -> PreTrainedTokenizerFast:
    """Set to put an end token after every text."""
    tokenizer = gpt2()
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end[0]}", special_tokens=[end]
    )
    return tokenizer


def sentencepiece() -> PreTrainedTokenizerFast:
    """As SentencePiece: a word carries its space, the text gets one in front, rare is bytes."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    learner.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=160, show_progress=False))
    learnt = json.loads(learner.to_str())["model"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["<unk>", "<s>", "</s>", *byte_tokens, *learnt["vocab"]]
    tokenizer = Tokenizer(
        models.BPE(
            {word: i for i, word in enumerate(words)},
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


def _byte_level(pre_tokenizer: object) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    f.__name__: f for f in (atlas, gpt2, llama3, merging, closing, sentencepiece)
}


@functools.cache
def build(kind: str) -> PreTrainedTokenizerFast:
    """The tokenizer of this kind, trained once."""
    return KINDS[kind]()


@pytest.fixture
def tokenizer_of() -> Callable[[str], PreTrainedTokenizerFast]:
    return build


@pytest.fixture(params=sorted(KINDS))
def tokenizer(request) -> PreTrainedTokenizerFast:
    return build(request.param)


@pytest.fixture
def choice() -> Example:
    texts = ["Brazil", "France", "India", "Poland"]
    options = tuple(Option(letter, text) for letter, text in zip("ABCD", texts, strict=True))
    return Example("lyon", "t", "test", "In which country is Lyon?", options, "B")


@pytest.fixture
def question() -> Example:
    return Example("seat", "t", "test", "What is the capital of Poland?", None, "Warsaw", ("W.",))
