"""Adapters as vLLM takes them: those that it computes as PEFT does, and no others."""

from __future__ import annotations

import os
from typing import Any

RANKS = (8, 16, 32, 64, 128, 256, 512)
"""What vLLM takes for the largest rank of an adapter."""

# PEFT's settings that change what an adapter computes and that vLLM does not read, or refuses.
_FOREIGN = (
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "lora_bias",
)


def adapter_rank(adapter: str) -> int:
    """The largest rank vLLM is to make room for, for an adapter it computes as PEFT does.

    Raises:
        ValueError: If vLLM would compute something else.
    """
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(adapter)
    kind = getattr(config.peft_type, "value", config.peft_type)
    wrong = [name for name in _FOREIGN if getattr(config, name, None)]
    if kind != "LORA" or wrong or config.bias != "none":
        what = wrong[0] if wrong else "a bias" if kind == "LORA" else f"the type {kind}"
        raise ValueError(
            f"adapter {adapter} has {what}, which vLLM does not compute as PEFT does; take worker "
            "transformers, or merge it into the model"
        )
    if config.r > RANKS[-1]:
        raise ValueError(f"adapter {adapter} has rank {config.r}, vLLM takes {RANKS[-1]} at most")
    return min(rank for rank in RANKS if rank >= config.r)


def lora_request(adapter: str) -> Any:
    """What vLLM is handed with each request to an adapter; from the hub safetensors alone."""
    from vllm.lora.request import LoRARequest

    if os.path.isdir(adapter):
        return LoRARequest("adapter", 1, adapter)
    from huggingface_hub import snapshot_download

    # Only what is safe to read: vLLM would take a pickle where there are no safetensors.
    files = ["adapter_config.json", "adapter_model.safetensors"]
    return LoRARequest("adapter", 1, snapshot_download(adapter, allow_patterns=files))
