"""The trainers' benchmarks' workload: a Llama with a tiny body and a large vocabulary, and data.

The body is small so that the head's share shows: in a step of TRL's on a CPU, which projects every
position on the vocabulary, the body takes about a twentieth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BATCH = 8
IGNORED = -100
PAD, END, KNOWN, FIRST_WORD = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Workload:
    """What is trained on what.

    Attributes:
        name: Of the case.
        adapters: LoRA on every linear layer but the head; otherwise all weights.
        prompt: Fewest and most tokens that are not supervised.
        answer: Supervised tokens.
        vocabulary: As in Llama 3.
        hidden: Width.
        layers: Number of blocks.
    """

    name: str
    adapters: bool
    prompt: tuple[int, int]
    answer: int
    vocabulary: int = 128_256
    hidden: int = 256
    layers: int = 4

    def quick(self) -> Workload:
        """The same in so small that it runs at once: it measures nothing."""
        return replace(self, prompt=(12, 16), answer=3, vocabulary=4096, hidden=32, layers=2)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("lora-short", adapters=True, prompt=(147, 167), answer=3),
        Workload("full-short", adapters=False, prompt=(147, 167), answer=3),
        Workload("lora-long", adapters=True, prompt=(24, 40), answer=480),
        Workload("full-long", adapters=False, prompt=(24, 40), answer=480),
    )
}
FOR_A_GPU = Workload("lora-1b", adapters=True, prompt=(147, 167), answer=3, hidden=2048, layers=16)
"""A body of 0.8 B parameters and the head of Llama 3; only where it is named."""
LIKE_SMOLLM2 = Workload(
    "lora-smollm2",
    adapters=True,
    prompt=(26, 36),
    answer=2,
    vocabulary=49_152,
    hidden=576,
    layers=30,
)
"""SmolLM2-135M in width, depth and vocabulary, on short questions; only where it is named."""


def make_model(workload: Workload, device: str = "cpu") -> LlamaForCausalLM:
    """A random Llama that holds `KNOWN` for the likeliest answer to everything, at about 95 %.

    So it knows the examples that have this answer and no others: the gate is open for one half.
    It is drawn on its device: a processor takes a minute for a billion numbers.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=workload.vocabulary,
        hidden_size=workload.hidden,
        intermediate_size=workload.hidden * 11 // 4,
        num_hidden_layers=workload.layers,
        num_attention_heads=workload.hidden // 16,
        num_key_value_heads=workload.hidden // 32,
        tie_word_embeddings=True,  # as in the Llamas of 1 and 3 billion parameters
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    with torch.device(device), torch.no_grad():
        model = LlamaForCausalLM(config)
        # All states share a direction; one token's logit stands out along it, by log V + 3.
        table = model.get_input_embeddings().weight
        size = 0.1
        direction = size * torch.randn(workload.hidden).sign()
        gap = np.log(workload.vocabulary) + 3
        table += direction
        table[KNOWN] = direction * (1 + gap / (workload.hidden * size))
    return model


def make_data(workload: Workload, examples: int, seed: int) -> Dataset:
    """Random tokens, supervised at the end; every other answer is one the model knows."""
    source = np.random.default_rng(seed)
    draw = partial(source.integers, FIRST_WORD, workload.vocabulary)
    shortest, longest = workload.prompt
    rows = []
    for index in range(examples):
        prompt = draw(size=source.integers(shortest, longest, endpoint=True)).tolist()
        answer = [KNOWN] * workload.answer if index % 2 else draw(size=workload.answer).tolist()
        labels = [IGNORED] * len(prompt) + answer
        rows.append({"input_ids": prompt + answer, "labels": labels})
    return Dataset.from_list(rows)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The data are tokens already: all the trainers want to know is the padding."""
    words = {"<pad>": PAD, "</s>": END}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="</s>")),
        pad_token="<pad>",
        eos_token="</s>",
    )
