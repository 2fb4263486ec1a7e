"""The specification of a model: what can be known of it without loading its weights."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cogcalib.modeling.model import load_tokenizer
from cogcalib.modeling.model_files import checked_source, resolve_model
from cogcalib.modeling.number_format import read_model_config


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model without its weights.

    Attributes:
        tokenizer: Its tokenizer.
        ends: Tokens that end its generation, by its own configuration.
        positions: Most tokens it takes, None if it names no limit.
        vocabulary: Logits at a position.
    """

    tokenizer: PreTrainedTokenizerBase
    ends: tuple[int, ...]
    positions: int | None
    vocabulary: int


def read_model_spec(path_or_id: str) -> ModelSpec:
    """Read tokenizer and configuration of a model, as loading it would.

    Raises:
        ValueError: As `cogcalib.modeling.load_tokenizer`.
    """
    tokenizer = load_tokenizer(path_or_id)
    source = resolve_model(path_or_id)
    local = os.path.isdir(source)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=local)
    try:
        generation = GenerationConfig.from_pretrained(source, local_files_only=local)
    except OSError:  # it has none of its own
        generation = GenerationConfig.from_model_config(config)
    text = config.get_text_config()
    positions: int | None = getattr(text, "max_position_embeddings", None)
    return ModelSpec(tokenizer, generation_ends(generation), positions, text.vocab_size)


def model_without_weights(path_or_id: str, revision: str | None = None) -> PreTrainedModel | None:
    """A model's modules by its config.json, on no device; None of a GGUF file.

    Raises:
        ValueError: As `cogcalib.modeling.number_format.read_model_config`.
    """
    source = resolve_model(path_or_id)
    if os.path.isfile(source):
        return None
    source = checked_source(source, "model", "config.json")
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            read_model_config(source, revision)
        )
    return model


def parameter_count(path_or_id: str, revision: str | None = None) -> int | None:
    """How many numbers a model has by its config.json, tied weights once; None of a GGUF file.

    Raises:
        ValueError: As `model_without_weights`.
    """
    model = model_without_weights(path_or_id, revision)
    return None if model is None else sum(weight.numel() for weight in model.parameters())


def generation_ends(generation: GenerationConfig | None) -> tuple[int, ...]:
    """The tokens at which a model stops to generate, as ``generate`` has it; none if not said.

    Models tuned to chat often have several: the end of the text and that of a turn.
    """
    ends = None if generation is None else generation.eos_token_id
    return tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,)
