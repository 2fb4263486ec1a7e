"""Tiny models, tokenizer and data, and a trainer over them that runs in a fraction of a second."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cogcalib.knowledge.ledger import SCHEMA, read_ledger
from cogcalib.records import Threshold
from cogcalib.training import CogCalibConfig, CogCalibTrainer
from cogcalib.training.calibration_pass import CalibrationPass
from cogcalib.training.measured_answers import MeasuredAnswers, OwnAnswers

LETTERS = [" A", " B", " C", " D"]
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<bot> "
    "{% generation %}{{ m['content'] }} </s>{% endgeneration %}"
    "{% else %}<user> {{ m['content'] }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<bot> {% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word: w0 ... w39, the letters, and the special tokens."""
    words = ["<pad>", "</s>", "<unk>", "<user>", "<bot> ", "?", "A", "B", "C", "D", "AA"]
    words += [f"w{i}" for i in range(40)]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<bot> "],
        chat_template=CHAT_TEMPLATE,
    )


SMALL: dict[str, Any] = {
    "vocab_size": 56,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def make_model(seed: int = 0, **settings: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(**SMALL, initializer_range=0.2, **settings)
    return LlamaForCausalLM(config)


def make_rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Multiple-choice questions of various lengths, every other one with a guessable answer."""
    source = random.Random(seed)
    rows = []
    for index in range(n):
        question = [f"w{source.randrange(40)}" for _ in range(source.randrange(2, 9))]
        letter = LETTERS[int(question[0][1:]) % 4] if index % 2 else source.choice(LETTERS)
        # All end in a line of the four characters with which an option is tokenised once for all.
        prompt = f"{' '.join(question)}\n   ?"
        rows.append({"prompt": prompt, "completion": letter, "options": LETTERS})
    return rows


@functools.cache
def make_data(n: int, seed: int = 0) -> Dataset:
    return Dataset.from_list(make_rows(n, seed))


def make_args(output: Path, **settings: Any) -> CogCalibConfig:
    defaults: dict[str, Any] = {
        "output_dir": str(output),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "style_steps": 0,
        "threshold_every": 1,
        "alpha": 0.3,
        "support": "vocab",
    }
    return CogCalibConfig(**{**defaults, **settings})


def make_reading(threshold: Threshold, confidence: float, accuracy: float) -> CalibrationPass:
    """A calibration pass that found these, of two questions."""
    answers = MeasuredAnswers(np.full(2, confidence), np.array([True, False]), None)
    own = OwnAnswers(np.full(2, -np.log(confidence)), np.array([1.0, 0.0]))
    return CalibrationPass(threshold, confidence, accuracy, answers, own, 1.0)


def make_trainer(
    output: Path,
    *,
    model: Any = None,
    train: Dataset | None = None,
    calibration: Dataset | str | None = "default",
    tokenizer: PreTrainedTokenizerFast | None = None,
    cut: float | None = None,
    sft_arguments: dict[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """A `CogCalibTrainer`; with `cut`, every threshold it estimates is that one."""
    trainer = CogCalibTrainer(
        make_model() if model is None else model,
        make_args(output, **settings),
        make_data(32) if train is None else train,
        make_data(24, seed=1) if isinstance(calibration, str) else calibration,
        processing_class=tokenizer or make_tokenizer(),
        **(sft_arguments or {}),
    )
    if cut is not None:
        reading = make_reading(Threshold(cut, 0.5, 0.8, 1, 1), 0.5, 0.5)
        trainer.run_calibration_pass = lambda: reading  # type: ignore[method-assign]
    return trainer


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def assert_same_weights(first: Any, second: Any, tolerance: float = 0.0) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=tolerance, atol=tolerance)


def assert_same_ledgers(first: Path, second: Path) -> None:
    """To the bit; both are output folders."""
    ours, theirs = (read_ledger(folder) for folder in (first, second))
    for name in SCHEMA.names:
        np.testing.assert_array_equal(ours[name].to_numpy(), theirs[name].to_numpy(), name)


def largest_difference(first: Any, second: Any) -> float:
    ours, theirs = weights(first), weights(second)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
