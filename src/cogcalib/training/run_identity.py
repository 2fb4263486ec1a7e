"""The identity of a run: what its checkpoints say it was, and what may not change as it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from torch import nn
from torch.distributed.tensor import DTensor

from cogcalib.training.collator import EXTRA_COLUMNS, NUMBER
from cogcalib.training.config import CogCalibConfig
from cogcalib.training.packing import LENGTHS, TOKENS

Identity = dict[str, Any]

METHOD = (
    "alpha",
    "entropy_floor",
    "gamma",
    "gate_temperature",
    "margin",
    "margin_reduction",
    "nll_reduction",
    "penalty",
    "style_steps",
    "support",
    "threshold_every",
    "unit",
)
"""Arguments of ours; plain fine-tuning does not depend on them."""
BATCHES = (
    "seed",
    "data_seed",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "train_sampling_strategy",
    "dataloader_drop_last",
    "padding_free",
    "packing",
    "average_tokens_across_devices",
)
FORWARD_AND_STEP = (
    "neftune_noise_alpha",
    "bf16",
    "fp16",
    "router_aux_loss_coef",
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "optim_args",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
)
ADAPTER = ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora")
SAMPLED = 64
"""Numbers of each frozen weight that identify it."""


def run_identity(
    args: CogCalibConfig,
    model: nn.Module,
    train: Dataset,
    calibration: Dataset | None,
    n_processes: int,
    frozen: str,
) -> Identity:
    """What a training is, by name, as it stands in its checkpoints.

    Args:
        args: Settled arguments.
        model: The model.
        train: Prepared training examples.
        calibration: Prepared calibration examples, if any.
        n_processes: That train together.
        frozen: `frozen_weights` of the model before it was sharded.
    """
    given = args.to_dict()
    names = ("gate", *BATCHES, *FORWARD_AND_STEP, *(() if args.gate == "none" else METHOD))
    found: Identity = {name: given[name] for name in names if name in given}
    found["processes"] = n_processes
    found["train_dataset"] = describe(train)
    if args.gate != "none" and calibration is not None:
        found["calibration_dataset"] = describe(calibration)
    adapter = getattr(model, "active_peft_config", None)
    if adapter is not None:
        found["adapter"] = {n: getattr(adapter, n) for n in ADAPTER if hasattr(adapter, n)}
    config = getattr(model, "config", None)
    settings: Mapping[str, Any] = {} if config is None else config.to_dict()
    found["dropout"] = {name: value for name, value in settings.items() if "drop" in name}
    found["frozen weights"] = frozen
    return found


def refuse_another_run(checkpoint: str, begun: Identity, wanted: Identity) -> None:
    """Raise ValueError unless a run that goes on is the one that wrote the checkpoint.

    Args:
        checkpoint: Its folder.
        begun: What stands there; of an older version less does, and no more is compared.
        wanted: What would go on.
    """
    changed = [n for n in begun if n in wanted and begun[n] != wanted[n]]
    if changed:
        before = ", ".join(f"{name}={begun[name]!r}" for name in changed)
        now = ", ".join(f"{name}={wanted[name]!r}" for name in changed)
        raise ValueError(
            f"{checkpoint} was trained with {before}, and would go on with {now}: it would be two "
            "runs in one, its thresholds and its ledger those of both; go on with the first, or "
            "begin anew"
        )


def describe(dataset: Dataset) -> str:
    """The number of rows of a prepared data set and a hash of what reaches the loss, in order."""
    extra = [column for column in EXTRA_COLUMNS if column != NUMBER]
    columns = [c for c in (*TOKENS, LENGTHS, *extra) if c in dataset.column_names]
    digest = hashlib.blake2b(digest_size=8)
    for rows in dataset.with_format("arrow", columns=columns).iter(batch_size=10_000):
        for name in columns:
            digest.update(name.encode())
            _add(digest, rows[name].combine_chunks())
    return f"{len(dataset)} rows, hash {digest.hexdigest()}"


def frozen_weights(model: nn.Module) -> str:
    """A hash over names, shapes and some numbers of the weights that no checkpoint holds."""
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in model.named_parameters():
        # A process holds only its part of a sharded weight.
        elsewhere = isinstance(weight, DTensor) or weight.is_meta or not weight.numel()
        if weight.requires_grad or elsewhere:
            continue
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        flat = weight.detach().flatten()
        some = flat[:: max(1, len(flat) // SAMPLED)][:SAMPLED]
        digest.update(some.to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()


def _add(digest: Any, array: Any) -> None:
    """Take the values of an Arrow array into a hash, lists with their lengths."""
    while hasattr(array, "value_lengths"):
        digest.update(array.value_lengths().to_numpy(zero_copy_only=False).tobytes())
        array = array.flatten()
    numbers = pa.types.is_integer(array.type) or pa.types.is_boolean(array.type)
    if numbers and not array.null_count:
        digest.update(array.to_numpy(zero_copy_only=False).astype("int64").tobytes())
    else:
        digest.update(repr(array.to_pylist()).encode())
