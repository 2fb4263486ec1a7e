"""Defaults of TRL that fail or are warned of, settled before TRL and transformers come to them."""

from __future__ import annotations

import torch
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available
from trl import SFTConfig

RENAMED = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}
"""Old name of an argument -> the name that transformers 5.23 gave it; earlier ones lack these."""


def settle_defaults(args: SFTConfig) -> None:
    """Fill in what TRL's defaults would fail at or be warned of; what was given stays.

    - TRL computes in bf16 unless told otherwise, which transformers refuses where no device knows
      it and nothing says that the CPU is meant. There the training is in the weights' own format.
    - Without an accelerator there is no memory to pin, and torch warns of the default.
    - TRL asks for gradient checkpointing by a name that transformers warns of.
    """
    known = is_torch_bf16_gpu_available() or is_torch_xla_available()
    if args.bf16 is None and not args.fp16 and not args.use_cpu and not known:
        args.bf16 = False
    if not torch.accelerator.is_available():
        args.dataloader_pin_memory = False
    for old, new in RENAMED.items():
        if hasattr(args, new) and getattr(args, new) is None:
            setattr(args, new, getattr(args, old))
