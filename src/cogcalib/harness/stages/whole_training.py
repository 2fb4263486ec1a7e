"""Memory of the device against what training every weight takes."""

from __future__ import annotations

import torch

from cogcalib.harness.config import Config, Method
from cogcalib.modeling.model import chosen_device
from cogcalib.modeling.model_spec import parameter_count
from cogcalib.provenance import host_memory

FULL_BYTES = 16
"""Of a weight that is trained itself, its gradient and Adam's state, in float32."""


def check_whole_training(config: Config) -> None:
    """Raise before anything is loaded if every weight is trained, and that cannot fit.

    Raises:
        ValueError: Naming what it needs and what the device has.
    """
    trains = any(Method.parse(name).trained != "base" for name in config.methods)
    if config.model.lora is not None or not trains:
        return
    device = chosen_device()
    on_gpu = device.type == "cuda"
    available = torch.cuda.get_device_properties(device).total_memory if on_gpu else host_memory()
    needed = FULL_BYTES * (parameter_count(config.model.path, config.model.revision) or 0)
    if 0 < available < needed:
        where = torch.cuda.get_device_name(device) if on_gpu else "this machine"
        raise ValueError(
            f"model.lora is null: fine-tuning every weight of {config.model.path} takes "
            f"{needed / 1e9:,.1f} GB, and {where} has {available / 1e9:,.1f} GB; train an adapter, "
            "or on several devices in a script with CogCalibTrainer and FSDP2"
        )
