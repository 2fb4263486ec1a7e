"""Tiny models and adapters with a `calibration.json`, made in process."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftConfig, get_peft_model
from tiny_models import build_tokenizer

from cogcalib.deployment.calibration_file import (
    AnswerFormat,
    Calibration,
    FittedMap,
    ModelIdentity,
    tokenizer_hash,
    write_calibration,
)
from cogcalib.modeling import fingerprint, load_tokenizer, lora_config
from cogcalib.modeling.adapters import adapter_hash, record_base

OPTIONS = (" A", " B", " C", " D")


def save_model(folder: Path, name: str = "Llama", dtype: str = "float32", **fields: Any) -> Path:
    """A random model sharp enough that its answers differ, with the tokenizer of the tests."""
    config = getattr(transformers, fields.pop("config_class", f"{name}Config"))(
        **{
            "vocab_size": len(build_tokenizer()),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 160,
            "initializer_range": 0.2,
            **fields,
        }
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def save_adapter(
    base: Path, folder: Path, config: PeftConfig | None = None, std: float = 0.2
) -> Path:
    """Random LoRA that changes the answers."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT on a tied head
        adapted = get_peft_model(model, config or lora_config(2, 4))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name or "lora_embedding_B" in name:
                torch.nn.init.normal_(weight, std=std)
        adapted.save_pretrained(folder)
    return folder


def calibration_of(
    model: Path, fitted: FittedMap | None, *, adapter: Path | None = None, **fields: Any
) -> Calibration:
    own = fingerprint(model)
    identity = ModelIdentity(
        model.name,
        own["sha256"],
        None,
        tokenizer_hash(load_tokenizer(model)),
        None if adapter is None else adapter_hash(adapter),
    )
    answers = fields.pop("answers", AnswerFormat("options", "options", options=OPTIONS))
    return Calibration(identity, answers, fitted, **fields)


def temperature(value: float) -> FittedMap:
    return FittedMap("temperature", {"temperature": value, "at_bound": False}, 300, "c.jsonl", "ab")


def save_calibrated_adapter(
    folder: Path, base: Path, fitted: FittedMap | None, config: PeftConfig | None = None
) -> Path:
    """An adapter with the `calibration.json` that belongs to it."""
    save_adapter(base, folder, config)
    record_base(folder, fingerprint(base))
    write_calibration(folder, calibration_of(base, fitted, adapter=folder))
    return folder
