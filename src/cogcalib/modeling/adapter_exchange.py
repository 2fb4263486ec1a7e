"""LoRA adapters on one model in memory, one in the place of the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftType

from cogcalib.modeling.adapters import check_adapter


def can_be_exchanged(adapter: str | Path) -> bool:
    """Whether an adapter leaves no trace in its model when another takes its place.

    A LoRA that trains neither biases nor whole modules; False also for what cannot be read.
    """
    try:
        config: Any = PeftConfig.from_pretrained(str(adapter))
    except (ValueError, TypeError, KeyError, OSError):
        return False
    plain = config.peft_type == PeftType.LORA and getattr(config, "bias", "none") == "none"
    return plain and not getattr(config, "modules_to_save", None)


def exchange_adapter(
    model: Any, names: dict[str, str], adapter: str | Path, base: str | Path
) -> None:
    """Put another adapter in the place of a model's, which stays in memory beside it.

    Args:
        model: A `PeftModel`.
        names: Adapter -> PEFT's name of it, of those that were there; a new one is added.
        adapter: Folder or hub id, of an adapter of `can_be_exchanged`.
        base: The model below, as `load_model` takes it.

    Raises:
        ValueError: As `check_adapter`.
    """
    name = names.get(str(adapter))
    if name is None:
        name = f"member{len(names)}"
        model.load_adapter(check_adapter(adapter, base), adapter_name=name)
        names[str(adapter)] = name
    model.set_adapter(name)
    model.eval()
    model.requires_grad_(False)
