"""LoRA adapters (Hu et al. 2022, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Sequence

from peft import LoraConfig
from torch import nn
from transformers.pytorch_utils import Conv1D

from cogcalib.suggest import any_meant


def lora_config(
    rank: int,
    alpha: int,
    dropout: float = 0.0,
    target_modules: str | Sequence[str] = "all-linear",
    dora: bool = False,
    revision: str | None = None,
) -> LoraConfig:
    """A LoRA configuration for a causal language model.

    Args:
        rank: Rank of the update, at least 1.
        alpha: Numerator of the update's scale ``alpha / rank``, at least 1.
        dropout: Dropout before the update, in [0, 1).
        target_modules: Names of the adapted modules; ``all-linear`` means every linear layer but
            the output head.
        dora: Whether magnitude and direction are trained apart (Liu et al. 2024, arXiv 2402.09353).
        revision: Commit or tag of the model on the hub that is adapted, noted with the adapter.

    Raises:
        ValueError: If a number is out of its range.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    if alpha < 1:
        raise ValueError(f"alpha must be at least 1, got {alpha}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    modules = target_modules if isinstance(target_modules, str) else list(target_modules)
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=modules,
        use_dora=dora,
        revision=revision,
        task_type="CAUSAL_LM",
    )


def check_targets(model: nn.Module, targets: str | Sequence[str]) -> None:
    """Check that each name of modules to adapt is one, of a model with or without its weights.

    PEFT adapts those that it finds and passes over the others.

    Raises:
        ValueError: Naming those that are none, and what there is.
    """
    if isinstance(targets, str):
        return
    names = [name for name, _ in model.named_modules()]
    lost = [
        target
        for target in targets
        if not any(name == target or name.endswith(f".{target}") for name in names)
    ]
    if lost:
        linear = sorted(
            {
                name.rpartition(".")[2]
                for name, module in model.named_modules()
                if isinstance(module, (nn.Linear, Conv1D))
            }
        )
        raise ValueError(
            f"model.lora.targets must name modules of the model, such as {', '.join(linear)}; "
            f"got {', '.join(lost)}{any_meant(lost, linear)}"
        )
